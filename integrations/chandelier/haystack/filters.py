"""Haystack's filters in the dialect of the stores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from haystack import Document
from haystack.errors import FilterError

from chandelier.exceptions import ArgumentError
from chandelier.store.filters import DEEPEST, parse

__all__ = ["FilterArgumentError", "translated"]

NOTHING: dict[str, Any] = {"$not": {}}
"""What no document passes."""


class FilterArgumentError(ArgumentError, FilterError):
    """A filter that is not well-formed, or that the stores cannot answer; Haystack's `FilterError` as well."""


def translated(filters: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A filter of Haystack in the dialect of `chandelier.store.filters`; None for none.

    What passes is what `haystack.utils.filters.document_matches_filter` says, a missing field being None, but for what
    the stores compare in their own way:

    - a list passes `==` and the like if one of its elements does, as in Qdrant and Elasticsearch;
    - True is not 1;
    - what is no number does not pass `>` and the like, instead of raising an error;
    - dates are texts: `==` wants the same spelling, and `>` and the like refuse them.

    Raises:
        FilterArgumentError: If the filter is not well-formed, compares dates, or asks for `id`, `content` or another
            field of the document that is no metadata.

    Examples:
        >>> translated({"field": "meta.year", "operator": ">=", "value": 2020})
        {'"year"': {'$gte': 2020}}
        >>> translated({"operator": "NOT", "conditions": [{"field": "meta.lang", "operator": "==", "value": None}]})
        {'$not': {'$and': [{'"lang"': {'$exists': False}}]}}
    """
    if filters is None or (isinstance(filters, Mapping) and not filters):
        return None
    dialect = _condition(filters, "filters", 0)
    try:
        parse(dialect)
    except ArgumentError as error:
        raise FilterArgumentError(str(error), argument="filters") from None
    return dialect


def _condition(filters: Any, place: str, depth: int) -> dict[str, Any]:
    if not isinstance(filters, Mapping):
        raise _error(place, f"got {type(filters).__name__}, wanted a mapping")
    if depth == DEEPEST:
        raise _error(place[:80] + "...", f"nested deeper than {DEEPEST} levels")
    if "field" in filters:
        return _comparison(filters, place)
    if "operator" not in filters or "conditions" not in filters:
        example = '{"field": "meta.year", "operator": ">=", "value": 2020}'
        got = f"got the keys {', '.join(map(repr, filters)) or 'none'}"
        raise _error(place, f"{got}, wanted field, operator and value, or operator and conditions: {example}")
    operator, conditions = filters["operator"], filters["conditions"]
    if operator not in ("AND", "OR", "NOT"):
        raise _error(f"{place}.operator", f"got {operator!r}, wanted 'AND', 'OR' or 'NOT'")
    if not isinstance(conditions, (list, tuple)):
        raise _error(f"{place}.conditions", f"got {type(conditions).__name__}, wanted a list")
    if not conditions:
        return {} if operator == "AND" else NOTHING
    parts = [_condition(each, f"{place}.conditions[{index}]", depth + 1) for index, each in enumerate(conditions)]
    if operator == "OR":
        return {"$or": parts}
    return {"$and": parts} if operator == "AND" else {"$not": {"$and": parts}}


def _comparison(filters: Mapping[str, Any], place: str) -> dict[str, Any]:
    for key in ("operator", "value"):
        if key not in filters:
            raise _error(place, f"has no {key}, wanted field, operator and value")
    operator, value = filters["operator"], filters["value"]
    if not isinstance(operator, str) or operator not in OPERATORS:
        raise _error(f"{place}.operator", f"got {operator!r}, wanted one of {' '.join(map(repr, OPERATORS))}")
    return OPERATORS[operator](_field(filters["field"], f"{place}.field"), value, f"{place}.value")


def _field(name: Any, place: str) -> str:
    """The field in the dialect, where each name is quoted: none is then taken for an operator."""
    if not isinstance(name, str):
        raise _error(place, f"got {type(name).__name__}, wanted a str")
    first, dot, rest = name.partition(".")
    if dot and first == "meta":
        path = rest.split(".")
    elif dot or name in {field.name for field in fields(Document)}:
        raise _error(place, f"got {name!r}, wanted a field of the metadata: meta.name")
    else:
        path = [name]  # as Haystack reads what is no field of a document
    return ".".join(f'"{part}"' for part in path)


def _equal(field: str, value: Any, _: str) -> dict[str, Any]:
    return {field: {"$exists": False}} if value is None else {field: {"$eq": value}}


def _one_of(field: str, values: Any, place: str) -> dict[str, Any]:
    if not isinstance(values, list):
        raise _error(place, f"got {type(values).__name__}, wanted a list for 'in' and 'not in'")
    among = {field: {"$in": [value for value in values if value is not None]}}
    return {"$or": [among, {field: {"$exists": False}}]} if None in values else among


def _ordered(operator: str) -> Callable[[str, Any, str], dict[str, Any]]:
    def build(field: str, value: Any, place: str) -> dict[str, Any]:
        if value is None:
            return NOTHING
        if isinstance(value, str) or hasattr(value, "isoformat"):
            hint = "dates are compared as seconds: store date.timestamp(), and give a number here"
            raise _error(place, f"got {type(value).__name__}, wanted a number; {hint}")
        return {field: {operator: value}}

    return build


OPERATORS: dict[str, Callable[[str, Any, str], dict[str, Any]]] = {
    "==": _equal,
    "!=": lambda field, value, place: {"$not": _equal(field, value, place)},
    ">": _ordered("$gt"),
    ">=": _ordered("$gte"),
    "<": _ordered("$lt"),
    "<=": _ordered("$lte"),
    "in": _one_of,
    "not in": lambda field, value, place: {"$not": _one_of(field, value, place)},
}


def _error(place: str, message: str) -> FilterArgumentError:
    return FilterArgumentError(f"{place}: {message}", argument="filters")
