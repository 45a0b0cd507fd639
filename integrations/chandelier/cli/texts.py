"""The input of the commands: text files, JSONL and standard input."""

from __future__ import annotations

import argparse
import codecs
import contextlib
import json
import re
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

STDIN = "-"
JSONL_SUFFIXES = (".jsonl", ".ndjson")


class CommandError(Exception):
    """What the command line itself finds wrong with its input or output; the message is complete."""


class Line(NamedTuple):
    """One line of the input.

    Attributes:
        file: The file it is from, ``<stdin>`` for standard input.
        number: Its number in the file, from 1.
        is_jsonl: Whether it is a line of JSONL.
        content: Its bytes, without the end.
    """

    file: str
    number: int
    is_jsonl: bool
    content: bytes

    @property
    def place(self) -> str:
        """Where it is, for a message."""
        return f"{self.file}:{self.number}"

    def parsed(self, field: str) -> tuple[str, dict[str, Any]] | None:
        """Its text, and the object of JSONL with all fields; None for a blank line of JSONL.

        Raises:
            CommandError: If it is not valid, or holds no text in `field`.
        """
        try:
            line = self.content.decode()
        except UnicodeDecodeError as error:
            where = f"byte {error.start + 1} of the line"
            raise CommandError(f"{self.place}: not valid UTF-8 at {where}; save the file as UTF-8") from None
        if not self.is_jsonl:
            return line, {}
        return _parse_object(line, self.place, field) if line.strip() else None


class Item(NamedTuple):
    """One text of the input.

    Attributes:
        text: The text.
        identity: ``{"id": ...}`` with the id of the JSONL object, whatever its type, or ``{}`` where there was none.
        file: The file it came from, ``<stdin>`` for standard input.
        line: Its line in the file, from 1.
    """

    text: str
    identity: dict[str, Any]
    file: str
    line: int


def read_items(arguments: argparse.Namespace) -> Iterator[Item]:
    """Yields the texts of the command's files, in order."""
    for line in read_lines(arguments):
        parsed = line.parsed(arguments.field)
        if parsed is not None:
            text, fields = parsed
            yield Item(text, {"id": fields["id"]} if "id" in fields else {}, line.file, line.number)


def read_lines(arguments: argparse.Namespace) -> Iterator[Line]:
    """Yields the lines of the command's files, in order, one in memory at a time.

    Only LF and CRLF end a line: the other line separators of Unicode are part of a text.
    """
    for path in arguments.files or [STDIN]:
        is_jsonl = _is_jsonl(path, arguments)
        name = "<stdin>" if path == STDIN else path
        with _open_input(path) as file:
            for number, raw in enumerate(file, 1):
                line = raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw
                if not line:
                    break  # a byte order mark and nothing else: there is no line
                if line.endswith(b"\n"):
                    line = line[:-1].removesuffix(b"\r")
                yield Line(name, number, is_jsonl, line)


def _is_jsonl(path: str, arguments: argparse.Namespace) -> bool:
    """By the format that was named, or else by the name; of standard input as the command has it."""
    if arguments.format is not None:
        return bool(arguments.format == "jsonl")
    if path == STDIN:
        return bool(getattr(arguments, "stdin_is_jsonl", False))
    return path.lower().endswith(JSONL_SUFFIXES)


def _open_input(path: str) -> contextlib.AbstractContextManager[BinaryIO]:
    if path != STDIN:
        return open(path, "rb")
    if sys.stdin is None:
        raise CommandError("standard input is closed; name a FILE to read")
    return contextlib.nullcontext(sys.stdin.buffer)


def _parse_object(line: str, place: str, field: str) -> tuple[str, dict[str, Any]]:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise CommandError(f"{place}: not valid JSON: {error.msg} at column {error.colno}") from None
    except (ValueError, RecursionError) as error:  # an integer too long to convert, or objects nested too deep
        raise CommandError(f"{place}: not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise CommandError(f"{place}: {json_type(value)}, not a JSON object with a field {field!r}")
    if field not in value:
        raise CommandError(f"{place}: {missing(field, value)}; name the field of the text with --field")
    text = value[field]
    if not isinstance(text, str):
        raise CommandError(f"{place}: field {field!r} is {json_type(text)}, not a string")
    if re.search("[\ud800-\udfff]", text):
        raise CommandError(f"{place}: field {field!r} holds a lone surrogate, which is half a character")
    return text, value


def missing(field: str, fields: dict[str, Any]) -> str:
    """Says that an object has no such field."""
    return f"no field {field!r}, only {', '.join(map(repr, fields)) or 'nothing'}"


def json_type(value: object) -> str:
    """Names the JSON type of a parsed value; bool comes before int, which it is in Python."""
    names: list[tuple[type, str]] = [
        (bool, "a boolean"),
        (int, "a number"),
        (float, "a number"),
        (str, "a string"),
        (list, "an array"),
        (dict, "an object"),
    ]
    return next((name for kind, name in names if isinstance(value, kind)), "null")
