"""Whether a server and a collection that are there will do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from chandelier.exceptions import StoreError
from chandelier.store.encoding import check_fingerprint
from chandelier.store.points.engine import LAYOUT_VERSION, Layout

__all__ = ["check_same", "check_settings", "is_older", "mismatch"]


def is_older(version: str, oldest: tuple[int, int]) -> bool:
    """Whether a server is too old, or does not say its version.

    Examples:
        >>> is_older("1.9.4", (1, 33)), is_older("1.33.0-rc.1", (1, 33)), is_older("latest", (1, 33))
        (True, False, True)
    """
    numbers = re.match(r"(\d+)\.(\d+)", version)
    return numbers is None or tuple(map(int, numbers.groups())) < oldest


def check_settings(store: str, kept: Mapping[str, Any], layout: Layout) -> None:
    """Refuses a collection that a store of other encoders wrote; an engine asks before it looks closer."""
    if kept.get("layout") != LAYOUT_VERSION:
        raise StoreError(f"{store}: layout version {kept.get('layout')}, wanted {LAYOUT_VERSION}", store=store)
    for key, what in (("model", "model"), ("prefetch", "prefetch"), ("sparse", "sparse encoder")):
        check_fingerprint(store, what, kept.get(key), layout.settings.get(key))


def check_same(store: str, what: str, got: object, wanted: object) -> None:
    """Refuses a collection that differs, by the name of what does."""
    if got != wanted:
        raise mismatch(store, what, repr(got), repr(wanted))


def mismatch(store: str, what: str, got: str, wanted: str) -> StoreError:
    """Of a collection that differs."""
    return StoreError(f"{store}: {what}: got {got}, wanted {wanted}; name another collection", store=store)
