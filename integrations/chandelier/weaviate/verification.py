"""Documents that are stored and cannot be found: a crash of the server can leave such."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from chandelier.store.points.engine import Found
from chandelier.store.points.operations import Operations
from chandelier.store.points.steps import Steps
from chandelier.weaviate.engine import CollectionEngine

__all__ = ["Verification", "verify"]

LOOKED_AT_ONCE = 200


@dataclass
class Verification:
    """What `WeaviateStore.verify` found.

    Attributes:
        checked: How many documents have rows, and so are to be found.
        unindexed: The ids of those that no search found.
        repaired: The ids of those among them that are found now.
        failed: Why the others could not be repaired, by id.
    """

    checked: int = 0
    unindexed: list[str] = field(default_factory=list)
    repaired: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        repaired = f", repaired {len(self.repaired):,}" if self.repaired else ""
        failed = f", not repaired {len(self.failed):,}" if self.failed else ""
        return f"checked {self.checked:,}, stored but not indexed {len(self.unindexed):,}{repaired}{failed}"


def verify(operations: Operations, engine: CollectionEngine, *, repair: bool) -> Steps[Verification]:
    """See `WeaviateStore.verify`."""
    verification = Verification()
    own = operations.compiled(None, own=True)
    after = None
    while True:
        page, after = yield from engine.scroll(own, LOOKED_AT_ONCE, after, False)
        with_rows = [point for point in page if point.payload.get("row_count")]
        verification.checked += len(with_rows)
        for point in (yield from _unindexed(operations, engine, with_rows)):
            id = operations.document(point, False).id
            verification.unindexed.append(id)
            if repair:
                reason = yield from _repaired(operations, engine, point)
                if reason is None:
                    verification.repaired.append(id)
                else:
                    verification.failed[id] = reason
        if after is None:
            return verification


def _unindexed(operations: Operations, engine: CollectionEngine, points: Sequence[Found]) -> Steps[list[Found]]:
    """Those that a search among these does not find, nor one with their own rows, which misses nothing."""
    if not points:
        return []
    probe = np.eye(1, operations.encoding.dim, dtype=np.float32)
    found = yield from engine.indexed_among([point.uuid for point in points], probe)
    missing = []
    for point in points:
        if point.uuid not in found and not (yield from _is_indexed(engine, point)):
            missing.append(point)
    return missing


def _is_indexed(engine: CollectionEngine, point: Found) -> Steps[bool]:
    stored = yield from engine.retrieve([point.uuid], True)
    if not stored or stored[0].rows is None:
        return not stored  # what is deleted meanwhile is not missing
    return bool((yield from engine.indexed_among([point.uuid], stored[0].rows)))


def _repaired(operations: Operations, engine: CollectionEngine, point: Found) -> Steps[str | None]:
    reason = yield from engine.rewrite(point.uuid)
    if reason is None and (yield from _unindexed(operations, engine, [point])):
        return "it was stored again, and is not found"
    return reason
