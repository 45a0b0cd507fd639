"""An environment for every reranker, made by uv once and kept until what it is made of changes.

The peers on torch stand on one environment of PyLate, 5 GB on the disk, so that it is there once: a path file shows it
to them, and their own packages come first. `BENCH_PYLATE_PYTHON` names one that exists.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from harness import BUILD, HERE, ROOT

FOLDER = BUILD / "hosts" / "environments"
OVER_PYLATE: dict[str, list[str | Path]] = {
    "colbert-rerank": ["-r", HERE / "hosts-colbert-rerank-requirements.txt"],
    "rerankers": ["-r", HERE / "hosts-rerankers-requirements.txt"],
    "rerankers-newest": ["rerankers==0.10.0", "protobuf==7.36.2", "sentencepiece==0.2.3"],
    "rerankers-pylate": ["rerankers==0.10.0"],
}


class Environments:
    """What the sides run in.

    Args:
        wheel: chandelier's; None if no environment with it is wanted.
    """

    def __init__(self, wheel: Path | None = None) -> None:
        self._given = wheel
        self.uv = Path(sys.executable).with_name("uv")
        if not self.uv.exists():
            raise SystemExit(f"{self.uv} is missing: pip install -r tests/requirements.txt")
        self.pylate = Path(os.environ["BENCH_PYLATE_PYTHON"]) if "BENCH_PYLATE_PYTHON" in os.environ else None
        if self.pylate and version_of(self.pylate) != version_of(Path(sys.executable)):
            raise SystemExit(f"BENCH_PYLATE_PYTHON: wanted a Python {version_of(Path(sys.executable))}, as this one")

    def of(self, side: str) -> Path:
        """The Python of a side, its environment made now if it is not there.

        Raises:
            CalledProcessError: If uv could not make it; its `stderr` says why.
        """
        if side in OVER_PYLATE:
            return self._make(side, [*OVER_PYLATE[side], "--no-deps"], over=self.of("pylate"))
        if side == "pylate" and self.pylate:
            return self.pylate
        if side.startswith("chandelier"):
            extra = side.partition("-")[2]
            # The versions of the frameworks that the tests run with.
            pins = ROOT / "tests" / "requirements.txt"
            return self._make(side, [self.from_wheel(extra), "-c", pins], made_of=[self._wheel])
        return self._make(side, ["-r", HERE / f"hosts-{side}-requirements.txt"])

    @property
    def _wheel(self) -> Path:
        if not self._given:
            raise SystemExit("no wheel of chandelier was given to make an environment with")
        return self._given

    def from_wheel(self, extra: str) -> str:
        """chandelier with an extra, as uv takes it."""
        return f"chandelier{f'[{extra}]' if extra else ''} @ {self._wheel.resolve().as_uri()}"

    def sites(self, side: str) -> list[Path]:
        """Where a side's packages lie, its own first."""
        own = [site_packages(self.of(side))]
        return [*own, site_packages(self.of("pylate"))] if side in OVER_PYLATE else own

    def _make(
        self, name: str, requirements: list[str | Path], over: Path | None = None, made_of: Sequence[Path] = ()
    ) -> Path:
        folder = FOLDER / name
        python, stamp = folder / "bin" / "python", folder / "installed.txt"
        wanted = "\n".join([sys.version, str(over), *map(contents, [*requirements, *made_of])])
        if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
            return python
        print(f"bench: making the environment of {name}", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)
        self._run("venv", "--python", over or sys.executable, folder)
        if over:
            (site_packages(python) / "over_pylate.pth").write_text(f"{site_packages(over)}\n", encoding="utf-8")
        self._run("pip", "install", "--python", python, *requirements)
        stamp.write_text(wanted, encoding="utf-8")
        return python

    def _run(self, *arguments: str | Path) -> None:
        subprocess.run([self.uv, "--quiet", *arguments], check=True, stderr=subprocess.PIPE, text=True)


def site_packages(python: Path) -> Path:
    """Where an interpreter has its packages."""
    return Path(said_by(python, "import sysconfig; print(sysconfig.get_path('purelib'))"))


def version_of(python: Path) -> str:
    """Its version, `3.11`."""
    return said_by(python, "import sys; print(*sys.version_info[:2], sep='.')")


def said_by(python: Path, code: str) -> str:
    """What an interpreter prints."""
    return subprocess.run([python, "-c", code], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def contents(part: str | Path) -> str:
    """What a part of a command stands for: of a file its hash."""
    return hashlib.sha256(part.read_bytes()).hexdigest() if isinstance(part, Path) else part
