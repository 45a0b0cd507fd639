"""A client that sends each request once, and waits no longer than its store for an answer.

The client alone asks again for 63 seconds while there is no server, whatever its timeout is. It also sends a batch
again by itself, after a server has died in the middle of it: the server that comes back takes the objects that it finds
stored for done, whether they are indexed or not, and the client says that all is well. The store knows better what to
send again, and for how long.
"""

from __future__ import annotations

from typing import Any

from weaviate import WeaviateAsyncClient, WeaviateClient

__all__ = ["ClientOnce"]


class ClientOnce:
    """What a store uses of a client, which may be connected later.

    Args:
        client: The client.
        seconds: For a request that reads, unless the client's own `Timeout(query=...)` is shorter.
    """

    def __init__(self, client: WeaviateClient | WeaviateAsyncClient, seconds: float) -> None:
        connection = _once(client._connection, seconds)
        self.get_meta = connection.get_meta
        self.cluster: Any = type(client.cluster)(connection)
        self.collections: Any = type(client.collections)(connection)


def _once(connection: Any, seconds: float) -> Any:
    """The same connection, which its client opens and closes, in a class of its own kind."""
    kind = type("ConnectionOnce", (_Once, type(connection)), {"seconds": seconds})
    once: Any = object.__new__(kind)
    once.__dict__ = connection.__dict__
    return once


class _Once:
    """What is otherwise in a connection, synchronous or not: what gRPC answers, or has awaited, goes through as it is.

    Attributes:
        seconds: See `ClientOnce`.
    """

    seconds: float

    @property
    def timeout_config(self) -> Any:
        given = self.__dict__["timeout_config"]
        return given.model_copy(update={"query": min(given.query, self.seconds)})

    def grpc_search(self, request: Any) -> Any:
        return self._ask("Search", request)

    def grpc_aggregate(self, request: Any) -> Any:
        return self._ask("Aggregate", request)

    def grpc_tenants_get(self, request: Any) -> Any:
        return self._ask("TenantsGet", request)

    def grpc_batch_objects(self, request: Any, timeout: float, max_retries: float) -> Any:
        connection: Any = super()
        return connection.grpc_batch_objects(request=request, timeout=timeout, max_retries=-1)

    def _ask(self, method: str, request: Any) -> Any:
        connection: Any = self
        ask = getattr(connection.grpc_stub, method)
        return ask(request, metadata=connection.grpc_headers(), timeout=self.timeout_config.query)

    def __del__(self) -> None:
        """Warns of nothing: who opened the connection closes it."""
