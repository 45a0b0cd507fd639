"""What every benchmark here is made of: workers that take turns, an environment for peers, the machine, the figures.

Standard library only: the process that asks stays small.
"""

import contextlib
import json
import os
import platform
import re
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BUILD = ROOT / "target" / "bench"
POOLS = ("RAYON_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
FLAGS = (
    "avx2",
    "fma",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx_vnni",
    "amx_tile",
    "amx_bf16",
    "amx_int8",
    "asimd",
    "asimddp",
    "i8mm",
    "bf16",
    "sve",
)


class Worker:
    """A process that speaks the protocol of worker.py.

    Args:
        command: What to run.
        threads: How many its libraries may use.
        errors: A file for its standard error; None for this process's own.
    """

    def __init__(self, command: Sequence[str | Path], threads: int, errors: Path | None = None) -> None:
        # Whatever pool a library starts gets the same number of threads, and no more cores to run them on.
        env = os.environ | dict.fromkeys(POOLS, str(threads))
        # Compiling every module at each start, as this variable has it, is no user's import.
        env.pop("PYTHONDONTWRITEBYTECODE", None)
        with open(errors, "w") if errors else contextlib.nullcontext() as log:
            self.process = subprocess.Popen(
                list(map(str, command)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=env,
                preexec_fn=lambda: confine(threads),
            )
        self.hello = self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"a worker ended early with status {self.process.wait()}: {self.process.args!r}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, command: str) -> dict[str, Any]:
        """Sends one command and waits for its answer."""
        assert self.process.stdin
        time.sleep(0.05)  # another side's threads may still spin for work after its last answer
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self._answer()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.communicate()  # closes standard input, which ends the worker


def environment(folder: Path, requirements: Path) -> Path:
    """Makes, once, an environment of exactly these packages (``--no-deps``); returns its Python."""
    python, stamp = folder / "bin" / "python", folder / "installed.txt"
    wanted = f"{sys.version}\n{requirements.read_text(encoding='utf-8')}"
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
        print(f"bench: installing the peers' environment, {requirements.name}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        pip: list[str | Path] = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*pip, "-r", requirements], check=True)
        stamp.write_text(wanted, encoding="utf-8")
    return python


def checkpoint(python: Path | str) -> Path:
    """Makes, once, a ColBERT of real weights, MiniLM and a projection to 128, by a Python that has them."""
    model = BUILD / "model"
    if not (model / "config_sentence_transformers.json").exists():  # what the script writes last
        goldens = ROOT / "tests" / "goldens"
        spec = goldens / "r_minilm_real" / "build_minilm.json"
        script: list[str | Path] = [python, goldens / "build_minilm.py", "--spec", spec, "--out", model]
        subprocess.run(script, check=True, stdout=sys.stderr)
    return model


def confine(threads: int) -> None:
    """Leaves this process as many cores as it may use threads."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def peak(command: str, threads: int) -> dict[str, Any]:
    """What the example ``peak`` measures: float32 operations a second of all threads, and of one processor."""
    made = subprocess.run(
        [*shlex.split(command), str(threads)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: confine(threads),
    )
    found: dict[str, Any] = json.loads(made.stdout)
    return found


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    names = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)
    listed = re.search(r"^(?:flags|Features)\s*: (.*)$", text, re.MULTILINE)
    flags = set(listed[1].split()) if listed else set()
    return {
        "cpu": names[1] if names else platform.processor() or platform.machine(),
        "cores": cores(),
        "flags": [flag for flag in FLAGS if flag in flags],
        "system": platform.platform(),
        "load": os.getloadavg() if hasattr(os, "getloadavg") else (),
    }


def cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def refuse_debug(build: dict[str, Any]) -> None:
    """Ends the run for an unoptimised build: its figures say nothing."""
    if build.get("profile") in ("debug", "dev") or build.get("debug_assertions") is True:
        raise SystemExit(f"chandelier is a debug build ({build}): build it with --release to measure it")


def spread(values: list[float]) -> str:
    """Median (lowest-highest), to three significant digits."""
    return f"{three(statistics.median(values))} ({three(min(values))}-{three(max(values))})"


def three(value: float) -> str:
    """Three significant digits, without an exponent."""
    digits = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 4
    return f"{value:.{digits}f}"
