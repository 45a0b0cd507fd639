"""Exact search: every document that passes is fetched and scored here, whatever the server's index knows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from chandelier.maths import top_k
from chandelier.store.points.engine import Engine, Found, Request
from chandelier.store.points.steps import Steps, work

__all__ = ["best", "is_scored"]

FETCHED_AT_ONCE = 100

Scores = list[tuple[str, float]]


def best(engine: Engine, requests: Sequence[Request], filter: Any) -> Steps[list[Scores]]:
    """The uuids of the best documents of each request and their MaxSim, in one pass over the collection."""
    kept: list[Scores] = [[] for _ in requests]
    after = None
    while True:
        page, after = yield from engine.scroll(filter, FETCHED_AT_ONCE, after, True)
        if scored := [point for point in page if is_scored(requests[0], point)]:
            kept = yield from work(partial(_merged, scored, requests, kept))
        if after is None:
            return kept


def is_scored(request: Request, point: Found) -> bool:
    """Whether it has rows as the query has; what others store here may be of another width, and is in no index then."""
    return point.rows is not None and point.rows.shape[1:] == request.rows.shape[1:]


def _merged(points: Sequence[Found], requests: Sequence[Request], kept: Sequence[Scores]) -> list[Scores]:
    """The best of those that were kept and of some more."""
    rows = [point.rows for point in points if point.rows is not None]
    merged = []
    for request, before in zip(requests, kept, strict=True):
        indices, scores = top_k(request.rows, rows, request.limit)
        found = [(points[index].uuid, float(score)) for index, score in zip(indices, scores, strict=True)]
        merged.append(sorted([*before, *found], key=lambda each: -each[1])[: request.limit])
    return merged
