"""Payload indexes: of the fields that a store wants one, and of what kind."""

from __future__ import annotations

from collections.abc import Mapping

from chandelier.exceptions import ArgumentError, StoreError
from chandelier.store.filters import field_path
from chandelier.store.points.engine import Layout
from chandelier.store.points.filters import key

__all__ = ["index_kinds", "missing"]

KINDS = ("keyword", "integer", "float", "bool", "datetime", "uuid", "text", "geo")
OWN_INDEX = {"doc_id": "keyword"}
"""By it the documents of a store are told from the points of others."""


def index_kinds(layout: Layout) -> dict[str, str]:
    """The payload indexes that a store wants, by key."""
    kinds = dict(OWN_INDEX)
    for name, kind in layout.indexes.items():
        if not isinstance(name, str):
            raise ArgumentError(f"payload_indexes: got the key {name!r}, wanted a str", argument="payload_indexes")
        if kind not in KINDS:
            wanted = f"wanted one of {', '.join(KINDS)}"
            raise ArgumentError(f"payload_indexes[{name!r}]: got {kind!r}, {wanted}", argument="payload_indexes")
        kinds[key(field_path(name, "payload_indexes"))] = kind
    return kinds


def missing(store: str, there: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, str]:
    """The indexes that are still to be made; one that is there and of another kind is refused."""
    for name, kind in wanted.items():
        if there.get(name, kind) != kind:
            message = f"{store}: payload index of {name!r}: got {there[name]!r}, wanted {kind!r}"
            raise StoreError(f"{message}; declare it as it is", store=store)
    return {name: kind for name, kind in wanted.items() if name not in there}
