"""The engine behind `qdrant_client`: a server over REST or gRPC, or the client's local mode."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from qdrant_client import AsyncQdrantClient, QdrantClient, models

from chandelier.exceptions import ArgumentError, StoreError
from chandelier.qdrant.layout import SETTINGS, check_collection, creation, kept_settings
from chandelier.qdrant.wire import rest_point, upsert_message
from chandelier.qdrant.words import ClientWords
from chandelier.store.filters import Node
from chandelier.store.points.checks import check_settings, is_older
from chandelier.store.points.engine import (
    ANY_NUMBER,
    MOST_VALUES,
    PREFETCH,
    ROWS,
    SPARSE,
    Found,
    Layout,
    Point,
    Request,
)
from chandelier.store.points.filters import whole
from chandelier.store.points.indexes import index_kinds, missing
from chandelier.store.points.steps import Call, Steps, work

__all__ = ["ClientEngine"]

REST_BYTES, ASYNC_REST_BYTES, GRPC_BYTES = 24 << 20, 2 << 20, 16 << 20
"""A request: three quarters of the 32 MiB that a server takes over REST; less with an asynchronous client, which writes
its JSON in the event loop; and what we hold to over gRPC."""

EXACT = models.SearchParams(exact=True)
"""Neither quantized rows nor a graph over them: scores are MaxSim, also in a collection that others configured. Local
mode knows nothing else, and warns of it."""

GRPC_SECONDS = 60
"""To write over gRPC, if nobody says: without a deadline it would wait for ever, and the client's 5 s are too few."""

LOCAL_MANY = 20_000
OLDEST = (1, 16)
"""The first server that keeps metadata with a collection."""


