"""Conditions of `qdrant_client`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qdrant_client import models

__all__ = ["ClientWords"]


class ClientWords:
    """How `qdrant_client` builds conditions; see `Words`."""

    def all_of(self, conditions: Sequence[Any]) -> models.Filter:
        """A filter: all hold."""
        return models.Filter(must=list(conditions))

    def one_of(self, conditions: Sequence[Any]) -> models.Filter:
        """A filter: one holds."""
        return models.Filter(should=list(conditions))

    def none_of(self, conditions: Sequence[Any]) -> models.Filter:
        """A filter: none holds."""
        return models.Filter(must_not=list(conditions))

    def match(self, key: str, value: str | int | bool) -> models.FieldCondition:
        """An element of the field is this."""
        return models.FieldCondition(key=key, match=models.MatchValue(value=value))

    def match_any(self, key: str, values: Sequence[str] | Sequence[int]) -> models.FieldCondition:
        """An element of the field is one of these."""
        return models.FieldCondition(key=key, match=models.MatchAny(any=list(values)))  # type: ignore[arg-type]

    def range(self, key: str, **bounds: float) -> models.FieldCondition:
        """An element of the field is a number between these."""
        return models.FieldCondition(key=key, range=models.Range(**bounds))

    def is_null(self, key: str) -> models.IsNullCondition:
        """The field holds null."""
        return models.IsNullCondition(is_null=models.PayloadField(key=key))

    def is_empty(self, key: str) -> models.IsEmptyCondition:
        """The field is not there, null or an empty list."""
        return models.IsEmptyCondition(is_empty=models.PayloadField(key=key))
