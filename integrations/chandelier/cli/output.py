"""The output of the commands: lines for people, JSON for programs, files that are written whole."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from chandelier.cli.texts import STDIN, CommandError

__all__ = [
    "describe",
    "is_terminal",
    "one_line",
    "output_path",
    "print_json",
    "print_lines",
    "ranked",
    "show",
    "shows_color",
    "width",
    "write_whole",
]


def print_json(value: object) -> None:
    """Prints a value in one line."""
    print(json.dumps(value, ensure_ascii=False))


def print_lines(lines: Iterable[tuple[str, str]]) -> None:
    """Prints each start and its text in one line, on a terminal cut to its width."""
    columns = shutil.get_terminal_size().columns if is_terminal(sys.stdout) else None
    for start, text in lines:
        line = start + one_line(text)
        print((line if columns is None else _shorten(line, columns)).rstrip())


def ranked(scores: Sequence[float]) -> list[str]:
    """What lines of a ranking start with: ranks and scores, in columns."""
    ranks = _aligned([str(rank) for rank in range(1, len(scores) + 1)])
    cells = _aligned([f"{score:.4f}" for score in scores])
    return [f"{rank}  {score}  " for rank, score in zip(ranks, cells, strict=True)]


def _aligned(cells: list[str]) -> list[str]:
    most = max(map(len, cells), default=0)
    return [cell.rjust(most) for cell in cells]


def is_terminal(stream: Any) -> bool:
    """Whether somebody looks at it."""
    return stream is not None and stream.isatty()


def shows_color() -> bool:
    """Whether stdout takes colours, and the user wants them."""
    return is_terminal(sys.stdout) and not os.environ.get("NO_COLOR")


def describe(error: Exception) -> str:
    """Puts an error or a warning in one line, with the name of the file but without the errno."""
    message = str(error)
    if isinstance(error, OSError) and error.strerror:
        reason = error.strerror[:1].lower() + error.strerror[1:]
        message = reason if error.filename is None else f"{error.filename}: {reason}"
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+", " ", message)  # but blanks stay as many as they are in a path


def one_line(text: str) -> str:
    """Makes runs of white space and control characters one space: no text can break the line or drive the terminal."""
    return re.sub(r"[\s\x00-\x1f\x7f-\x9f]+", " ", text).strip()


def width(text: str) -> int:
    """Columns that a terminal gives a text: a CJK character takes two and a combining mark none."""
    return sum(map(_columns, text))


def _columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _shorten(text: str, columns: int) -> str:
    used = 0
    kept = 0  # how many characters leave a column for the ellipsis
    for position, character in enumerate(text, 1):
        used += _columns(character)
        if used > columns:
            return text[:kept] + "…"
        if used < columns:
            kept = position
    return text


def show(value: object) -> str:
    """Writes a value for people: strings are quoted only where their ends or characters would not be seen."""
    if isinstance(value, str):
        plain = value.isprintable() and value == value.strip() != ""
        return value if plain else json.dumps(value, ensure_ascii=False)
    if isinstance(value, Mapping):
        return " ".join(f"{name}={show(part)}" for name, part in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return " ".join(map(show, value)) or "none"
    if value is None:
        return "none"
    return json.dumps(value, default=str)


def output_path(arguments: argparse.Namespace, output: str, option: str) -> Path:
    """Where to write; finds out before the work, not after it, that the result could not be stored.

    Refuses to write over a text file that is read, or into the folder of the model.
    """
    path = Path(os.path.realpath(output))  # a link stays, the file that it names is replaced
    if path.exists() and not path.is_file():
        raise CommandError(f"{output}: not a regular file; name a file to write with {option}")
    if not path.parent.is_dir():
        raise CommandError(f"{output}: the folder {path.parent} does not exist; make it first")
    if not os.access(path.parent, os.W_OK):
        raise CommandError(f"{output}: the folder {path.parent} cannot be written to")
    for name in [arguments.model, *(name for name in arguments.files if name != STDIN)]:
        source = Path(os.path.realpath(name))
        if source == path or source in path.parents:
            raise CommandError(f"{output}: would write over {name}; name another file with {option}")
    return path


def write_whole(path: Path, text: str) -> None:
    """Writes a file whole or not at all, with the permissions that it had."""
    beside = path.with_name(f".{path.name[:100]}.{os.getpid()}.part")
    try:
        try:
            with open(beside, "x", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            if path.exists():
                shutil.copymode(path, beside)
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
