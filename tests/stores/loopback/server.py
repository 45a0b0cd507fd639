"""The server itself: it starts, answers over both protocols, dies and comes back with its data."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

from qdrant_client import AsyncQdrantClient, QdrantClient, models

from .engine import Engine
from .faults import Call, ConnectionDropped, Fault, Refusal
from .rest import RestServer
from .rpc import RpcServer


class QdrantLoopback:
    """A Qdrant on free ports of 127.0.0.1, as a context manager.

    What went wrong inside it by mistake is raised when the context ends.

    Args:
        version: What it says that it is.
        api_key: What a client must send; None lets everyone in.
        body_limit: Bytes of a REST body that are still read.
        vector_limit: Floats that one multivector must stay below.

    Attributes:
        faults: What goes wrong with the next requests: each is taken by the first request that it is for.
        calls: Every request in the order of their arrival, but for those that ask for the version or health.
        statuses: What the next requests for a collection's information tell of its status; green when there are none.
        rest_port, grpc_port: Where it listens; they stay the same when it is started again.
    """

    def __init__(
        self,
        *,
        version: str = "1.19.0",
        api_key: str | None = None,
        body_limit: int = 32 * 1024 * 1024,
        vector_limit: int = 1_048_576,
    ) -> None:
        self.version = version
        self.api_key = api_key
        self.body_limit = body_limit
        self.faults: list[Fault] = []
        self.calls: list[Call] = []
        self.rest_port = 0
        self.grpc_port = 0
        self._engine = Engine(vector_limit)
        self._crashes: list[BaseException] = []
        self._lock = threading.Lock()
        self._dead = threading.Event()
        self._servers: list[RestServer | RpcServer] = []

    @property
    def statuses(self) -> list[models.CollectionStatus]:
        return self._engine.statuses

    def __enter__(self) -> QdrantLoopback:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self._engine.local.close()
        if self._crashes and error is None:
            raise RuntimeError(f"the loopback failed: {self._crashes[0]!r}") from self._crashes[0]

    # Life and death

    def start(self) -> None:
        """Listens; after `kill` on the same ports, with all that was stored."""
        assert not self._servers, "it runs already"
        self._dead = threading.Event()
        rest = RestServer(self, self.rest_port)
        self._servers.append(rest)
        rpc = RpcServer(self, self.grpc_port)
        self._servers.append(rpc)
        self.rest_port, self.grpc_port = rest.port, rpc.port

    def kill(self) -> None:
        """Dies at once: connections are cut, what waits is never applied. What was stored stays."""
        self._dead.set()
        while self._servers:
            self._servers.pop().stop()

    # Clients

    def connect(self, *, grpc: bool = False, **options: Any) -> QdrantClient:
        """The real client, which the caller closes; `options` are its own."""
        return QdrantClient(**self._options(grpc), **{"check_compatibility": False, **options})

    def connect_async(self, *, grpc: bool = False, **options: Any) -> AsyncQdrantClient:
        """The same, asynchronous."""
        return AsyncQdrantClient(**self._options(grpc), **{"check_compatibility": False, **options})

    def _options(self, grpc: bool) -> dict[str, Any]:
        return {"url": f"http://127.0.0.1:{self.rest_port}", "grpc_port": self.grpc_port, "prefer_grpc": grpc}

    # What both protocols share

    def lets_in(self, key: str | None, authorization: str | None) -> None:
        """Refuses who has not the key."""
        key = key if key is not None else (authorization or "").removeprefix("Bearer ") or None
        if self.api_key is not None and key is None:
            raise Refusal(401, "Must provide an API key or an Authorization bearer token")
        if self.api_key is not None and key != self.api_key:
            raise Refusal(401, "Invalid API key or JWT")

    def answer(self, call: Call, let_in: Callable[[], None], decode: Callable[[], Any]) -> Any:
        """The result of a request, after what `faults` has for it.

        Args:
            call: What is known of the request before it is read.
            let_in: Refuses who may not ask.
            decode: Reads the request and gives its body as the client's REST model.

        Raises:
            Refusal: The answer is an error.
            ConnectionDropped: There is no answer.
        """
        with self._lock:
            self.calls.append(call)
        try:
            let_in()
            result = self._answer(call, self._take(call.operation), decode)
        except Refusal as refusal:
            call.outcome = refusal.status
            raise
        except ConnectionDropped:
            call.outcome = "dropped"
            raise
        except Exception as crash:
            self.crashed(crash)
            call.outcome = 500
            raise Refusal(500, f"Service internal error: {crash!r}") from crash
        call.outcome = 200
        return result

    def crashed(self, error: BaseException) -> None:
        """Remembers a mistake of the loopback, so that the test fails."""
        self._crashes.append(error)

    def _answer(self, call: Call, fault: Fault, decode: Callable[[], Any]) -> Any:
        if fault.drop == "before":
            raise ConnectionDropped
        body = decode()
        call.points = _count(body)
        self._wait(fault.delay)
        if fault.status:
            raise Refusal(fault.status, fault.message, fault.retry_after)
        if fault.drop == "middle":
            self._engine.apply(call.operation, call.collection, _first_half(body))
            raise ConnectionDropped
        result = self._engine.apply(call.operation, call.collection, body, wait=call.wait)
        self._wait(fault.stall)
        if fault.drop in ("after", "answer"):
            raise ConnectionDropped(result if fault.drop == "answer" else None)
        return result

    def _take(self, operation: str) -> Fault:
        with self._lock:
            for fault in self.faults:
                if fault.operation in ("", operation):
                    self.faults.remove(fault)
                    return fault
        return Fault()

    def _wait(self, seconds: float) -> None:
        if self._dead.wait(seconds) if seconds else self._dead.is_set():
            raise ConnectionDropped


def _count(body: Any) -> int:
    for name in ("points", "ids", "searches"):
        if isinstance(items := getattr(body, name, None), list):
            return len(items)
    return 0


def _first_half(body: Any) -> Any:
    if not isinstance(body, models.PointsList | models.UpdateVectors):
        raise NotImplementedError(f"no middle of a {type(body).__name__}")
    return body.model_copy(update={"points": body.points[: len(body.points) // 2]})
