"""What stores are compared with: the filter dialect in plain Python, and MaxSim in float64."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from chandelier import Document

MISSING = object()

ORDERS: dict[str, Callable[[float, float], bool]] = {
    "$gt": lambda value, bound: value > bound,
    "$gte": lambda value, bound: value >= bound,
    "$lt": lambda value, bound: value < bound,
    "$lte": lambda value, bound: value <= bound,
}


def passes(metadata: Mapping[str, Any], filter: Mapping[str, Any]) -> bool:
    """Whether metadata passes a filter, from the rules of `chandelier.store.filters` and none of its code."""
    return all(_entry(metadata, key, value) for key, value in filter.items())


def _entry(metadata: Mapping[str, Any], key: str, value: Any) -> bool:
    if key == "$and":
        return all(passes(metadata, part) for part in value)
    if key == "$or":
        return any(passes(metadata, part) for part in value)
    if key == "$not":
        return not passes(metadata, value)
    return _operators(_value_of(metadata, key), value if isinstance(value, Mapping) else {"$eq": value})


def _value_of(metadata: Mapping[str, Any], key: str) -> Any:
    value: Any = metadata
    for quoted, plain in re.findall(r'"([^"]+)"|([^."]+)', key):
        name = quoted or plain
        if not isinstance(value, Mapping) or name not in value:
            return MISSING
        value = value[name]
    return value


def _operators(value: Any, operators: Mapping[str, Any]) -> bool:
    elements = [] if value is MISSING else value if isinstance(value, list) else [value]
    for operator, operand in operators.items():
        if operator == "$not":
            held = not _operators(value, operand)
        elif operator == "$exists":
            held = (value is not MISSING and value is not None and value != []) is operand
        elif operator in ORDERS:
            held = any(_is_number(each) and ORDERS[operator](each, operand) for each in elements)
        else:
            wanted = operand if operator in ("$in", "$nin") else [operand]
            held = any(_equal(each, one) for each in elements for one in wanted)
            held = held is not (operator in ("$ne", "$nin"))
        if not held:
            return False
    return True


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _equal(value: Any, wanted: Any) -> bool:
    if _is_number(value) and _is_number(wanted):
        return bool(value == wanted)
    return type(value) is type(wanted) and isinstance(value, (str, bool, type(None))) and value == wanted


def unit_rows(rng: np.random.Generator, tokens: int, dim: int) -> npt.NDArray[np.float32]:
    """Random directions, `(tokens, dim)`."""
    rows = rng.standard_normal((tokens, dim))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows.astype(np.float32)


def random_documents(count: int, dim: int, seed: int = 0) -> list[Document]:
    """Documents of 1 to 12 random rows, which nobody has to encode."""
    rng = np.random.default_rng(seed)
    return [
        Document(f"doc-{i}", f"text {i}", {"i": i, "even": i % 2 == 0}, unit_rows(rng, int(rng.integers(1, 13)), dim))
        for i in range(count)
    ]


def maxsim64(query: npt.NDArray[Any], rows: npt.ArrayLike, datatype: str) -> float:
    """MaxSim in float64 of rows that were stored in a datatype."""
    stored = np.asarray(rows).astype(datatype).astype(np.float64)
    return float((query.astype(np.float64) @ stored.T).max(axis=1).sum())


def best(query: npt.NDArray[Any], documents: Iterable[Document], k: int, datatype: str) -> list[tuple[str, float]]:
    """Ids and scores of the best `k`, the earlier first of equals."""
    scored = [(each.id, maxsim64(query, each.vectors, datatype)) for each in documents if len(np.asarray(each.vectors))]
    return sorted(scored, key=lambda each: -each[1])[:k]


def ids(found: Iterable[Any]) -> list[str]:
    """The ids of documents or hits."""
    return [each.id for each in found]


def same_metadata(given: Any, came: Any) -> bool:
    """Equality that tells 1, 1.0 and True apart."""
    if isinstance(given, Mapping):
        return (
            isinstance(came, dict)
            and given.keys() == came.keys()
            and all(same_metadata(given[key], came[key]) for key in given)
        )
    if isinstance(given, Sequence) and not isinstance(given, str):
        return isinstance(came, list) and len(given) == len(came) and all(map(same_metadata, given, came))
    return type(given) is type(came) and bool(given == came)
