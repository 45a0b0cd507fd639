"""The REST side: paths to operations, bodies to the client's models, results and refusals to JSON."""

from __future__ import annotations

import json
import re
import socket
import sys
import threading
from contextlib import suppress
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json
from qdrant_client import models

from .faults import Call, ConnectionDropped, Refusal

if TYPE_CHECKING:
    from .server import QdrantLoopback

ROUTES = (  # method, path, operation, the body's model
    ("GET", r"/collections", "get_collections", None),
    ("GET", r"/collections/([^/]+)", "get_collection", None),
    ("GET", r"/collections/([^/]+)/exists", "collection_exists", None),
    ("PUT", r"/collections/([^/]+)", "create_collection", models.CreateCollection),
    ("PATCH", r"/collections/([^/]+)", "update_collection", models.UpdateCollection),
    ("DELETE", r"/collections/([^/]+)", "delete_collection", None),
    ("PUT", r"/collections/([^/]+)/index", "create_payload_index", models.CreateFieldIndex),
    ("DELETE", r"/collections/([^/]+)/index/([^/]+)", "delete_payload_index", None),
    ("PUT", r"/collections/([^/]+)/points", "upsert", models.PointInsertOperations),
    ("PUT", r"/collections/([^/]+)/points/vectors", "update_vectors", models.UpdateVectors),
    ("POST", r"/collections/([^/]+)/points/payload", "set_payload", models.SetPayload),
    ("POST", r"/collections/([^/]+)/points/delete", "delete", models.PointsSelector),
    ("POST", r"/collections/([^/]+)/points", "retrieve", models.PointRequest),
    ("POST", r"/collections/([^/]+)/points/scroll", "scroll", models.ScrollRequest),
    ("POST", r"/collections/([^/]+)/points/count", "count", models.CountRequest),
    ("POST", r"/collections/([^/]+)/points/query", "query_points", models.QueryRequest),
    ("POST", r"/collections/([^/]+)/points/query/batch", "query_batch_points", models.QueryRequestBatch),
)
HEALTH = {"/healthz": "healthz check passed", "/livez": "livez check passed", "/readyz": "all shards are ready"}


@cache
def reader(model: Any) -> TypeAdapter[Any]:
    return TypeAdapter(model)


class RestServer(ThreadingHTTPServer):
    """Listens on a port (0: a free one) until it is stopped; a thread for each connection."""

    daemon_threads = False  # so that stopping waits for them
    request_queue_size = 64

    def __init__(self, loopback: QdrantLoopback, port: int) -> None:
        self.loopback = loopback
        self.open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), RestHandler)
        self.port = self.server_address[1]
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), name="loopback-rest")
        self._thread.start()

    def stop(self) -> None:
        self.shutdown()
        self._thread.join()
        for connection in list(self.open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.server_close()

    def process_request(self, request: Any, client_address: Any) -> None:
        self.open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        self.loopback.crashed(sys.exc_info()[1])


class RestHandler(BaseHTTPRequestHandler):
    """One connection."""

    server: RestServer
    protocol_version = "HTTP/1.1"

    def handle(self) -> None:
        with suppress(ConnectionError):  # a client may go when it likes
            super().handle()

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.unread = int(self.headers.get("Content-Length", 0))
        path = urlsplit(self.path).path
        if path == "/":
            said = {"title": "qdrant - vector search engine", "version": self.server.loopback.version, "commit": "0"}
            return self._send(200, json.dumps(said).encode())
        if path in HEALTH:
            return self._send(200, HEALTH[path].encode(), kind="text/plain")
        for method, pattern, operation, model in ROUTES:
            match = re.fullmatch(pattern, path)
            if match and method == self.command:
                return self._answer(operation, model, *map(unquote, match.groups()))
        unplayed = f"{self.command} {path} is not played"
        self.server.loopback.crashed(NotImplementedError(unplayed))
        return self._refuse(Refusal(501, unplayed))

    do_PUT = do_POST = do_PATCH = do_DELETE = do_GET  # noqa: N815

    def _answer(self, operation: str, model: Any, collection: str = "", *rest: str) -> None:
        asked = parse_qs(urlsplit(self.path).query)
        call = Call(operation, collection, "rest", self.unread, wait=asked.get("wait") != ["false"])
        try:
            result = self.server.loopback.answer(call, self._let_in, lambda: self._decode(model, *rest))
        except Refusal as refusal:
            self._refuse(refusal)
        except ConnectionDropped as dropped:
            self.close_connection = True
            if dropped.partly is not None:
                self._send(200, answer_of(dropped.partly), partly=True)
        else:
            self._send(200, answer_of(result))

    def _let_in(self) -> None:
        self.server.loopback.lets_in(self.headers.get("api-key"), self.headers.get("Authorization"))

    def _decode(self, model: Any, *rest: str) -> Any:
        size, limit = self.unread, self.server.loopback.body_limit
        if size > limit:
            raise Refusal(400, f"JSON payload ({size} bytes) is larger than allowed (limit: {limit} bytes).")
        data = self._read()
        if model is None:
            return rest[0] if rest else None
        try:
            body = reader(model).validate_json(data)
        except ValidationError as error:
            wrong = error.errors()
            in_vector = any("vector" in problem["loc"] for problem in wrong)
            variant = "data did not match any variant of untagged enum VectorStruct"
            raise Refusal(400, f"Format error in JSON body: {variant if in_vector else wrong[0]['msg']}") from error
        return as_list(body) if isinstance(body, models.PointsBatch) else body

    def _read(self) -> bytes:
        """What is left of the request's body."""
        pieces = []
        while self.unread > 0 and (piece := self.rfile.read(min(self.unread, 1 << 20))):
            self.unread -= len(piece)
            pieces.append(piece)
        return b"".join(pieces)

    def _refuse(self, refusal: Refusal) -> None:
        self._read()  # or the client would not get to see the answer
        headers = {} if refusal.retry_after is None else {"Retry-After": str(refusal.retry_after)}
        if refusal.status == 401:
            return self._send(401, refusal.message.encode(), kind="text/plain")
        body = {"status": {"error": refusal.message}, "time": 0.0}
        return self._send(refusal.status, json.dumps(body).encode(), headers)

    def _send(
        self,
        status: int,
        body: bytes,
        headers: dict[str, str] | None = None,
        *,
        kind: str = "application/json",
        partly: bool = False,
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if partly else body)


def answer_of(result: Any) -> bytes:
    return to_json({"result": result, "status": "ok", "time": 0.0})  # NaN becomes null


def as_list(body: models.PointsBatch) -> models.PointsList:
    """The points of a batch, which has a column for each of their parts."""
    batch = body.batch
    payloads = batch.payloads if batch.payloads is not None else [None] * len(batch.ids)
    columns = batch.vectors if isinstance(batch.vectors, dict) else None
    points = [
        models.PointStruct.model_construct(
            id=id_,
            payload=payloads[row],
            vector=batch.vectors[row] if columns is None else {key: column[row] for key, column in columns.items()},
        )
        for row, id_ in enumerate(batch.ids)
    ]
    return models.PointsList.model_construct(
        points=points, shard_key=body.shard_key, update_filter=body.update_filter, update_mode=body.update_mode
    )
