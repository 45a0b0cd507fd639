"""Fields of the metadata as properties of Weaviate's own: for its filters, its aggregations, other programs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from weaviate.classes.config import DataType, Property, Tokenization

from chandelier.exceptions import ArgumentError
from chandelier.store.filters import WHOLE

__all__ = ["KINDS", "RESERVED", "checked_properties", "declared", "guessed", "kind_of", "native"]

KINDS = {
    "text": DataType.TEXT,
    "int": DataType.INT,
    "number": DataType.NUMBER,
    "boolean": DataType.BOOL,
    "text[]": DataType.TEXT_ARRAY,
    "int[]": DataType.INT_ARRAY,
    "number[]": DataType.NUMBER_ARRAY,
    "boolean[]": DataType.BOOL_ARRAY,
}

RESERVED = frozenset({"doc_id", "text", "metadata", "filter_terms", "row_count", "id", "_id", "_additional", "vector"})
"""What a store has its own properties for, and what Weaviate or its client keep."""

MOST_GUESSED = 100
"""Each is declared by itself, in some 20 milliseconds, and has indexes of its own."""

NAME = re.compile("[_a-z][_0-9A-Za-z]{0,230}")
"""Weaviate makes a capital at the beginning small, and says nothing."""


def checked_properties(properties: Mapping[str, str] | str | None) -> dict[str, str] | None:
    """The kinds of the fields that are declared; None for those of the first documents."""
    if properties is None:
        return {}
    if isinstance(properties, str) and properties == "auto":
        return None
    if not isinstance(properties, Mapping):
        got = repr(properties) if isinstance(properties, str) else type(properties).__name__
        raise _error("properties", f"got {got}, wanted a mapping of fields to kinds, or 'auto'")
    for name, kind in properties.items():
        if not isinstance(name, str) or not NAME.fullmatch(name):
            wanted = "a small letter or _, then letters, digits and _: Weaviate refuses or changes other names"
            raise _error("properties", f"got the field {name!r}, wanted {wanted}")
        if name in RESERVED:
            raise _error(f"properties[{name!r}]", "is a name that the store or Weaviate uses itself; name it otherwise")
        if not isinstance(kind, str) or kind not in KINDS:
            raise _error(f"properties[{name!r}]", f"got {kind!r}, wanted one of {', '.join(KINDS)}")
    return dict(properties)


def declared(name: str, kind: str) -> Property:
    """The property of a field: whole texts are compared, not their words."""
    options: dict[str, Any] = {"tokenization": Tokenization.FIELD} if kind.startswith("text") else {}
    return Property(name=name, data_type=KINDS[kind], index_filterable=True, **options)


def guessed(documents: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The kinds of the fields of documents: the first that can be properties, and hold values of one kind.

    Examples:
        >>> guessed([{"lang": "en", "year": 2020, "id": "a"}, {"year": 2020.5, "tags": ["a"], "mixed": [1, "a"]}])
        {'lang': 'text', 'year': 'number', 'tags': 'text[]'}
    """
    found: dict[str, set[str | None]] = {}
    for metadata in documents:
        for name, value in metadata.items():
            if value is not None and value != [] and NAME.fullmatch(name) and name not in RESERVED:
                found.setdefault(name, set()).add(kind_of(value))
    kinds = {}
    for name, values in found.items():
        for number, integer in (("number", "int"), ("number[]", "int[]")):
            if values == {number, integer}:
                values = {number}
        (kind,) = values if len(values) == 1 else (None,)
        if kind is not None:
            kinds[name] = kind
    return dict(islice(kinds.items(), MOST_GUESSED))


def kind_of(value: Any) -> str | None:
    """The kind of a property that holds this value; None if there is none."""
    if isinstance(value, list):
        kinds = {kind_of(each) for each in value}
        if kinds == {"int", "number"}:
            kinds = {"number"}
        (kind,) = kinds if len(kinds) == 1 else (None,)
        return f"{kind}[]" if kind is not None and not kind.endswith("[]") else None
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "int" if -WHOLE <= value <= WHOLE else None  # the client sends a float64
    return "number" if isinstance(value, float) else "text" if isinstance(value, str) else None


def native(metadata: Mapping[str, Any], kinds: Mapping[str, str], required: Iterable[str]) -> dict[str, Any]:
    """The values of the properties; a value of another kind is left out, or refused where its field is required.

    The client takes the first number of a list for what all of them are.

    Raises:
        ArgumentError: If it is; it names the field.
    """
    values = {}
    for name, kind in kinds.items():
        value = metadata.get(name)
        if value is None or value == []:
            continue
        got = kind_of(value)
        if got == kind or (got, kind) in (("int", "number"), ("int[]", "number[]")):
            values[name] = list(map(float, value)) if kind == "number[]" else value
        elif name in required:
            what = f"got {value!r:.80}" if got is None else f"got {got}"
            raise ArgumentError(
                f"metadata[{name!r}]: {what}, wanted {kind}, as the store declares", argument="metadata"
            )
    return values


def _error(place: str, message: str) -> ArgumentError:
    return ArgumentError(f"{place}: {message}", argument="properties")
