"""Whether a server, a collection that is there, and more arguments to make one will do."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from chandelier.exceptions import ArgumentError, StoreError
from chandelier.store.encoding import check_fingerprint
from chandelier.store.points.engine import LAYOUT_VERSION, Layout

__all__ = ["check_same", "check_settings", "checked_options", "is_older", "mismatch"]


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


def checked_options(
    options: Mapping[str, Any] | None, create: Callable[..., object], decided: Collection[str]
) -> Mapping[str, Any]:
    """More arguments to create a collection with: those that the client knows, and the store leaves to its user.

    Args:
        options: What the user gave.
        create: The client's method.
        decided: The arguments that the store gives, or has no use for.

    Raises:
        ArgumentError: If it is no mapping, or has another argument; it names it.
    """
    if options is None:
        return {}
    known = inspect.signature(create).parameters.values()
    wanted = [each.name for each in known if each.kind is not each.VAR_KEYWORD and each.name not in decided]
    if not isinstance(options, Mapping):
        got = type(options).__name__
        message = f"create_options: got {got}, wanted a mapping with some of {', '.join(wanted)}"
        raise ArgumentError(message, argument="create_options")
    for name in options:
        if name in decided:
            raise ArgumentError(f"create_options: got {name!r}, which the store decides", argument="create_options")
        if name not in wanted:
            message = f"create_options: got {name!r}, wanted some of {', '.join(wanted)}"
            raise ArgumentError(message, argument="create_options")
    return options


def check_same(store: str, what: str, got: object, wanted: object) -> None:
    """Refuses a collection that differs, by the name of what does."""
    if got != wanted:
        raise mismatch(store, what, repr(got), repr(wanted))


def mismatch(store: str, what: str, got: str, wanted: str) -> StoreError:
    """Of a collection that differs."""
    return StoreError(f"{store}: {what}: got {got}, wanted {wanted}; name another collection", store=store)
