"""Points as the client sends them: JSON for REST, and for gRPC messages made of the bytes of the rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from qdrant_client import grpc, models
from qdrant_client.conversions.conversion import RestToGrpc

from chandelier import _core
from chandelier.multivectors import FloatArray
from chandelier.store.points.engine import PREFETCH, ROWS, SPARSE, Point

__all__ = ["rest_point", "upsert_message"]


def rest_point(point: Point, *, short: bool) -> models.PointStruct:
    """A point for REST or local mode; with `short`, in no more digits than half precision has."""
    vector: dict[str, Any] = {}
    if point.rows is not None:
        vector[ROWS] = _listed(point.rows, short)
    if point.prefetch is not None:
        vector[PREFETCH] = _listed(point.prefetch, short)
    if point.sparse is not None:
        words = point.sparse
        vector[SPARSE] = models.SparseVector(indices=words.indices.tolist(), values=words.values.tolist())
    # Everything in it is checked already; validating it again would take as long as building it.
    return models.PointStruct.model_construct(id=point.uuid, vector=vector, payload=point.payload)


def upsert_message(collection: str, points: Sequence[Point]) -> grpc.UpsertPoints:
    """A request that is answered when the points are stored; no value becomes an object of Python on its way."""
    return grpc.UpsertPoints(collection_name=collection, wait=True, points=[_grpc_point(point) for point in points])


def _grpc_point(point: Point) -> grpc.PointStruct:
    vectors = {}
    if point.rows is not None:
        vectors[ROWS] = grpc.Vector(multi_dense=_multi_dense(point.rows))
    if point.prefetch is not None:
        vectors[PREFETCH] = grpc.Vector(dense=grpc.DenseVector.FromString(_field(_bytes(point.prefetch))))
    if point.sparse is not None:
        words = point.sparse
        sparse = grpc.SparseVector(indices=words.indices.tolist(), values=words.values.tolist())
        vectors[SPARSE] = grpc.Vector(sparse=sparse)
    return grpc.PointStruct(
        id=grpc.PointId(uuid=point.uuid),
        vectors=grpc.Vectors(vectors=grpc.NamedVectors(vectors=vectors)),
        payload=RestToGrpc.convert_payload(point.payload),
    )


def _listed(values: FloatArray, short: bool) -> Any:
    if not short:
        return values.tolist()
    return _core.short_decimals(values.astype(np.float32, copy=False).ravel()).reshape(values.shape).tolist()


def _multi_dense(rows: FloatArray) -> grpc.MultiDenseVector:
    """A message of messages, in protobuf's own encoding: of rows of one length, all have the same head."""
    data, size = _bytes(rows), 4 * rows.shape[1]
    inner = _field(b"", size)
    head = _field(b"", size + len(inner)) + inner
    message: grpc.MultiDenseVector = grpc.MultiDenseVector.FromString(
        b"".join(head + data[start : start + size] for start in range(0, len(data), size))
    )
    return message


def _field(data: bytes, size: int | None = None) -> bytes:
    """Field 1 of a message, of a known length: packed floats, or another message."""
    left = len(data) if size is None else size
    head = bytearray(b"\x0a")
    while left > 127:
        head.append(left & 127 | 128)
        left >>= 7
    head.append(left)
    return bytes(head) + data


def _bytes(values: FloatArray) -> bytes:
    return values.astype("<f4", copy=False).tobytes()
