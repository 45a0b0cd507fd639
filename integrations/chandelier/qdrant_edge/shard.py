"""The engine in this process: one shard of `qdrant_edge`."""

from __future__ import annotations

import ctypes
import os
import uuid
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
import qdrant_edge as edge

from chandelier.exceptions import ArgumentError, StoreError
from chandelier.qdrant_edge.failures import is_panic
from chandelier.qdrant_edge.folder import Folder
from chandelier.qdrant_edge.words import EdgeWords
from chandelier.store.filters import Node
from chandelier.store.points.checks import check_settings
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
from chandelier.store.points.steps import Call, Steps

__all__ = ["ShardEngine"]

REQUEST_BYTES = 8 << 20
UNFLUSHED_BYTES = 64 << 20
"""The engine reads its log again after a kill, a second for so much of it, and cuts it off when it is flushed."""

RESERVE_BYTES = 64 << 20
"""The engine writes through mapped files: a full disk is no error to it, it ends the process. So we stop before."""


class ShardEngine:
    """One shard; see `Engine`.

    Args:
        path: The folder of the store.
    """

    most_bytes = REQUEST_BYTES
    most_values = MOST_VALUES
    candidates = ANY_NUMBER

    def __init__(self, path: str) -> None:
        self.path = path
        self._folder: Folder | None = None
        self._shard: edge.EdgeShard | None = None
        self._process = os.getpid()
        self._unflushed = 0
        self._words = EdgeWords()
        self._kinds: dict[str, str] = {}

    def open(self, layout: Layout) -> Steps[dict[str, Any]]:
        """Make the shard, or load the one that is there; the settings that it keeps."""
        kinds = index_kinds(layout)
        settings: dict[str, Any] = yield Call(lambda: self._open(layout))
        schema = (yield self._call(lambda shard: shard.info())).payload_schema
        there = {key: str(index.data_type).split(".")[-1].lower() for key, index in schema.items()}
        for key, kind in missing(self.path, there, kinds).items():
            yield self._update(partial(_index, key, kind))
        self._kinds = {**there, **kinds}
        return settings

    def upsert(self, points: Sequence[Point]) -> Steps[Mapping[str, str]]:
        """Store points, all or none; they are in the engine's log when this returns."""
        size = sum(map(self.bytes_of, points))
        yield self._update(lambda: edge.UpdateOperation.upsert_points([_struct(point) for point in points]), size)
        return {}

    def query(self, requests: Sequence[Request], filter: Any, with_rows: bool) -> Steps[list[list[Found]]]:
        """The hits of each request, best first."""
        answers = yield self._call(
            lambda shard: shard.query_batch(
                edge.QueryBatchRequest([_request(request, filter, with_rows) for request in requests])
            )
        )
        return [[_found(point, point.score) for point in answer] for answer in answers]

    def retrieve(self, uuids: Sequence[str], with_rows: bool) -> Steps[list[Found]]:
        """The points that are there."""
        vectors = [ROWS] if with_rows else False
        points = yield self._call(lambda shard: shard.retrieve(list(uuids), True, vectors))
        return [_found(point) for point in points]

    def scroll(self, filter: Any, limit: int, after: Any, with_rows: bool) -> Steps[tuple[list[Found], Any]]:
        """A page of points, and where the next one begins."""
        vectors = [ROWS] if with_rows else False
        points, after = yield self._call(
            lambda shard: shard.scroll(
                edge.ScrollRequest(offset=after, limit=limit, filter=filter, with_payload=True, with_vector=vectors)
            )
        )
        return [_found(point) for point in points], after

    def count(self, filter: Any) -> Steps[int]:
        """How many points pass."""
        count: int = yield self._call(lambda shard: shard.count(edge.CountRequest(exact=True, filter=filter)))
        return count

    def count_of(self, uuids: Sequence[str]) -> Steps[int]:
        """How many of these are there."""
        points = yield self._call(lambda shard: shard.retrieve(list(uuids), False, False))
        return len(points)

    def delete(self, uuids: Sequence[str] | None, filter: Any) -> Steps[None]:
        """Delete points by id, or those that pass."""
        if uuids is None:
            yield self._update(lambda: edge.UpdateOperation.delete_points_by_filter(filter))
        else:
            yield self._update(lambda: edge.UpdateOperation.delete_points(list(uuids)))

    def is_indexed(self) -> Steps[bool]:
        """The engine builds its indexes when it is told to: now."""
        yield from self.optimize()
        return True

    def optimize(self) -> Steps[bool]:
        """Build the indexes, give back the room of what was deleted; whether there was anything to do."""

        def optimized(shard: edge.EdgeShard) -> bool:
            self._check_room(self._held().used())
            done = shard.optimize()
            self._flush(shard)  # then what was merged is deleted
            return done

        return bool((yield self._call(optimized)))

    def flush(self) -> Steps[None]:
        """Write to the disk what the operating system still holds."""
        yield self._call(self._flush)

    def close(self) -> None:
        """Flush, and let others open the folder; closing again does nothing."""
        shard, folder = self._shard, self._folder
        if os.getpid() == self._process and folder is not None:
            self._shard = self._folder = None
            try:
                if shard is not None:
                    shard.close()
            finally:
                folder.close()

    def compiled(self, node: Node | None, filter: Any = None, *, own: bool) -> Any:
        """A filter of the engine's, for ours or for one of its own."""
        if filter is not None and not isinstance(filter, edge.Filter):
            wanted = "wanted a mapping in our dialect, or a qdrant_edge.Filter"
            raise ArgumentError(f"filter: got {type(filter).__name__}, {wanted}", argument="filter")
        return whole(node, filter, self._words, self._kinds, own=own)

    def bytes_of(self, point: Point) -> int:
        """How large the point is in the engine's log, roughly: a float takes 5 bytes of CBOR."""
        floats = sum(0 if part is None else part.size for part in (point.rows, point.prefetch))
        words = 0 if point.sparse is None else 2 * len(point.sparse.indices)
        return 5 * (floats + words) + 4 * len(repr(point.payload))

    def _open(self, layout: Layout) -> dict[str, Any]:
        folder = self._folder = Folder(self.path)
        self._check_room(0)
        wanted = {**layout.settings, "dim": layout.dim, "datatype": layout.datatype}
        settings = folder.settings()
        if settings is None:
            folder.make(lambda path: edge.EdgeShard.create(path, _config(layout)).close(), wanted)
            settings = wanted
        check_settings(self.path, settings, layout)
        for name in ("dim", "datatype"):
            if settings.get(name, wanted[name]) != wanted[name]:
                message = f"{self.path}: {name}: got {settings[name]!r}, wanted {wanted[name]!r}"
                raise StoreError(f"{message}; open it as it was made, or name another folder", store=self.path)
        self._shard = edge.EdgeShard.load(folder.shard)
        _open_engines.add(self)
        self._flush(self._shard)  # what a kill had left in the log is read again only once
        return settings

    def _live(self) -> edge.EdgeShard:
        """The shard, if it can be asked."""
        if os.getpid() != self._process:
            way_out = "open it in the process that uses it, and start workers by spawn"
            raise StoreError(
                f"{self.path}: was opened before a fork, which the engine's threads do not survive; {way_out}",
                store=self.path,
            )
        if self._shard is None:
            raise StoreError(f"{self.path}: the store is closed", store=self.path)
        return self._shard

    def _held(self) -> Folder:
        assert self._folder is not None
        return self._folder

    def _call(self, ask: Callable[[edge.EdgeShard], Any]) -> Call:
        return Call(lambda: ask(self._live()))

    def _update(self, operation: Callable[[], edge.UpdateOperation], size: int = 0) -> Call:
        def update(shard: edge.EdgeShard) -> None:
            self._check_room(2 * size)  # in the log and in its place
            try:
                shard.update(operation())
            except BaseException as error:
                if is_panic(error):
                    self._cut_off(shard)
                raise
            self._unflushed += size
            if self._unflushed > UNFLUSHED_BYTES:
                self._flush(shard)

        return self._call(update)

    def _flush(self, shard: edge.EdgeShard) -> None:
        shard.flush()
        self._unflushed = 0

    def _cut_off(self, shard: edge.EdgeShard) -> None:
        """Cut off the log behind an operation that panicked, which would panic again whenever the shard is loaded."""
        with suppress(Exception):
            shard.update(edge.UpdateOperation.delete_points([str(uuid.UUID(int=0))]))
            self._flush(shard)

    def _check_room(self, size: int) -> None:
        """Refuses to write when the disk is nearly full."""
        free = self._held().free()
        if free < RESERVE_BYTES + size:
            got, wanted = f"{free >> 20:,} MiB free", f"{RESERVE_BYTES + size >> 20:,}"
            raise StoreError(f"{self.path}: the disk is full: got {got}, wanted {wanted}; make room", store=self.path)


