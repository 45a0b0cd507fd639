"""A client of Qdrant in plain JSON, and back; a key is never part of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from qdrant_client import AsyncQdrantClient, QdrantClient

from chandelier.exceptions import StoreError
from chandelier.multivectors import checked_path
from chandelier.store.descriptions import error_at
from chandelier.store.points.clients import check_no_secret, check_port, described_options, undescribed

__all__ = ["checked_client", "described_client", "opened_client"]

KEY = "QDRANT_API_KEY"
CLIENTS: dict[str, type[QdrantClient] | type[AsyncQdrantClient]] = {
    "QdrantClient": QdrantClient,
    "AsyncQdrantClient": AsyncQdrantClient,
}
OPTIONS: dict[str, tuple[Any, Any]] = {
    "location": (str, None),
    "url": (str, None),
    "host": (str, None),
    "port": (int, 6333),
    "grpc_port": (int, 6334),
    "prefer_grpc": (bool, False),
    "https": (bool, None),
    "prefix": (str, None),
    "timeout": (int | float, None),
    "path": (str, None),
    "check_compatibility": (bool, True),
    "pool_size": (int, None),
}
"""What is kept, of what type it is, and the client's default."""

IGNORED = frozenset({"api_key", "force_disable_check_same_thread", "local_inference_batch_size", "cloud_inference"})
"""What a store has no use for, or gets from elsewhere."""


def described_client(client: QdrantClient | AsyncQdrantClient) -> dict[str, Any]:
    """Where a client's server or folder is; a folder from the root on.

    Raises:
        StoreError: If it is in memory.
        ArgumentError: If it was made with what a file cannot or must not hold.
    """
    given = {name: value for name, value in client.init_options.items() if name not in IGNORED}
    if given.get("location") == ":memory:":
        message = "client: is in memory, where nobody can open it again; give it a path, or a server"
        raise StoreError(message, store=":memory:")
    for name, value in given.items():
        if name not in OPTIONS and value is not None:
            raise undescribed(name)
    kept = {name: given[name] for name, (_, default) in OPTIONS.items() if given.get(name, default) != default}
    _check_no_secret(kept, "client")
    if "path" in kept:
        kept["path"] = os.path.abspath(kept["path"])
    return {"type": "AsyncQdrantClient" if isinstance(client, AsyncQdrantClient) else "QdrantClient", **kept}


def checked_client(description: Any) -> dict[str, Any]:
    """The options of a client that is described; nothing is opened.

    Raises:
        ArgumentError: If it is none that `described_client` writes; it names the place, and quotes no value.
    """
    options = described_options(description, CLIENTS, OPTIONS, KEY)
    for name, value in options.items():
        place = f"store.client.{name}"
        kind = OPTIONS[name][0]
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool) is not (kind is bool)):
            wanted = "a number" if name == "timeout" else f"a value of type {kind.__name__}"
            raise error_at(place, f"got {type(value).__name__}, wanted {wanted}")
        if name.endswith("port") and value is not None:
            check_port(value, place)
    if options.get("path") is not None:
        options["path"] = checked_path("store.client.path", options["path"])
    if options.get("location") == ":memory:":
        raise error_at("store.client.location", "got ':memory:', where nothing stays; wanted a server, or a path")
    _check_no_secret(options, "store.client")
    return options


def opened_client(description: Mapping[str, Any]) -> QdrantClient | AsyncQdrantClient:
    """The client that is described, with the key of `QDRANT_API_KEY` if there is one and it has a server.

    Raises:
        ArgumentError: If there is no such client.
        StoreError: If its folder cannot be opened.
    """
    options = checked_client(description)
    folder = options.get("path")
    if folder is not None:
        # A component is opened in one thread and runs in others.
        options["force_disable_check_same_thread"] = True
    elif os.environ.get(KEY):
        options["api_key"] = os.environ[KEY]
    try:
        return CLIENTS[description["type"]](**options)
    except Exception as error:  # urllib3's, builtin ones, those of the folder's files
        if folder is not None:
            raise StoreError(f"{folder}: cannot be opened: {error}", store=folder) from error
        raise error_at("store.client", f"is none that can be made: {error}") from error


def _check_no_secret(options: Mapping[str, Any], place: str) -> None:
    """Refuses what may hold a password or a key: the user of an address, and all behind its path."""
    for name in ("url", "location", "host", "prefix"):
        check_no_secret(options.get(name) or "", f"{place}.{name}", "@?#", KEY)
