"""Runs ``chandelier`` as users run it: a process of its own, bytes in and bytes out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any


def command(*arguments: str | os.PathLike[str]) -> list[str]:
    return [sys.executable, "-m", "chandelier", *(os.fspath(argument) for argument in arguments)]


class Result:
    """What a finished command left: its exit code, and its output as UTF-8."""

    def __init__(self, code: int, stdout: bytes, stderr: bytes) -> None:
        self.code = code
        self.out = stdout.decode()
        self.err = stderr.decode()

    def rows(self) -> list[Any]:
        return [json.loads(line) for line in self.out.split("\n")[:-1]]

    def check_error(self, *parts: str) -> None:
        """Asserts the form of every failure: code 1, nothing on stdout, one line on stderr, with these parts."""
        assert (self.code, self.out) == (1, ""), self.err
        assert self.err.startswith("chandelier: error: ")
        assert self.err.count("\n") == 1
        for part in parts:
            assert part in self.err

    def check_usage_error(self, *parts: str) -> None:
        assert (self.code, self.out) == (2, ""), self.err
        assert self.err.startswith("usage: chandelier")
        for part in parts:
            assert part in self.err


Run = Callable[..., Result]


def run_in(folder: Path) -> Run:
    """Runs commands in a folder, with standard input from bytes."""

    def run(*arguments: str | os.PathLike[str], stdin: bytes = b"", env: dict[str, str] | None = None) -> Result:
        environment = {**os.environ, **(env or {})}
        done = subprocess.run(
            command(*arguments), input=stdin, capture_output=True, cwd=folder, env=environment, timeout=60
        )
        return Result(done.returncode, done.stdout, done.stderr)

    return run


def lines(texts: Iterable[str]) -> bytes:
    return "".join(f"{text}\n" for text in texts).encode()


def jsonl(objects: Iterable[object]) -> bytes:
    return lines(json.dumps(value, ensure_ascii=False) for value in objects)


def read_terminal(terminal: int) -> bytes:
    """All that is written to the other side of a pseudo-terminal, which is closed then."""
    output = b""
    while True:
        try:
            chunk = os.read(terminal, 4096)
        except OSError:  # Linux: the other side is closed
            chunk = b""
        if not chunk:
            os.close(terminal)
            return output
        output += chunk
