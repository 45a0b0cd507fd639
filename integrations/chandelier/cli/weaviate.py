"""A Weaviate server that a command names."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from chandelier.cli.commands import open_model
from chandelier.cli.texts import CommandError

if TYPE_CHECKING:
    from weaviate import WeaviateClient

    from chandelier.store import Store

__all__ = ["weaviate_store"]

CLOUDS = (".weaviate.cloud", ".weaviate.network")
"""Whose gRPC is on a host of its own, which the client knows."""

GRPC_PORT = 50051
"""Where a Weaviate has gRPC unless it is told otherwise."""

SECONDS_TO_CONNECT = 10


@contextmanager
def weaviate_store(arguments: argparse.Namespace, to_search: bool, options: dict[str, Any]) -> Iterator[Store]:
    """The store in a collection, or of a tenant in one; one that is searched must be there."""
    try:
        from chandelier.weaviate import WeaviateStore
        from chandelier.weaviate.layout import checked_name
    except ModuleNotFoundError as error:
        if error.name != "weaviate":
            raise
        raise CommandError(str(error)) from None
    collection = checked_name(arguments.collection)
    with closing(_client(arguments)) as client:
        _check_grpc(client, arguments)
        config = _config(client, arguments, to_search)
        store = WeaviateStore(
            client,
            collection,
            open_model(arguments),
            muvera=_muvera(config) or arguments.muvera,
            tenant=arguments.tenant,
            create_tenant=not to_search,
            timeout=arguments.timeout or 60,
            **options,
        )
        with store:
            yield store


def _client(arguments: argparse.Namespace) -> WeaviateClient:
    """A client that is connected: a mistyped URL shows at once."""
    import weaviate
    from weaviate.classes.init import AdditionalConfig, Timeout

    from chandelier.weaviate.server import api_key, unreached

    url = urlsplit(arguments.weaviate)
    host, is_secure = str(url.hostname), url.scheme == "https"
    port, grpc_port = url.port or (443 if is_secure else 80), arguments.grpc_port or GRPC_PORT
    if port == grpc_port and not host.endswith(CLOUDS):
        raise CommandError(f"{arguments.weaviate}: gRPC cannot be on port {port}, too; name its own with --grpc-port")
    seconds = arguments.timeout or 60
    options: dict[str, Any] = {
        "auth_credentials": api_key(),
        "additional_config": AdditionalConfig(timeout=Timeout(query=seconds, insert=seconds, init=SECONDS_TO_CONNECT)),
        "skip_init_checks": True,  # they would ask PyPI, too, whether the client is the newest
    }
    try:
        if host.endswith(CLOUDS):
            return weaviate.connect_to_weaviate_cloud(host, **options)
        host = f"[{host}]" if ":" in host else host  # an IPv6 address, in front of a port
        return weaviate.connect_to_custom(host, port, is_secure, host, grpc_port, is_secure, **options)
    except Exception as error:  # the client's, httpx's, builtin ones
        raise unreached(error, arguments.weaviate) from error


def _check_grpc(client: WeaviateClient, arguments: argparse.Namespace) -> None:
    """A mistyped port shows at once."""
    from chandelier.weaviate.failures import Lost
    from chandelier.weaviate.server import ping

    try:
        ping(client)
    except Lost as error:
        port = arguments.grpc_port or f"{GRPC_PORT}, as none was named"
        message = f"{arguments.weaviate}: answers over HTTP, but not over gRPC (port {port})"
        raise CommandError(f"{message}; name the port of its gRPC with --grpc-port") from error


def _config(client: WeaviateClient, arguments: argparse.Namespace, to_search: bool) -> Any:
    """The collection as the server has it; None if it is to be made."""
    from chandelier.weaviate.failures import ERRORS
    from chandelier.weaviate.server import unreached

    tenant = arguments.tenant
    try:
        config = None
        is_there = client.collections.exists(arguments.collection)
        if is_there:
            collection = client.collections.use(arguments.collection)
            config = collection.config.get()
            has_tenants = config.multi_tenancy_config.enabled
            if has_tenants and tenant is not None and to_search:
                is_there = collection.tenants.exists(tenant)
    except ERRORS as error:
        raise unreached(error, arguments.weaviate) from error
    here = f"{arguments.weaviate}: "
    if to_search and not is_there:
        what = f"collection {arguments.collection!r}" if config is None else f"tenant {tenant!r}"
        raise CommandError(f"{here}no {what}; chandelier index makes one")
    if config is not None and has_tenants and tenant is None:
        raise CommandError(f"{here}collection {arguments.collection!r} has tenants; name one with --tenant")
    return config


def _muvera(config: Any) -> dict[str, int] | None:
    """The encoding that the collection was made with; of one that is not ours the store says so."""
    from chandelier.weaviate.layout import multi_vector, muvera_of

    multi = None if config is None else multi_vector(config)
    return None if multi is None else muvera_of(multi)
