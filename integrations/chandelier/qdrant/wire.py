"""Points as the client sends them: JSON for REST, and for gRPC messages made of the bytes of the rows.

Rows go into their message as the bytes that protobuf would write for them: its own classes take one float of Python
after the other, nine times the time. The format is fixed (https://protobuf.dev/programming-guides/encoding), and
protobuf itself reads the bytes back before anything is sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
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
    request = grpc.UpsertPoints(collection_name=collection, wait=True)
    for point in points:
        # Filled in its place: a message that is handed to another one is copied.
        message = request.points.add()
        message.MergeFrom(grpc.PointStruct(payload=RestToGrpc.convert_payload(point.payload)))
        message.id.uuid = point.uuid
        message.vectors.vectors.SetInParent()  # even a point without a vector has the map of them
        vectors = message.vectors.vectors.vectors
        if point.rows is not None:
            vectors[ROWS].multi_dense.MergeFromString(_multi_dense(point.rows))
        if point.prefetch is not None:
            vectors[PREFETCH].dense.MergeFromString(_head_of_values(point.prefetch.size) + _bytes(point.prefetch))
        if point.sparse is not None:
            vectors[SPARSE].sparse.indices.extend(point.sparse.indices.tolist())
            vectors[SPARSE].sparse.values.extend(point.sparse.values.tolist())
    return request


def _listed(values: FloatArray, short: bool) -> Any:
    if not short:
        return values.tolist()
    return _core.short_decimals(values.astype(np.float32, copy=False).ravel()).reshape(values.shape).tolist()


def _multi_dense(rows: FloatArray) -> bytes:
    """A `MultiDenseVector` as protobuf writes it: each row as it lies in memory, behind the head that they share."""
    head = np.frombuffer(_head_of_row(rows.shape[1]), np.uint8)
    data = np.frombuffer(_bytes(rows), np.uint8).reshape(len(rows), -1)
    return np.hstack([np.broadcast_to(head, (len(rows), len(head))), data]).tobytes()


@cache
def _head_of_row(size: int) -> bytes:
    """What protobuf writes before the values of a row of this length."""
    row = grpc.MultiDenseVector(vectors=[grpc.DenseVector(data=[0.0] * size)])
    return bytes(row.SerializeToString()[: -4 * size])


@cache
def _head_of_values(size: int) -> bytes:
    """The same of a single vector."""
    return bytes(grpc.DenseVector(data=[0.0] * size).SerializeToString()[: -4 * size])


def _bytes(values: FloatArray) -> bytes:
    return values.astype("<f4", copy=False).tobytes()
