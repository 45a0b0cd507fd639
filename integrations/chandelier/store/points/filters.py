"""The filter dialect in the words of Qdrant, of its client or of the engine in process."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from chandelier.store.filters import WHOLE, And, Compare, Equals, Exists, Node, Not, OneOf, Or, Path, Scalar

__all__ = ["Words", "compiled", "key", "whole"]


class Words(Protocol):
    """How one of the two builds conditions."""

    def all_of(self, conditions: Sequence[Any]) -> Any:
        """A filter: all hold."""

    def one_of(self, conditions: Sequence[Any]) -> Any:
        """A filter: one holds."""

    def none_of(self, conditions: Sequence[Any]) -> Any:
        """A filter: none holds."""

    def match(self, key: str, value: str | int | bool) -> Any:
        """An element of the field is this."""

    def match_any(self, key: str, values: Sequence[str] | Sequence[int]) -> Any:
        """An element of the field is one of these."""

    def range(self, key: str, **bounds: float) -> Any:
        """An element of the field is a number between these."""

    def is_null(self, key: str) -> Any:
        """The field holds null."""

    def is_empty(self, key: str) -> Any:
        """The field is not there, null or an empty list."""


def key(path: Path) -> str:
    """A field of the metadata as a path of the payload.

    Examples:
        >>> key(("author", "first name"))
        'metadata.author."first name"'
    """
    names = (name if re.fullmatch("[A-Za-z0-9_-]+", name) else f'"{name}"' for name in path)
    return ".".join(("metadata", *names))


def whole(node: Node | None, filter: Any, words: Words, kinds: Mapping[str, str], *, own: bool) -> Any:
    """The filter of a request: ours, the engine's own, or with `own` the points that a store wrote; None for none."""
    conditions: list[Any] = [] if filter is None else [filter]
    if node is not None:
        conditions.append(compiled(node, words, kinds))
    if own:
        conditions.append(words.none_of([words.is_empty("doc_id")]))
    return words.all_of(conditions) if conditions else None


def compiled(node: Node, words: Words, kinds: Mapping[str, str]) -> Any:
    """A condition; `kinds` are the indexes by key, since a field with one must be asked in its own way."""
    if isinstance(node, And):
        return words.all_of([compiled(part, words, kinds) for part in node.parts])
    if isinstance(node, Or):
        return words.one_of([compiled(part, words, kinds) for part in node.parts])
    if isinstance(node, Not):
        return words.none_of([compiled(node.part, words, kinds)])
    name = key(node.path)
    if isinstance(node, Equals):
        return _equals(name, node.value, words, kinds.get(name))
    if isinstance(node, OneOf):
        return _one_of(name, node, words, kinds.get(name))
    if isinstance(node, Compare):
        return words.range(name, **{node.operator: node.bound})
    assert isinstance(node, Exists)
    return words.none_of([words.is_empty(name)])


def _equals(name: str, value: Scalar, words: Words, kind: str | None) -> Any:
    if value is None:
        return words.is_null(name)
    if isinstance(value, (str, bool)):
        return words.match(name, value)
    if isinstance(value, int) and (kind == "integer" or not -WHOLE < value < WHOLE):
        return words.match(name, value)
    # A match compares integers only; a range also finds the 1.0 that is 1, and is exact up to 2**53.
    return words.range(name, gte=value, lte=value)


def _one_of(name: str, node: OneOf, words: Words, kind: str | None) -> Any:
    texts = [value for value in node.values if isinstance(value, str)]
    rest = [value for value in node.values if not isinstance(value, str)]
    conditions = [words.match_any(name, texts)] if texts else []
    if kind == "integer":
        integers = [value for value in rest if isinstance(value, int) and not isinstance(value, bool)]
        conditions += [words.match_any(name, integers)] if integers else []
        rest = [value for value in rest if value is None or isinstance(value, (bool, float))]
    conditions += [_equals(name, value, words, kind) for value in rest]
    if not conditions:
        empty = words.is_empty(name)
        return words.all_of([empty, words.none_of([empty])])  # nothing passes
    return words.one_of(conditions)
