"""What the tests of stores share; pytest's importlib mode puts no folder on the path, and `contract` is one of many."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import Result, Run

from chandelier.cli import main

sys.path.insert(0, str(Path(__file__).parent))
pytest.register_assert_rewrite("contract", "reference")


@pytest.fixture(autouse=True)
def heeds_ctrl_c() -> Iterator[None]:
    """A shell starts what it puts into the background with Ctrl-C ignored, and Python then leaves it so."""
    before = signal.getsignal(signal.SIGINT)
    if before == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in this process, with nothing in standard input."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")  # a usage error is one line

    def call(*arguments: str | os.PathLike[str]) -> Result:
        try:
            code = main([os.fspath(argument) for argument in arguments])
        except SystemExit as end:
            code = int(str(end.code))
        out, err = capfd.readouterr()
        return Result(code, out.encode(), err.encode())

    return call
