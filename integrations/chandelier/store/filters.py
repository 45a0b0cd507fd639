"""The filter dialect of all stores: parsed once into a small tree, which each store compiles for its engine.

A filter is a mapping, all of whose entries must hold:

    {"lang": "en", "year": {"$gte": 2020, "$lt": 2024}, "$or": [{"tags": "news"}, {"author.name": {"$in": ["x", "y"]}}]}

- A key is a field of the metadata; a dot steps into a mapping. A name that holds a dot or begins with `$` stands in
  double quotes: `'"page.number"'`.
- `{"field": value}` is short for `{"field": {"$eq": value}}`. Operators: `$eq $ne $in $nin` of str, bool, None and
  numbers; `$gt $gte $lt $lte` of numbers; `$exists`; `$not` in front of operators or of a filter; `$and` and `$or` of
  lists of filters.
- A field that holds a list passes if one of its elements does.
- Numbers are compared by value (1 equals 1.0), and True is not 1.
- None equals null only, not a missing field. A field `$exists` if it holds something: not null, not `[]`.
- `$ne`, `$nin` and `$not` pass exactly what the others do not, a missing field for instance.
- A filter has at most 10,000 conditions; the values of `$in` do not count.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal, TypeAlias

from chandelier.exceptions import ArgumentError

__all__ = [
    "And",
    "Compare",
    "Equals",
    "Exists",
    "Filter",
    "Node",
    "Not",
    "OneOf",
    "Or",
    "field_path",
    "parse",
    "passes_everything",
]

Filter: TypeAlias = Mapping[str, Any]
Scalar: TypeAlias = str | bool | int | float | None
Path: TypeAlias = tuple[str, ...]

DEEPEST = 64
MOST = 10_000
"""Conditions; SQLite's planner takes 5 seconds for as many, and the square of the time for more."""

WHOLE = 1 << 53
"""From here on a float64, in which engines compare, does not tell neighbouring integers apart."""


@dataclass(frozen=True, slots=True)
class Equals:
    """An element of the field equals a value; whole floats have become integers."""

    path: Path
    value: Scalar


@dataclass(frozen=True, slots=True)
class OneOf:
    """An element of the field equals one of some values, perhaps none."""

    path: Path
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Compare:
    """An element of the field is a number on one side of a bound."""

    path: Path
    operator: Literal["gt", "gte", "lt", "lte"]
    bound: int | float


@dataclass(frozen=True, slots=True)
class Exists:
    """The field is there, and neither null nor an empty list."""

    path: Path


@dataclass(frozen=True, slots=True)
class And:
    """All parts hold; of none, everything passes."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """One part holds."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The part does not hold."""

    part: Node


Node: TypeAlias = Equals | OneOf | Compare | Exists | And | Or | Not


def parse(filter: Filter) -> Node:
    """The tree of a filter.

    Raises:
        ArgumentError: If an operator is unknown or a value of the wrong type; it names the path to it.

    Examples:
        >>> parse({"lang": "en", "year": {"$gte": 2020}})
        And(parts=(Equals(path=('lang',), value='en'), Compare(path=('year',), operator='gte', bound=2020)))
        >>> parse({"year": {"$like": "20%"}})
        Traceback (most recent call last):
        chandelier.exceptions.ArgumentError: filter.year.$like: unknown operator, wanted one of $eq $ne $gt $gte ...
    """
    return _filter(filter, "filter", 0, count(1))


def passes_everything(node: Node, *, negated: bool = False) -> bool:
    """Whether everything passes a filter, or its negation, whatever the fields hold.

    Examples:
        >>> passes_everything(parse({"$or": [{"lang": "en"}, {"$not": {"lang": {"$in": []}}}]}))
        True
    """
    match node:
        case Not(part):
            return passes_everything(part, negated=not negated)
        case And(parts) | Or(parts):
            every = isinstance(node, And) is not negated
            return (all if every else any)(passes_everything(part, negated=negated) for part in parts)
        case OneOf(values=()):
            return negated
        case _:
            return False


def _filter(value: object, place: str, depth: int, conditions: Iterator[int]) -> Node:
    if not isinstance(value, Mapping):
        raise _error(place, f"got {type(value).__name__}, wanted a mapping of fields and operators")
    if depth == DEEPEST:
        raise _error(place[:80] + "...", f"nested deeper than {DEEPEST} levels")
    if not value:
        _count(conditions)
    parts: list[Node] = []
    for key, part in value.items():
        if not isinstance(key, str):
            raise _error(place, f"got the key {key!r}, wanted the name of a field or an operator")
        if key in ("$and", "$or"):
            if not isinstance(part, (list, tuple)) or not part:
                got = "an empty list" if isinstance(part, (list, tuple)) else type(part).__name__
                raise _error(f"{place}.{key}", f"got {got}, wanted a list of filters, at least one")
            filters = tuple(_filter(each, f"{place}.{key}[{i}]", depth + 1, conditions) for i, each in enumerate(part))
            parts.append(And(filters) if key == "$and" else Or(filters))
        elif key == "$not":
            parts.append(Not(_filter(part, f"{place}.$not", depth + 1, conditions)))
        elif key.startswith("$"):
            raise _error(f"{place}.{key}", 'unknown operator, wanted $and, $or, $not or a field (as "$name" in quotes)')
        else:
            parts.append(_field(field_path(key, place=place), part, f"{place}.{key}", depth + 1, conditions))
    return parts[0] if len(parts) == 1 else And(tuple(parts))


