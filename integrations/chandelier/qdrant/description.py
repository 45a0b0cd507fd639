"""A client of Qdrant in plain JSON, and back; a key is never part of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from qdrant_client import AsyncQdrantClient, QdrantClient

from chandelier.exceptions import ArgumentError, StoreError

__all__ = ["described_client", "opened_client"]

KEY = "QDRANT_API_KEY"
CLIENTS: dict[str, type[QdrantClient] | type[AsyncQdrantClient]] = {
    "QdrantClient": QdrantClient,
    "AsyncQdrantClient": AsyncQdrantClient,
}
OPTIONS = {
    "location": None,
    "url": None,
    "host": None,
    "port": 6333,
    "grpc_port": 6334,
    "prefer_grpc": False,
    "https": None,
    "prefix": None,
    "timeout": None,
    "path": None,
    "check_compatibility": True,
    "pool_size": None,
}
"""What is kept, and the client's defaults."""

IGNORED = frozenset({"api_key", "force_disable_check_same_thread", "local_inference_batch_size", "cloud_inference"})
"""What a store has no use for, or gets from elsewhere."""


def described_client(client: QdrantClient | AsyncQdrantClient) -> dict[str, Any]:
    """Where a client's server or folder is.

    Raises:
        StoreError: If it is in memory.
        ArgumentError: If it was made with what a file cannot or must not hold.
    """
    given = {name: value for name, value in client.init_options.items() if value is not None and name not in IGNORED}
    if given.get("location") == ":memory:":
        message = "client: is in memory, where nobody can open it again; give it a path, or a server"
        raise StoreError(message, store=":memory:")
    for name, value in given.items():
        if name not in OPTIONS:
            message = "is nothing for a file; make the store where it is used, and give it open"
            raise ArgumentError(f"client.{name}: {message}", argument="client")
        if name in ("url", "location") and "@" in urlsplit(value).netloc:
            message = "holds a password, which is nothing for a file; set QDRANT_API_KEY instead"
            raise ArgumentError(f"client.{name}: {message}", argument="client")
    kept = {name: given[name] for name, default in OPTIONS.items() if given.get(name, default) != default}
    return {"type": "AsyncQdrantClient" if isinstance(client, AsyncQdrantClient) else "QdrantClient", **kept}


def opened_client(description: Mapping[str, Any]) -> QdrantClient | AsyncQdrantClient:
    """The client that is described, with the key of `QDRANT_API_KEY` if there is one and it has a server."""
    if not isinstance(description, Mapping) or description.get("type") not in CLIENTS:
        message = f"store.client: got {description!r}, wanted a mapping with the type {' or '.join(CLIENTS)}"
        raise ArgumentError(message, argument="store")
    options = {name: value for name, value in description.items() if name != "type"}
    for name in options:
        if name not in OPTIONS:
            hint = f"; a key comes from {KEY}" if "key" in str(name) else ""
            message = f"unknown, wanted one of {', '.join(OPTIONS)}{hint}"
            raise ArgumentError(f"store.client.{name}: {message}", argument="store")
    if options.get("path") is not None:
        # A component is opened in one thread and runs in others.
        options["force_disable_check_same_thread"] = True
    elif os.environ.get(KEY):
        options["api_key"] = os.environ[KEY]
    return CLIENTS[description["type"]](**options)
