"""Metadata and lists of values as the JSON that SQLite's functions look into."""

from __future__ import annotations

import json
import re
from typing import Any

__all__ = ["from_json", "to_json"]

ENCODE = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode

# SQLite cuts a text off at a NUL that JSON spells \u0000. It is written as the control character SUB and a 0, and SUB
# itself as SUB and a 1: texts stay equal or different as they were.
WRITTEN = {r"\u0000": r"\u001a0", r"\u001a": r"\u001a1"}
READ = {written: given for given, written in WRITTEN.items()}
ESCAPES = re.compile(r"\\u001a[01]|\\u0000|\\.")
"""All that a backslash begins, so that an escaped backslash and what follows it are not taken for one of ours."""


def to_json(value: Any) -> str:
    r"""JSON on which equality of texts is equality of characters: nothing is escaped that need not be.

    Examples:
        >>> to_json({"naïve": ["a\0b", 1, 1.5, None]})
        '{"naïve":["a\\u001a0b",1,1.5,null]}'
    """
    text = ENCODE(value)
    if r"\u0000" not in text and r"\u001a" not in text:
        return text
    return re.sub(r"\\u0000|\\u001a|\\.", lambda found: WRITTEN.get(found[0], found[0]), text)


def from_json(text: str) -> Any:
    r"""The value that was written.

    Examples:
        >>> from_json(to_json(["a\0b", "\x1a0", "\\u0000"])) == ["a\0b", "\x1a0", "\\u0000"]
        True
    """
    if r"\u001a" in text:
        text = ESCAPES.sub(lambda found: READ.get(found[0], found[0]), text)
    return json.loads(text)
