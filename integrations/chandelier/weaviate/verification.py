"""Documents that are stored and cannot be found: a crash of the server can leave such."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isclose

from chandelier.exceptions import StoreError
from chandelier.maths import maxsim
from chandelier.multivectors import Float32Array
from chandelier.store.documents import Document
from chandelier.store.points.engine import Found
from chandelier.store.points.operations import Operations
from chandelier.store.points.steps import Steps
from chandelier.weaviate.engine import MOST_HITS, CollectionEngine

__all__ = ["RepairError", "Verification", "verify"]

LOOKED_AT_ONCE = 200

PROBED_ROWS = 32
"""Of a document, evenly spread: as many as a query has."""

LIMITS = 10, 100, 1_000, MOST_HITS
"""How many documents a search for one asks for, one after the other: an approximate index may miss it among few."""


@dataclass
class Verification:
    """What `WeaviateStore.verify` found.

    Attributes:
        checked: How many documents are stored.
        unindexed: The ids of those that no search finds, or no filter.
        repaired: The ids of those among them that are found now.
        failed: Why the others could not be repaired, by id.
        removed: Those of the others that are not stored any more, with their rows: upsert them.
    """

    checked: int = 0
    unindexed: list[str] = field(default_factory=list)
    repaired: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    removed: list[Document] = field(default_factory=list)

    def __str__(self) -> str:
        repaired = f", repaired {len(self.repaired):,}" if self.repaired else ""
        failed = f", not repaired {len(self.failed):,}" if self.failed else ""
        removed = f", removed {len(self.removed):,}" if self.removed else ""
        return f"checked {self.checked:,}, stored but not indexed {len(self.unindexed):,}{repaired}{failed}{removed}"


class RepairError(StoreError):
    """A repair that ended in the middle, as when the server dies.

    Attributes:
        verification: How far it came; `removed` has the documents that are perhaps not stored any more.
    """

    def __init__(self, message: str = "", *, store: str = "", verification: Verification | None = None) -> None:
        super().__init__(message, store=store)
        self.verification = verification or Verification()


def verify(operations: Operations, engine: CollectionEngine, *, repair: bool) -> Steps[Verification]:
    """See `WeaviateStore.verify`."""
    verification = Verification()
    after = None
    while True:
        page, after = yield from engine.everything(LOOKED_AT_ONCE, after)
        ours = [point for point in page if point.payload.get("row_count") is not None]
        verification.checked += len(ours)
        for point in (yield from _unindexed(operations, engine, ours)):
            id = operations.document(point, False).id
            verification.unindexed.append(id)
            if repair:
                yield from _repair(operations, engine, point, id, verification)
        if after is None:
            return verification


def _unindexed(operations: Operations, engine: CollectionEngine, points: Sequence[Found]) -> Steps[list[Found]]:
    """Those that no filter finds, or no search for their own rows, with these."""
    own = operations.compiled(None, own=True)
    passing = yield from engine.passing_among([point.uuid for point in points], own)
    missing = []
    for point in points:
        stored = yield from engine.stored(point.uuid)
        if stored is None:  # deleted meanwhile
            continue
        if point.uuid not in passing or not (yield from _is_indexed(engine, stored)):
            missing.append(stored)
    return missing


def _is_indexed(engine: CollectionEngine, point: Found) -> Steps[bool]:
    """Whether a search finds a document, or only others that are as near."""
    if point.rows is None:
        return not point.payload["row_count"]
    probe = _probe(point)
    hits: list[tuple[str, float]] = []
    for limit in LIMITS:
        hits = yield from engine.nearest(probe, limit)
        if any(uuid == point.uuid for uuid, _ in hits):
            return True
    own = float(maxsim(probe, [point.rows])[0])
    return len(hits) == LIMITS[-1] and (hits[-1][1] > own or isclose(hits[-1][1], own, rel_tol=1e-5))


def _dead_end(operations: Operations, engine: CollectionEngine, point: Found) -> Steps[list[str]]:
    """The few documents that a search for this one finds instead, and comes to no others; none if it does.

    A server that is killed while it puts a document into its graph (1.39, `neighbor_connections.go`) may keep the
    links of the upper levels that lead to it, and not those of the lowest one that lead on. Searches in its
    neighbourhood then end at it, and what is stored there joins it. A deleted document leads nobody astray.
    """
    if point.rows is None:
        return []
    hits = yield from engine.nearest(_probe(point), LIMITS[-1])
    there = yield from engine.count(operations.compiled(None, own=True))
    is_cut_off = len(hits) < min(LIMITS[-1], there / 2) and all(uuid != point.uuid for uuid, _ in hits)
    return [uuid for uuid, _ in hits] if is_cut_off else []


def _probe(point: Found) -> Float32Array:
    assert point.rows is not None
    return point.rows[:: -(-len(point.rows) // PROBED_ROWS)]


def _repair(
    operations: Operations, engine: CollectionEngine, point: Found, id: str, verification: Verification
) -> Steps[None]:
    try:
        reason = None
        if dead_end := (yield from _dead_end(operations, engine, point)):
            reason = yield from _store_again(operations, engine, dead_end, verification)
        if reason is None and (yield from _unindexed(operations, engine, [point])):
            reason = yield from _store_again(operations, engine, [point.uuid], verification)
            if reason is None and (yield from _unindexed(operations, engine, [point])):
                reason = "it was stored again, and is not found"
    except StoreError as error:
        raise RepairError(str(error), store=operations.name, verification=verification) from error
    if reason is None:
        verification.repaired.append(id)
    else:
        verification.failed[id] = reason


def _store_again(
    operations: Operations, engine: CollectionEngine, uuids: Sequence[str], verification: Verification
) -> Steps[str | None]:
    """Delete these and store them as they were; why one of them could not be."""
    documents = {}
    for uuid in uuids:
        stored = yield from engine.stored(uuid)
        if stored is not None and stored.payload.get("row_count") is not None:
            documents[uuid] = operations.document(stored, True)
    if not documents:
        return "it is gone"
    verification.removed += documents.values()  # before they are: whoever gets the error must have them
    refused = yield from engine.rewrite(list(documents))
    for uuid, document in documents.items():
        if (yield from engine.stored(uuid)) is not None:
            verification.removed = [each for each in verification.removed if each is not document]
    return next(iter(refused.values()), None)
