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


def read_items(arguments: argparse.Namespace) -> list[Item]:
    """Reads all texts of the command's files, in order."""
    items: list[Item] = []
    for path in arguments.files or [STDIN]:
        is_jsonl = path.lower().endswith(JSONL_SUFFIXES) if arguments.format is None else arguments.format == "jsonl"
        name = "<stdin>" if path == STDIN else path
        for number, line in _read_lines(path, name):
            if not is_jsonl:
                items.append(Item(line, {}, name, number))
            elif line.strip():
                text, identity = _parse_object(line, f"{name}:{number}", arguments.field)
                items.append(Item(text, identity, name, number))
    return items


def _read_lines(path: str, name: str) -> Iterator[tuple[int, str]]:
    """Yields the lines of a file without their ends, each after its number, from 1.

    Only LF and CRLF end a line: the other line separators of Unicode are part of a text.
    """
    with _open_input(path) as file:
        for number, raw in enumerate(file, 1):
            line = raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw
            if not line:
                return  # a byte order mark and nothing else: there is no line
            if line.endswith(b"\n"):
                line = line[:-1].removesuffix(b"\r")
            try:
                yield number, line.decode()
            except UnicodeDecodeError as error:
                where = f"byte {error.start + 1} of the line"
                raise CommandError(f"{name}:{number}: not valid UTF-8 at {where}; save the file as UTF-8") from None


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
        raise CommandError(f"{place}: {_json_type(value)}, not a JSON object with a field {field!r}")
    if field not in value:
        present = ", ".join(map(repr, value)) or "nothing"
        raise CommandError(f"{place}: no field {field!r}, only {present}; name the field of the text with --field")
    text = value[field]
    if not isinstance(text, str):
        raise CommandError(f"{place}: field {field!r} is {_json_type(text)}, not a string")
    if re.search("[\ud800-\udfff]", text):
        raise CommandError(f"{place}: field {field!r} holds a lone surrogate, which is half a character")
    return text, {"id": value["id"]} if "id" in value else {}


def _json_type(value: object) -> str:
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
