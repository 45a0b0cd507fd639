"""What goes to a server over gRPC is what the client itself would send."""

from __future__ import annotations

import numpy as np
import pytest
from qdrant_client import grpc, models
from qdrant_client.conversions.conversion import RestToGrpc

from chandelier.qdrant.wire import upsert_message
from chandelier.store.points.engine import Point, SparseVector

ID = "0b2f7f0e-6f5e-5c0e-9a59-6f2f6f0c8a11"
PAYLOAD = {"doc_id": "é", "text": "", "metadata": {"n": None, "big": 2**62, "x": [1.5, True, {"deep": []}], "e": {}}}
HARD = np.array([0.0, -0.0, 1e-45, -1e-45, 3.4e38, 0.1, 1 / 3, np.nextafter(1, 2, dtype=np.float32)], np.float32)


def rows(count: int, dim: int, seed: int = 0) -> np.ndarray:
    matrix = np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)
    matrix.ravel()[: len(HARD)] = HARD[: matrix.size]
    return matrix


def clients_own(points: list[Point]) -> grpc.UpsertPoints:
    """The request of the client's own conversion."""
    made = []
    for point in points:
        vector = {} if point.rows is None else {"colbert": point.rows.tolist()}
        vector |= {} if point.prefetch is None else {"prefetch": point.prefetch.tolist()}
        if point.sparse is not None:
            words = point.sparse
            vector["bm25"] = models.SparseVector(indices=words.indices.tolist(), values=words.values.tolist())
        struct = models.PointStruct(id=point.uuid, vector=vector, payload=point.payload)
        made.append(RestToGrpc.convert_point_struct(struct))
    return grpc.UpsertPoints(collection_name="notes", wait=True, points=made)


WORDS = SparseVector(np.array([3, 2**32 - 1], np.uint32), np.array([0.1, 2.5], np.float32))


@pytest.mark.parametrize(
    "point",
    [
        *(Point(ID, rows(count, dim), None, None, PAYLOAD) for count, dim in ((1, 1), (1, 128), (3, 31), (300, 128))),
        Point(ID, rows(4, 4096), rows(1, 10_240)[0], WORDS, PAYLOAD),
        Point(ID, rows(4, 32).clip(-9, 9).astype(np.float16), None, None, PAYLOAD),
        Point(ID, np.asfortranarray(rows(5, 7)), rows(9, 4)[:, 1], None, PAYLOAD),
        Point(ID, rows(8, 16)[::2], None, None, PAYLOAD),
        Point(ID, None, None, WORDS, PAYLOAD),
        Point(ID, None, None, None, {}),
    ],
)
def test_a_point_is_the_clients_own_to_the_last_bit(point: Point) -> None:
    ours, theirs = upsert_message("notes", [point]), clients_own([point])
    assert ours.SerializeToString(deterministic=True) == theirs.SerializeToString(deterministic=True)


def test_points_keep_their_order() -> None:
    points = [Point(ID, rows(2, 8, seed), None, None, {"doc_id": str(seed)}) for seed in range(5)]
    ours, theirs = upsert_message("notes", points), clients_own(points)
    assert ours.SerializeToString(deterministic=True) == theirs.SerializeToString(deterministic=True)
