"""Conditions of `qdrant_edge`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from qdrant_edge import (
    FieldCondition,
    Filter,
    IsEmptyCondition,
    IsNullCondition,
    MatchAny,
    MatchValue,
    RangeFloat,
)

__all__ = ["EdgeWords"]


class EdgeWords:
    """How `qdrant_edge` builds conditions; see `Words`."""

    def all_of(self, conditions: Sequence[Any]) -> Filter:
        """A filter: all hold."""
        return Filter(must=list(conditions))

    def one_of(self, conditions: Sequence[Any]) -> Filter:
        """A filter: one holds."""
        return Filter(should=list(conditions))

    def none_of(self, conditions: Sequence[Any]) -> Filter:
        """A filter: none holds."""
        return Filter(must_not=list(conditions))

    def match(self, key: str, value: str | int | bool) -> FieldCondition:
        """An element of the field is this."""
        # The binding looks for an integer first, and takes Python's True for a 1; numpy's is no integer.
        wanted: Any = np.bool_(value) if isinstance(value, bool) else value
        return FieldCondition(key=key, match=MatchValue(wanted))

    def match_any(self, key: str, values: Sequence[str] | Sequence[int]) -> FieldCondition:
        """An element of the field is one of these."""
        return FieldCondition(key=key, match=MatchAny(list(values)))  # type: ignore[arg-type]

    def range(self, key: str, **bounds: float) -> FieldCondition:
        """An element of the field is a number between these."""
        return FieldCondition(key=key, range=RangeFloat(**bounds))

    def is_null(self, key: str) -> IsNullCondition:
        """The field holds null."""
        return IsNullCondition(key)

    def is_empty(self, key: str) -> IsEmptyCondition:
        """The field is not there, null or an empty list."""
        return IsEmptyCondition(key)
