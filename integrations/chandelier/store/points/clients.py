"""What the descriptions of clients share: plain JSON, and no secret in it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from chandelier.exceptions import ArgumentError
from chandelier.store.descriptions import error_at

__all__ = ["check_no_secret", "check_port", "described_options", "undescribed"]


def undescribed(name: str) -> ArgumentError:
    """Of an option of a client that a file cannot or must not hold."""
    message = f"client.{name}: is nothing for a file; make the store where it is used, and give it open"
    return ArgumentError(message, argument="client")


def described_options(description: Any, clients: Collection[str], names: Collection[str], key: str) -> dict[str, Any]:
    """The options of a client that is described, all of known names.

    Args:
        description: What a file says.
        clients: The names of the clients that there are.
        names: Of their options.
        key: The variable of the environment that holds a server's key.

    Raises:
        ArgumentError: If it is no mapping, or of no such client, or has another option; it names the place.
    """
    place = "store.client"
    if not isinstance(description, Mapping) or description.get("type") not in list(clients):
        is_mapping = isinstance(description, Mapping)
        got = f"the type {description.get('type')!r}" if is_mapping else type(description).__name__
        raise error_at(place, f"got {got}, wanted a mapping with the type {' or '.join(clients)}")
    options = {name: value for name, value in description.items() if name != "type"}
    for name in options:
        if name not in names:
            hint = f"; a key comes from {key}" if any(each in str(name) for each in ("key", "auth")) else ""
            raise error_at(f"{place}.{name}", f"unknown, wanted one of {', '.join(names)}{hint}")
    return options


def check_port(port: int, place: str) -> None:
    """Refuses what is no port."""
    if not 0 < port < 1 << 16:
        raise error_at(place, f"got {port}, wanted 1 to 65,535")


def check_no_secret(address: str, place: str, marks: str, key: str) -> None:
    """Refuses an address with one of these marks, behind or before which there may be a password or a key."""
    if any(mark in address for mark in marks):
        *others, last = map(repr, marks)
        what = f"{', '.join(others)} or {last}"
        message = f"holds {what}, and so perhaps a secret, which is nothing for a file; set {key} instead"
        raise error_at(place, message)
