"""What the unit tests share; pytest's importlib mode puts no folder on the path, and `damage` is one module of many."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def copy_golden(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    """Makes a writable copy of a golden checkpoint, in a folder whose name gives nothing away; gone after the test."""
    made: list[Path] = []

    def copy(golden: str) -> Path:
        made.append(tmp_path_factory.mktemp("copy"))
        source = Path(__file__).parents[1] / "goldens" / golden / "checkpoint"
        return Path(shutil.copytree(source, made[-1] / "checkpoint", copy_function=shutil.copyfile))

    yield copy
    for folder in made:
        shutil.rmtree(folder)
