"""How much memory there is to take."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

__all__ = ["available"]


def available(system: Path = Path("/")) -> int | None:
    """Bytes that may be taken without anything being swapped out or killed; None if the system does not say.

    What Linux calls available, or less where a control group (a container) has a limit.
    """
    found = re.search(r"^MemAvailable:\s+(\d+) kB", _read(system / "proc/meminfo"), re.MULTILINE)
    if found is None:
        return None
    return min([int(found[1]) << 10, *_left_in_groups(system)])


def _left_in_groups(system: Path) -> Iterator[int]:
    """What each limit leaves, from the process's own control group upwards. Cached files make room."""
    for line in _read(system / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":  # version 2
            root, most, used, kind = system / "sys/fs/cgroup", "memory.max", "memory.current", ""
        elif "memory" in controllers.split(","):
            root, most, used = system / "sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            kind = "total_"
        else:
            continue
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):
            limit, usage = _read(folder / most), _read(folder / used)
            if limit.strip().isdecimal() and usage.strip().isdecimal():
                files = re.findall(rf"^{kind}(?:in)?active_file (\d+)", _read(folder / "memory.stat"), re.MULTILINE)
                yield max(0, int(limit) - int(usage) + sum(map(int, files)))
            if folder == root:
                break


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