def _config(layout: Layout) -> edge.EdgeConfig:
    datatype = (
        edge.VectorStorageDatatype.Float16 if layout.datatype == "float16" else edge.VectorStorageDatatype.Float32
    )
    vectors = {
        ROWS: edge.EdgeVectorParams(
            size=layout.dim,
            distance=edge.Distance.Dot,
            datatype=datatype,
            memory=edge.Memory.Cold if layout.on_disk else edge.Memory.Cached,
            multivector_config=edge.MultiVectorConfig(edge.MultiVectorComparator.MaxSim),
            # Without m=0, `optimize` builds a graph over tokens and does not come back.
            hnsw_config=edge.HnswIndexConfig(m=0, ef_construct=100, full_scan_threshold=10_000),
        )
    }
    if layout.prefetch_size is not None:
        size = layout.prefetch_size
        vectors[PREFETCH] = edge.EdgeVectorParams(size=size, distance=edge.Distance.Dot, datatype=datatype)
    sparse = {SPARSE: edge.EdgeSparseVectorParams(modifier=edge.Modifier.Idf)} if layout.is_sparse else None
    return edge.EdgeConfig(vectors=vectors, sparse_vectors=sparse)


def _index(key: str, kind: str) -> edge.UpdateOperation:
    return edge.UpdateOperation.create_field_index(key, getattr(edge.PayloadSchemaType, kind.capitalize()))


