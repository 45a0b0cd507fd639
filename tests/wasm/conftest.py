"""The npm package of `make wasm` in a real Node."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import npm_package
import pytest
from missing import missing

sys.path.insert(0, str(Path(__file__).parent))  # pytest's importlib mode puts no folder on the path
from javascript import Node


@pytest.fixture(scope="session")
def package() -> Path:
    """The built package."""
    return npm_package.built("nodejs")


@pytest.fixture(scope="module")
def node(package: Path) -> Iterator[Node]:
    """A process for the tests of a file."""
    program = shutil.which("node") or missing("no Node on the PATH: apt-get install nodejs")
    with Node(program, package) as node:
        yield node
