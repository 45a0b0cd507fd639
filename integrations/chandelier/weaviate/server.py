"""The server of a client: where it is, the key to it, and whether it answers."""

from __future__ import annotations

import os
import re
from typing import Any

from weaviate import WeaviateAsyncClient, WeaviateClient
from weaviate.auth import Auth

from chandelier.exceptions import StoreError
from chandelier.weaviate.failures import translated

__all__ = ["KEY", "api_key", "connect", "connect_async", "ping", "unreached", "url_of"]

KEY = "WEAVIATE_API_KEY"


def url_of(client: WeaviateClient | WeaviateAsyncClient) -> str:
    """Where the client's server is, without what a host may hold beside it: a user's password, a key."""
    scheme, _, host = str(client._connection.url).partition("://")
    return f"{scheme}://{re.split('[?#]', host.rpartition('@')[2])[0]}"


def api_key() -> Any:
    """The key of the environment as the client takes it; None if there is none."""
    key = os.environ.get(KEY)
    return Auth.api_key(key) if key else None


def connect(client: WeaviateClient) -> None:
    """Connect a client, or close it and say why it cannot.

    Raises:
        StoreError: If its server does not answer, or does not let it in.
    """
    try:
        client.connect()
    except Exception as error:  # the client's, httpx's, gRPC's, builtin ones
        client.close()
        raise unreached(error, url_of(client)) from error


async def connect_async(client: WeaviateAsyncClient) -> None:
    """As `connect`."""
    try:
        await client.connect()
    except Exception as error:
        await client.close()
        raise unreached(error, url_of(client)) from error


def ping(client: WeaviateClient) -> None:
    """Ask whether gRPC answers: a connected client that has skipped its checks has asked HTTP only.

    Raises:
        StoreError: If it does not.
    """
    try:
        client._connection._ping_grpc("sync")
    except Exception as error:
        raise translated(error, url_of(client)) from error


def unreached(error: Exception, where: str) -> StoreError:
    """Our error for one of a client whose key comes from the environment."""
    ours = translated(error, where)
    if getattr(error, "status_code", None) != 401:
        return ours
    way_out = f"the key in {KEY} is not one of this server's" if api_key() else f"set {KEY}"
    return StoreError(f"{ours}; {way_out}", store=where)
