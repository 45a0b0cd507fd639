"""Hybrid search: BM25 and vectors, fused by Weaviate; each hit still says its MaxSim."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from chandelier.exceptions import ArgumentError
from chandelier.maths import maxsim
from chandelier.store.documents import Hit
from chandelier.store.encoding import checked_search
from chandelier.store.points.engine import Found, Request
from chandelier.store.points.operations import Operations
from chandelier.store.points.steps import Steps, work
from chandelier.weaviate.engine import CollectionEngine
from chandelier.weaviate.exact import is_scored

__all__ = ["hybrid_search"]

FUSIONS = ("relative", "ranked")


def hybrid_search(
    operations: Operations,
    engine: CollectionEngine,
    query: str,
    k: int,
    *,
    alpha: float,
    fusion: str,
    filter: Any,
    depth: int | None,
    explain: bool,
    with_vectors: bool,
) -> Steps[list[Hit]]:
    """See `WeaviateStore.hybrid_search`."""
    if not isinstance(query, str):
        raise ArgumentError(
            f"query: got {type(query).__name__}, wanted a text, whose words count too", argument="query"
        )
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not 0 <= alpha <= 1:
        raise ArgumentError(f"alpha: got {alpha!r}, wanted 0 (words) to 1 (vectors)", argument="alpha")
    if fusion not in FUSIONS:
        raise ArgumentError(f"fusion: got {fusion!r}, wanted one of {', '.join(FUSIONS)}", argument="fusion")
    k, depth = checked_search(k, depth)
    wanted = operations.compiled(filter, own=False)
    (asked,) = yield from work(lambda: operations.encoding.queries([query]))
    request = Request(asked.rows, None, None, operations.depth(k, depth), k)
    uuids = yield from engine.hybrid(query, request, float(alpha), fusion, wanted)
    found = yield from engine.found([(uuid, 0.0) for uuid in uuids], True)
    scored = yield from work(lambda: [_scored(request, point) for point in found])
    hits = [operations.hit(point, with_vectors) for point in scored]
    return (yield from work(lambda: operations.encoding.explained(asked, hits))) if explain else hits


def _scored(request: Request, point: Found) -> Found:
    """With its MaxSim; 0 for a document that only words find, since it has no rows."""
    if point.rows is None or not is_scored(request, point):
        return point
    return replace(point, score=float(maxsim(request.rows, [point.rows])[0]))
