"""A client of Weaviate: where its server is, in plain JSON, and back; a key is never part of it.

The client says nothing of how it was made, so this is read from its private connection.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from weaviate import WeaviateAsyncClient, WeaviateClient
from weaviate.auth import AuthApiKey
from weaviate.config import AdditionalConfig, Timeout
from weaviate.connect import ConnectionParams, ProtocolParams

from chandelier.store.descriptions import error_at
from chandelier.store.points.clients import check_no_secret, check_port, described_options, undescribed
from chandelier.weaviate.server import KEY, api_key, connect

__all__ = ["checked_client", "described_client", "opened_client"]

CLIENTS: dict[str, type[WeaviateClient] | type[WeaviateAsyncClient]] = {
    "WeaviateClient": WeaviateClient,
    "WeaviateAsyncClient": WeaviateAsyncClient,
}
ENDPOINTS = ("http", "grpc")
OPTIONS = (*ENDPOINTS, "timeout", "skip_init_checks")

SECRET_MARKS = "@?#/"
"""Around what a host may hold beside itself: a user's password, a key."""


def described_client(client: WeaviateClient | WeaviateAsyncClient) -> dict[str, Any]:
    """Where a client's server is, and how long it is waited for.

    Raises:
        ArgumentError: If it was made with what a file cannot or must not hold.
    """
    connection = client._connection
    has = {
        "embedded_options": connection.embedded_db is not None,
        "auth_client_secret": not isinstance(connection._auth, (AuthApiKey, type(None))),
        "additional_headers": bool(connection.additional_headers),
        "proxies": bool(connection.get_proxies()),
        "grpc_config": getattr(connection, "_grpc_config", None) is not None,  # 4.17 has none
    }
    for name, is_there in has.items():
        if is_there:
            raise undescribed(name)
    described: dict[str, Any] = {"type": _type(client), **connection._connection_params.model_dump()}
    for name in ENDPOINTS:
        check_no_secret(described[name]["host"], f"client.{name}.host", SECRET_MARKS, KEY)
    if timeout := connection.timeout_config.model_dump(exclude_defaults=True):
        described["timeout"] = timeout
    if connection._skip_init_checks:
        described["skip_init_checks"] = True
    return described


def checked_client(description: Any) -> dict[str, Any]:
    """The options of a client that is described; nothing is opened.

    Raises:
        ArgumentError: If it is none that `described_client` writes; it names the place, and quotes no value.
    """
    place = "store.client"
    options = described_options(description, CLIENTS, OPTIONS, KEY)
    for name in ENDPOINTS:
        _check_endpoint(options.get(name), f"{place}.{name}")
    http, grpc = (options[name] for name in ENDPOINTS)
    if (http["host"], http["port"]) == (grpc["host"], grpc["port"]):
        raise error_at(f"{place}.grpc.port", f"got {grpc['port']}, which is that of http; wanted another")
    _check_timeout(options.get("timeout", {}), f"{place}.timeout")
    if not isinstance(options.get("skip_init_checks", False), bool):
        raise error_at(f"{place}.skip_init_checks", f"got {type(options['skip_init_checks']).__name__}, wanted a bool")
    return options


def opened_client(description: Mapping[str, Any]) -> WeaviateClient | WeaviateAsyncClient:
    """The client that is described, with the key of `WEAVIATE_API_KEY` if there is one; connected if it is synchronous.

    Raises:
        ArgumentError: If there is no such client.
        StoreError: If its server does not answer.
    """
    options = checked_client(description)
    client = CLIENTS[description["type"]](
        connection_params=ConnectionParams(**{name: ProtocolParams(**options[name]) for name in ENDPOINTS}),
        auth_client_secret=api_key(),
        additional_config=AdditionalConfig(timeout=Timeout(**options.get("timeout", {}))),
        skip_init_checks=options.get("skip_init_checks", False),
    )
    if isinstance(client, WeaviateClient):
        connect(client)
    return client


def _type(client: WeaviateClient | WeaviateAsyncClient) -> str:
    return "WeaviateAsyncClient" if isinstance(client, WeaviateAsyncClient) else "WeaviateClient"


def _check_endpoint(endpoint: Any, place: str) -> None:
    kinds = {"host": str, "port": int, "secure": bool}
    if not isinstance(endpoint, Mapping) or set(endpoint) != set(kinds):
        got = f"{sorted(map(str, endpoint))}" if isinstance(endpoint, Mapping) else type(endpoint).__name__
        raise error_at(place, f"got {got}, wanted a mapping with host, port and secure")
    for name, kind in kinds.items():
        if type(endpoint[name]) is not kind:
            got = type(endpoint[name]).__name__
            raise error_at(f"{place}.{name}", f"got {got}, wanted a value of type {kind.__name__}")
    if not endpoint["host"]:
        raise error_at(f"{place}.host", "is empty, wanted a name or an address")
    check_no_secret(endpoint["host"], f"{place}.host", SECRET_MARKS, KEY)
    check_port(endpoint["port"], f"{place}.port")


def _check_timeout(timeout: Any, place: str) -> None:
    names = list(Timeout.model_fields)
    if not isinstance(timeout, Mapping):
        raise error_at(place, f"got {type(timeout).__name__}, wanted a mapping of {', '.join(names)}")
    for name, value in timeout.items():
        if name not in names:
            raise error_at(f"{place}.{name}", f"unknown, wanted one of {', '.join(names)}")
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1e6:
            got = value if isinstance(value, float) else type(value).__name__
            raise error_at(f"{place}.{name}", f"got {got}, wanted seconds")