def _field(path: Path, value: object, place: str, depth: int, conditions: Iterator[int]) -> Node:
    if not isinstance(value, Mapping):
        _count(conditions)
        return Equals(path, _scalar(value, place))
    if not value:
        raise _error(place, "got {}, wanted a value or operators")
    if depth == DEEPEST:
        raise _error(place[:80] + "...", f"nested deeper than {DEEPEST} levels")
    parts: list[Node] = []
    for operator, operand in value.items():
        there = f"{place}.{operator}"
        if operator == "$not":
            if not isinstance(operand, Mapping):
                raise _error(there, f"got {type(operand).__name__}, wanted operators; $ne is for values")
            parts.append(Not(_field(path, operand, there, depth + 1, conditions)))
        elif operator in OPERATORS:
            _count(conditions)
            parts.append(OPERATORS[operator](path, operand, there))
        else:
            hint = "" if str(operator).startswith("$") else ", or the path of a nested field with a dot"
            raise _error(there, f"unknown operator, wanted one of {' '.join(OPERATORS)} $not{hint}")
    return parts[0] if len(parts) == 1 else And(tuple(parts))


def _count(conditions: Iterator[int]) -> None:
    if next(conditions) > MOST:
        raise _error("filter", f"got more than {MOST:,} conditions; use $in for many values of a field")


def _one_of(path: Path, value: object, place: str) -> OneOf:
    if not isinstance(value, (list, tuple, set, frozenset)):
        raise _error(place, f"got {type(value).__name__}, wanted a list of values")
    return OneOf(path, tuple(_scalar(each, f"{place}[{index}]") for index, each in enumerate(value)))


def _exists(path: Path, value: object, place: str) -> Node:
    if not isinstance(value, bool):
        raise _error(place, f"got {type(value).__name__}, wanted True or False")
    return Exists(path) if value else Not(Exists(path))


def _compare(operator: Literal["gt", "gte", "lt", "lte"]) -> Callable[[Path, object, str], Compare]:
    def build(path: Path, value: object, place: str) -> Compare:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            hint = "; store dates as seconds" if isinstance(value, str) or hasattr(value, "isoformat") else ""
            raise _error(place, f"got {type(value).__name__}, wanted a number{hint}")
        if not -WHOLE < value < WHOLE:
            raise _error(place, f"got {value}, wanted a number between -2**53 and 2**53, where all stores are exact")
        return Compare(path, operator, _number(value))

    return build


OPERATORS: dict[str, Callable[[Path, object, str], Node]] = {
    "$eq": lambda path, value, place: Equals(path, _scalar(value, place)),
    "$ne": lambda path, value, place: Not(Equals(path, _scalar(value, place))),
    "$gt": _compare("gt"),
    "$gte": _compare("gte"),
    "$lt": _compare("lt"),
    "$lte": _compare("lte"),
    "$in": _one_of,
    "$nin": lambda path, value, place: Not(_one_of(path, value, place)),
    "$exists": _exists,
}


def _scalar(value: object, place: str) -> Scalar:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        if SURROGATE.search(value):
            raise _error(place, "got a lone surrogate, wanted text that UTF-8 can hold")
        return str.__str__(value)
    if isinstance(value, float):
        if not -WHOLE < value < WHOLE:
            raise _error(place, f"got {value}, wanted a float between -2**53 and 2**53, or an integer")
        return _number(value)
    if isinstance(value, int):
        if not -(1 << 63) <= value < 1 << 63:
            raise _error(place, f"got {value}, wanted an integer of 64 bits")
        return int(value)
    hint = ", or $in for a list of them" if isinstance(value, (list, tuple, set)) else ""
    raise _error(place, f"got {type(value).__name__}, wanted a str, a number, a bool or None{hint}")


def _number(value: int | float) -> int | float:
    whole = int(value)
    return whole if whole == value else float(value)


SURROGATE = re.compile("[\ud800-\udfff]")
SEGMENT = re.compile(r'"([^"\\\x00-\x1f]+)"|([^."\\\x00-\x1f]+)')


def field_path(name: str, argument: str = "filter", place: str = "") -> Path:
    """The names of a field, from the way that it is written in a filter.

    Examples:
        >>> field_path('author."first.name"')
        ('author', 'first.name')
    """
    if SURROGATE.search(name):
        message = f"got the field {name!r} with a lone surrogate, wanted text that UTF-8 can hold"
        raise ArgumentError(f"{place or argument}: {message}", argument=argument)
    path, start = [], 0
    while match := SEGMENT.match(name, start):
        path.append(match[1] or match[2])
        start = match.end()
        if start == len(name):
            return tuple(path)
        if name[start] != ".":
            break
        start += 1
    wanted = "names with dots between, those with a dot in double quotes; no quote, backslash or control inside"
    raise ArgumentError(f"{place or argument}: got the field {name!r}, wanted {wanted}", argument=argument)


def _error(place: str, message: str) -> ArgumentError:
    printable = place.encode(errors="backslashreplace").decode()
    return ArgumentError(f"{printable}: {message}", argument="filter")
