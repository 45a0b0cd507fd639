"""The filter dialect for Weaviate: what is known of a document as words, and filters over those words.

A property of Weaviate has one type and a name without dots or spaces; metadata is any JSON. So all of it is indexed as
words of one property, `filter_terms`: `["lang"]="en"`, `["year"]=2020`, `["year"]?` for a field that exists. A filter
asks for words, each of which is one bitmap of the inverted index. Numbers have a word for each prefix of their 16
hexadecimal digits (in an order-preserving form, as Lucene's numeric fields have), so that a range is a few words too.
"""

from __future__ import annotations

import hashlib
import json
import struct
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from weaviate.classes.query import Filter

from chandelier.store.filters import And, Compare, Equals, Exists, Node, Not, OneOf, Or, Scalar

__all__ = ["ALL", "FILTER_TERMS", "compiled", "terms"]

FILTER_TERMS = "filter_terms"
"""The property that holds the words."""

ALL = "*"
"""A word of every document that a store wrote, and of nothing else."""

LONGEST = 200
"""Characters of a word; of a longer one, the digest."""

DIGITS = 16
"""Of a number: 64 bits."""


def terms(metadata: Mapping[str, Any]) -> list[str]:
    """The words of a document's metadata.

    Examples:
        >>> [term for term in terms({"lang": "en", "tags": ["a", None], "gone": None}) if "#" not in term]
        ['*', '["gone"]=null', '["lang"]="en"', '["lang"]?', '["tags"]="a"', '["tags"]=null', '["tags"]?']
        >>> len(terms({"year": 2020}))  # its 16 prefixes too
        19
    """
    return sorted({ALL, *_of_fields((), metadata)})


def compiled(node: Node) -> Any:
    """A filter of `weaviate` for one of ours."""
    match node:
        case And(()):
            return _equal(ALL)
        case And(parts):
            return Filter.all_of([compiled(part) for part in parts])
        case Or(parts):
            return Filter.any_of([compiled(part) for part in parts])
        case Not(part):
            return Filter.not_(compiled(part))
        case Exists(path):
            return _equal(_exists(path))
        case Equals(path, value):
            return _equal(_is(path, value))
        case OneOf(path, values):
            return _one_of([_is(path, value) for value in values])
        case Compare(path, operator, bound):
            return _one_of([_begins(path, prefix) for prefix in _prefixes(*_range(operator, bound))])


def _of_fields(path: tuple[str, ...], fields: Mapping[str, Any]) -> Iterator[str]:
    for name, value in fields.items():
        here = (*path, name)
        if value is not None and value != []:
            yield _exists(here)
        if isinstance(value, Mapping):
            yield from _of_fields(here, value)
        for element in value if isinstance(value, list) else [value]:
            if not isinstance(element, (Mapping, list)):
                yield _is(here, element)
            if isinstance(element, (int, float)) and not isinstance(element, bool):
                number = f"{_ordered(element):0{DIGITS}x}"
                yield from (_begins(here, number[:digits]) for digits in range(1, DIGITS + 1))


def _exists(path: tuple[str, ...]) -> str:
    return _word(path, "?")


def _is(path: tuple[str, ...], value: Scalar) -> str:
    """Numbers are compared by value: 1.0 is written as 1."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return _word(path, f"={json.dumps(value)}")


def _begins(path: tuple[str, ...], prefix: str) -> str:
    return _word(path, f"#{prefix}")


def _word(path: tuple[str, ...], rest: str) -> str:
    word = json.dumps(path) + rest
    return word if len(word) <= LONGEST else "~" + hashlib.sha256(word.encode()).hexdigest()


def _ordered(number: int | float) -> int:
    """The bits of a float64, so that they compare as the numbers do."""
    (bits,) = struct.unpack(">Q", struct.pack(">d", float(number) + 0.0))  # -0.0 is 0.0
    return int(bits ^ (1 << 63) if bits < 1 << 63 else bits ^ ((1 << 64) - 1))


def _range(operator: str, bound: int | float) -> tuple[int, int]:
    """The first and the last number on one side of a bound."""
    at, largest = _ordered(bound), sys.float_info.max
    if operator in ("gt", "gte"):
        return at + (operator == "gt"), _ordered(largest)
    return _ordered(-largest), at - (operator == "lt")


def _prefixes(first: int, last: int) -> Iterator[str]:
    """Prefixes that exactly the numbers of a range have, at most 15 on each side for each digit."""
    for digits in range(DIGITS, 0, -1):
        while first <= last and (first % 16 or digits == 1):
            yield f"{first:0{digits}x}"
            first += 1
        while first <= last and last % 16 != 15:
            yield f"{last:0{digits}x}"
            last -= 1
        if first > last:
            return
        first, last = first >> 4, last >> 4


def _equal(word: str) -> Any:
    return Filter.by_property(FILTER_TERMS).equal(word)


def _one_of(words: list[str]) -> Any:
    if not words:
        return Filter.not_(_equal(ALL)) & _equal(ALL)  # nothing passes
    return Filter.by_property(FILTER_TERMS).contains_any(words)