def _struct(point: Point) -> edge.Point:
    vectors: dict[str, Any] = {}
    if point.rows is not None:
        vectors[ROWS] = point.rows.tolist()  # a list is read 1.8 times as fast as an array
    if point.prefetch is not None:
        vectors[PREFETCH] = point.prefetch.tolist()
    if point.sparse is not None:
        vectors[SPARSE] = edge.SparseVector(point.sparse.indices.tolist(), point.sparse.values.tolist())
    return edge.Point(point.uuid, vectors, point.payload)


def _request(request: Request, filter: Any, with_rows: bool) -> edge.QueryRequest:
    leaves = []
    if request.prefetch is not None:
        leaves.append(_leaf(request.prefetch.tolist(), PREFETCH, request.depth, filter))
    if request.sparse is not None:
        words = edge.SparseVector(request.sparse.indices.tolist(), request.sparse.values.tolist())
        leaves.append(_leaf(words, SPARSE, request.depth, filter))
    if len(leaves) > 1:
        fused: Any = edge.Fusion.Rrf(k=2)  # the constant of the server
        leaves = [edge.Prefetch(prefetches=leaves, query=fused, limit=request.depth)]
    return edge.QueryRequest(
        prefetches=leaves or None,
        query=edge.Query.Nearest(request.rows.tolist(), using=ROWS),
        filter=filter,
        params=edge.SearchParams(exact=True),  # neither quantized rows nor a graph over them
        limit=request.limit,
        with_payload=True,
        with_vector=[ROWS] if with_rows else False,
    )


def _leaf(query: Any, using: str, limit: int, filter: Any) -> edge.Prefetch:
    return edge.Prefetch(query=edge.Query.Nearest(query, using=using), limit=limit, filter=filter)


def _found(point: Any, score: float = 0.0) -> Found:
    vectors = point.vector if isinstance(point.vector, dict) else {}
    rows = vectors.get(ROWS)
    array = None if rows is None else np.asarray(rows, np.float32)
    return Found(str(point.id), score, point.payload or {}, array)


_open_engines: weakref.WeakSet[ShardEngine] = weakref.WeakSet()


def _keep_shards() -> None:
    """In a forked child: keep its copies of the shards for ever, since one that goes away cuts the parent's log."""
    for engine in list(_open_engines):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(engine._shard))


os.register_at_fork(after_in_child=_keep_shards)
