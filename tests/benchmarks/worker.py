"""The side of a benchmark process that is the same for chandelier and for every peer: a line protocol and the clocks.

A worker prints one JSON line when it has loaded, then answers every line on standard input with one JSON line. Those of
bench_encode.py answer

- ``documents``: encode all of them once; wall and CPU seconds
- ``one_query``: encode the queries one call at a time; milliseconds of each, and the CPU's of all
- ``rows FOLDER``: save every row as ``documents.npy`` and ``queries.npy``, for the comparison with chandelier's
- ``memory``: peak resident memory so far, in MB

Only the standard library is imported here, so that a worker can time its own imports.
"""

import json
import re
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Work:
    """What the encoders encode, in files of a folder.

    Args:
        folder: Has ``texts.json``, and ``ids.json`` from chandelier, for the peers that do not tokenise.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    @property
    def texts(self) -> dict[str, list[str]]:
        """``{"documents": [text, ...], "queries": [text, ...]}``."""
        texts: dict[str, list[str]] = json.loads((self.folder / "texts.json").read_text(encoding="utf-8"))
        return texts

    @property
    def ids(self) -> dict[str, list[dict[str, Any]]]:
        """For each text its ``ids``, how many of the first are ``attended`` to, and which rows to ``keep``."""
        ids: dict[str, list[dict[str, Any]]] = json.loads((self.folder / "ids.json").read_text(encoding="utf-8"))
        return ids

    def save_ids(self, ids: dict[str, list[dict[str, Any]]]) -> None:
        """Writes what `ids` reads."""
        (self.folder / "ids.json").write_text(json.dumps(ids), encoding="utf-8")


class Start:
    """The clocks of a fresh process, from before its imports to its first answer."""

    def __init__(self) -> None:
        self._begun, self._cpu = time.perf_counter(), time.process_time()
        self._last = self._begun
        self.took: dict[str, float] = {}

    def mark(self, step: str) -> None:
        """Notes what has passed since the step before, and since the beginning."""
        now = time.perf_counter()
        self.took[f"{step}_ms"] = (now - self._last) * 1e3
        self.took["start_ms"] = (now - self._begun) * 1e3
        self.took["start_cpu_ms"] = (time.process_time() - self._cpu) * 1e3
        self._last = now


def peak_memory_mb() -> float:
    """Peak resident memory of this process.

    ``ru_maxrss`` alone would be wrong on Linux: a process started by a large one inherits its peak across exec.
    """
    status = Path("/proc/self/status")
    if status.exists() and (found := re.search(r"VmHWM:\s+(\d+) kB", status.read_text())):
        return int(found[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024


def resident_memory_mb() -> float:
    """Resident memory of this process now; NaN where the system does not say."""
    status = Path("/proc/self/status")
    found = re.search(r"VmRSS:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return int(found[1]) / 1024 if found else float("nan")


def save_rows(folder: str, rows: dict[str, Any]) -> dict[str, Any]:
    """Answers ``rows FOLDER``."""
    import numpy as np

    for kind, found in rows.items():
        np.save(Path(folder) / f"{kind}.npy", found)
    return {}


def timed(work: Callable[[], object]) -> dict[str, float]:
    """Wall and CPU seconds (of all threads) of one call."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}


def serve(
    hello: dict[str, Any],
    documents: Callable[[], object],
    one_query: Callable[[int], object],
    n_queries: int,
    **others: Callable[[str], dict[str, Any]],
) -> None:
    """Answers commands until standard input ends.

    Args:
        hello: What the worker says first: versions, and what its start took.
        documents: Encodes all documents.
        one_query: Encodes the query of this index alone.
        n_queries: How many queries there are.
        others: Further commands by name, each taking the rest of its line.
    """

    def latencies(_: str) -> dict[str, Any]:
        milliseconds = []
        cpu = time.process_time()
        for i in range(n_queries):
            start = time.perf_counter()
            one_query(i)
            milliseconds.append((time.perf_counter() - start) * 1e3)
        return {"ms": milliseconds, "cpu_ms": (time.process_time() - cpu) * 1e3}

    commands: dict[str, Callable[[str], dict[str, Any]]] = {
        "documents": lambda _: timed(documents),
        "one_query": latencies,
        "memory": lambda _: {"mb": peak_memory_mb()},
        **others,
    }
    answer(hello, commands)


def answer(hello: dict[str, Any], commands: dict[str, Callable[[str], dict[str, Any]]]) -> None:
    """Says hello, then answers commands, each by the function of its name, until standard input ends."""
    print(json.dumps(hello), flush=True)
    for line in sys.stdin:
        name, _, argument = line.strip().partition(" ")
        print(json.dumps(commands[name](argument)), flush=True)
