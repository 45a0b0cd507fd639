"""The side of a maths benchmark process that is the same for chandelier and for every peer.

A side is a function that takes the `Data` and gives its forms: for each group the calls that do that group's work. The
worker says which it has, then answers, each with one line of JSON:

- ``check [group, form]``: does it once, and compares with the float64 reference
- ``time [group, form, seconds]``: does it again and again; wall and CPU seconds of a call
- ``memory [group, form]``: does it once, and says how much memory that took at its peak
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from maths_cases import QUICK, Data, Sizes
from worker import answer


class Form(NamedTuple):
    """One way to do a group's work: what is timed, and what makes comparable arrays of its result."""

    work: Callable[[], Any]
    arrays: Callable[[Any], tuple[Any, ...]] = lambda scores: (scores,)


Forms = dict[str, dict[str, Form]]
"""Group, name of the form, form."""

Side = Callable[[Data, Path], tuple[dict[str, Any], Forms]]
"""Takes the data, and a folder that has some of it in files; gives what to say first, and the forms."""


def worst_gap(found: tuple[Any, ...], wanted: tuple[Any, ...]) -> float:
    """The largest difference between arrays, as a share of the largest value there; infinite if they do not fit."""
    import numpy as np

    if [np.shape(array) for array in found] != [np.shape(array) for array in wanted]:
        return float("inf")
    gaps = [
        np.abs(np.asarray(ours, np.float64) - theirs).max(initial=0) / max(np.abs(theirs).max(initial=0), 1e-30)
        for ours, theirs in zip(found, wanted, strict=True)
    ]
    return float("inf") if np.isnan(gaps).any() else float(max(gaps))


def _memory() -> dict[str, float]:
    """Resident memory in MB: now (VmRSS), at its peak (VmHWM), and how much of it now is mapped files (RssFile)."""
    found = re.findall(r"^(VmRSS|VmHWM|RssFile):\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return {name: int(kilobytes) / 1024 for name, kilobytes in found}


def serve(sides: dict[str, Side]) -> None:
    """Runs the side that the command line names as a worker."""
    parser = argparse.ArgumentParser(description="a side of bench_maths.py, which starts it")
    parser.add_argument("side", choices=sides)
    parser.add_argument("files", type=Path, help="the folder that maths_references.py filled")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    references = args.files / "references.npz"
    try:
        hello, forms = sides[args.side](Data(QUICK if args.quick else Sizes()), args.files)
    except ImportError as error:
        answer({"absent": str(error)}, {})
        return

    def check(argument: str) -> dict[str, Any]:
        import numpy as np

        group, name = json.loads(argument)
        form = forms[group][name]
        found = form.arrays(form.work())
        with np.load(references) as file:
            wanted = tuple(file[f"{group}.{i}"] for i in range(len(found)) if f"{group}.{i}" in file)
        return {"gap": worst_gap(found, wanted) if wanted else None}

    def clock(argument: str) -> dict[str, Any]:
        group, name, seconds = json.loads(argument)
        work, walls = forms[group][name].work, list[float]()
        begin, cpu = time.perf_counter(), time.process_time()
        while not walls or time.perf_counter() - begin < seconds:
            start = time.perf_counter()
            work()
            walls.append(time.perf_counter() - start)
        return {"wall_s": median(walls), "cpu_s": (time.process_time() - cpu) / len(walls), "calls": len(walls)}

    def memory(argument: str) -> dict[str, Any]:
        group, name = json.loads(argument)
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before = _memory()
        forms[group][name].work()
        after = _memory()
        peak, mapped = after["VmHWM"] - before["VmRSS"], after["RssFile"] - before["RssFile"]
        return {"peak_mb": peak, "mapped_mb": mapped, "own_mb": peak - mapped}

    names = {group: list(of_group) for group, of_group in forms.items()}
    answer({**hello, "forms": names}, {"check": check, "time": clock, "memory": memory})