class ClientEngine:
    """One collection; see `Engine`.

    Args:
        client: The client.
        collection: The name of the collection.
        name: What to call it in errors.
        create_options: More arguments of `create_collection`.
        adopt: Whether to take over a collection that keeps no fingerprint.
        timeout: Seconds for a request, instead of the client's own.
    """

    most_values = MOST_VALUES
    candidates = ANY_NUMBER

    def __init__(
        self,
        client: QdrantClient | AsyncQdrantClient,
        collection: str,
        name: str,
        *,
        create_options: Mapping[str, Any],
        adopt: bool,
        timeout: int | None,
    ) -> None:
        options = client.init_options
        self._client = client
        self._collection = collection
        self._create_options = create_options
        self._adopt = adopt
        self._timeout = {} if timeout is None else {"timeout": timeout}
        self._name = name
        self._words = ClientWords()
        self._kinds: dict[str, str] = {}
        self._float16 = False
        self.is_local = options.get("path") is not None or options.get("location") == ":memory:"
        self.is_grpc = bool(options.get("prefer_grpc")) and not self.is_local
        rest_bytes = ASYNC_REST_BYTES if isinstance(client, AsyncQdrantClient) else REST_BYTES
        self.most_bytes = GRPC_BYTES if self.is_grpc else rest_bytes
        path = options.get("path")
        if path is not None and (
            Path(path, "edge_config.json").exists() or Path(path, "shard/edge_config.json").exists()
        ):
            message = f"{path}: is a folder of Qdrant Edge, which a QdrantClient takes for an empty one of its own"
            raise StoreError(f"{message}; open it with QdrantEdgeStore", store=str(path))

    def open(self, layout: Layout) -> Steps[dict[str, Any]]:
        """Make the collection, or look at the one that is there; the settings that it keeps."""
        kinds = index_kinds(layout)
        arguments = creation(layout, self._create_options)
        if not self.is_local:
            version = (yield self._call("info")).version
            if is_older(str(version), OLDEST):
                wanted = f"wanted {OLDEST[0]}.{OLDEST[1]} or newer, which keeps metadata with a collection"
                raise StoreError(f"{self._name}: the server is Qdrant {version}, {wanted}", store=self._name)
        if not (yield self._call("collection_exists")):
            try:
                yield self._call("create_collection", **arguments)
            except StoreError:
                # Somebody else may have made it just now, or the answer was lost and the second try found it.
                if not (yield self._call("collection_exists")):
                    raise
        info = yield self._call("get_collection")
        is_ours = SETTINGS in (info.config.metadata or {})
        if is_ours:
            check_settings(self._name, kept_settings(self._name, info), layout)
        check_collection(self._name, info, layout)
        if self._adopt and not is_ours:
            yield self._call("update_collection", metadata={SETTINGS: layout.settings})
            info = yield self._call("get_collection")
        settings = kept_settings(self._name, info)
        yield from self._index(info, kinds)
        params = info.config.params.vectors
        self._float16 = params[ROWS].datatype == models.Datatype.FLOAT16
        self._warn_if_large(info.points_count or 0)
        return settings

    def upsert(self, points: Sequence[Point]) -> Steps[Mapping[str, str]]:
        """Store points, all or none; the answer comes when they are stored."""
        if self.is_grpc:
            request = yield from work(lambda: upsert_message(self._collection, points))
            timeout = self._timeout.get("timeout", self._client.init_options.get("timeout") or GRPC_SECONDS)
            yield Call(lambda: self._client.grpc_points.Upsert(request, timeout=timeout))
        else:
            # Local mode keeps single precision, so it is given all digits.
            short = self._float16 and not self.is_local
            structs = yield from work(lambda: [rest_point(point, short=short) for point in points])
            yield self._call("upsert", points=structs, wait=True, **self._timeout)
        return {}

    def query(self, requests: Sequence[Request], filter: Any, with_rows: bool) -> Steps[list[list[Found]]]:
        """The hits of each request, best first."""
        asked = [self._request(request, filter, with_rows) for request in requests]
        answers = yield self._call("query_batch_points", requests=asked, **self._timeout)
        return [[self._found(point, point.score) for point in answer.points] for answer in answers]

    def retrieve(self, uuids: Sequence[str], with_rows: bool) -> Steps[list[Found]]:
        """The points that are there."""
        vectors = [ROWS] if with_rows else False
        points = yield self._call("retrieve", ids=list(uuids), with_payload=True, with_vectors=vectors, **self._timeout)
        return [self._found(point) for point in points]

    def scroll(self, filter: Any, limit: int, after: Any, with_rows: bool) -> Steps[tuple[list[Found], Any]]:
        """A page of points, and where the next one begins."""
        vectors = [ROWS] if with_rows else False
        points, after = yield self._call(
            "scroll",
            scroll_filter=filter,
            limit=limit,
            offset=after,
            with_payload=True,
            with_vectors=vectors,
            **self._timeout,
        )
        return [self._found(point) for point in points], after

    def count(self, filter: Any) -> Steps[int]:
        """How many points pass."""
        answer = yield self._call("count", count_filter=filter, exact=True, **self._timeout)
        return int(answer.count)

    def count_of(self, uuids: Sequence[str]) -> Steps[int]:
        """How many of these are there."""
        points = yield self._call("retrieve", ids=list(uuids), with_payload=False, with_vectors=False, **self._timeout)
        return len(points)

    def delete(self, uuids: Sequence[str] | None, filter: Any) -> Steps[None]:
        """Delete points by id, or those that pass."""
        those = models.FilterSelector(filter=filter) if uuids is None else models.PointIdsList(points=list(uuids))
        yield self._call("delete", points_selector=those, wait=True, **self._timeout)

    def is_indexed(self) -> Steps[bool]:
        """Whether the server's optimizer has nothing left to do."""
        info: models.CollectionInfo = yield self._call("get_collection")
        if info.optimizer_status != models.OptimizersStatusOneOf.OK:
            raise StoreError(f"{self._name}: the optimizer failed: {info.optimizer_status}", store=self._name)
        return info.status == models.CollectionStatus.GREEN

    def compiled(self, node: Node | None, filter: Any = None, *, own: bool) -> Any:
        """A filter of the client's, for ours or for one of its own."""
        if filter is not None and not isinstance(filter, models.Filter):
            wanted = "wanted a mapping in our dialect, or a qdrant_client.models.Filter"
            raise ArgumentError(f"filter: got {type(filter).__name__}, {wanted}", argument="filter")
        return whole(node, filter, self._words, self._kinds, own=own)

    def bytes_of(self, point: Point) -> int:
        """How large the point is in a request, roughly: a float takes 4 bytes in gRPC, and its digits in JSON."""
        floats = sum(0 if part is None else part.size for part in (point.rows, point.prefetch))
        words = 0 if point.sparse is None else len(point.sparse.indices)
        digits = 4 if self.is_grpc else 12 if self._float16 else 22
        rows = 0 if point.rows is None else len(point.rows)
        return floats * digits + rows * 8 + words * 2 * digits + 4 * len(repr(point.payload))

    def _call(self, name: str, **arguments: Any) -> Call:
        if name != "info":
            arguments["collection_name"] = self._collection
        return Call(lambda: getattr(self._client, name)(**arguments))

    def _index(self, info: models.CollectionInfo, kinds: Mapping[str, str]) -> Steps[None]:
        """Make the payload indexes that are missing; one of another kind is refused."""
        there = {key: index.data_type.value for key, index in (info.payload_schema or {}).items()}
        for key, kind in missing(self._name, there, kinds).items():
            if not self.is_local:
                yield self._call("create_payload_index", field_name=key, field_schema=kind, wait=True)
        self._kinds = {**there, **kinds}

    def _request(self, request: Request, filter: Any, with_rows: bool) -> models.QueryRequest:
        leaves = []
        if request.prefetch is not None:
            leaves.append(self._leaf(request.prefetch.tolist(), PREFETCH, request.depth, filter))
        if request.sparse is not None:
            words = request.sparse
            sparse = models.SparseVector(indices=words.indices.tolist(), values=words.values.tolist())
            leaves.append(self._leaf(sparse, SPARSE, request.depth, filter))
        if len(leaves) > 1:
            fused = models.FusionQuery(fusion=models.Fusion.RRF)
            leaves = [models.Prefetch(prefetch=leaves, query=fused, limit=request.depth)]
        return models.QueryRequest(
            prefetch=leaves or None,
            query=request.rows.tolist(),
            using=ROWS,
            filter=filter,
            params=None if self.is_local else EXACT,
            limit=request.limit,
            with_payload=True,
            with_vector=[ROWS] if with_rows else False,
        )

    def _leaf(self, query: Any, using: str, limit: int, filter: Any) -> models.Prefetch:
        return models.Prefetch(query=query, using=using, limit=limit, filter=filter)

    def _found(self, point: Any, score: float = 0.0) -> Found:
        vectors = point.vector if isinstance(point.vector, dict) else {}
        rows = vectors.get(ROWS)
        array = None if rows is None else np.asarray(rows, np.float32)
        return Found(str(point.id), score, point.payload or {}, array)

    def _warn_if_large(self, count: int) -> None:
        if self.is_local and count > LOCAL_MANY:
            message = f"{self._name}: {count:,} points in qdrant-client's local mode, which looks at each of them"
            warnings.warn(f"{message} in Python; use a server, QdrantEdgeStore or LocalStore", stacklevel=2)
