"""What a store over points measures and estimates: recall of the prefetch, and room."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from chandelier import _core
from chandelier.exceptions import ArgumentError, StoreError
from chandelier.multivectors import checked_count
from chandelier.recall import Recall, RecallReport
from chandelier.store.encoding import Query, checked_search
from chandelier.store.points.engine import Layout
from chandelier.store.points.operations import Operations
from chandelier.store.points.steps import Steps

__all__ = ["SizeEstimate", "recall", "size_estimate"]


@dataclass(frozen=True, slots=True)
class SizeEstimate:
    """Bytes that vectors will take; texts, metadata and the engine's own books come on top.

    Among those books is the graph over what is searched, which is in memory: over all rows in a plain Weaviate, where
    it can take more than they do, else over the prefetch vectors. A quantizer is not counted.

    Attributes:
        rows: Of the multi-vectors.
        prefetch: Of the prefetch vectors, or of the encodings that Weaviate makes, in memory.
        rows_on_disk: Whether a new collection leaves the rows on disk until they are read, or holds them in memory.
    """

    rows: int
    prefetch: int
    rows_on_disk: bool

    def __str__(self) -> str:
        place = "on disk" if self.rows_on_disk else "in memory"
        prefetch = f", prefetch {self.prefetch / 1e9:.2f} GB in memory" if self.prefetch else ""
        return f"rows {self.rows / 1e9:.2f} GB {place}{prefetch}"


def size_estimate(layout: Layout, documents: int, tokens: float) -> SizeEstimate:
    """See `PointStore.size_estimate`."""
    documents = checked_count("documents", documents, least=0, most=1 << 48)
    if isinstance(tokens, bool) or not isinstance(tokens, (int, float)) or not 0 <= tokens < 1 << 24:
        raise ArgumentError(f"tokens: got {tokens!r}, wanted the rows of an average document", argument="tokens")
    width = 2 if layout.datatype == "float16" else 4
    rows, prefetch = int(documents * tokens * layout.dim * width), documents * (layout.prefetch_size or 0) * width
    return SizeEstimate(rows, prefetch, layout.on_disk)


def recall(operations: Operations, queries: Iterable[Query], k: int, depths: Iterable[int]) -> Steps[RecallReport]:
    """How many of the exact best are among so many candidates."""
    if isinstance(queries, str):
        raise ArgumentError("queries: got str, wanted a list of str or of matrices", argument="queries")
    given = list(queries)
    least = operations.candidates.start
    checked = sorted({max(least, checked_search(k, depth)[1] or k) for depth in depths})
    for what, values in (("queries", given), ("depths", checked)):
        if not values:
            raise ArgumentError(f"{what}: got none, wanted at least one", argument=what)
    if not operations.layout.finder:
        message = f"{operations.name}: has no prefetch to measure, it scores all documents"
        raise StoreError(message, store=operations.name)
    total = yield from operations.count(None)
    size = operations.layout.prefetch_size or 0
    # All documents are candidates of a prefetch at every depth from their number on. Rows and words can find fewer.
    shown = {min(depth, total) if size else depth: depth for depth in checked}
    wanted = yield from _found(operations, given, k, None)
    if not all(wanted):
        raise StoreError(f"{operations.name}: has no documents to find, store some first", store=operations.name)
    rows = []
    for candidates, depth in shown.items():
        found = yield from _found(operations, given, k, depth)
        rows.append(Recall(operations.layout.finder, size, candidates, *_core.share_found(found, wanted)))
    return RecallReport(len(given), total, min(k, len(wanted[0])), tuple(rows))


def _found(operations: Operations, queries: list[Query], k: int, depth: int | None) -> Steps[list[list[str]]]:
    """The ids of the hits; of the exact ones without a depth."""
    answers = yield from operations.search(
        queries, k, filter=None, depth=depth, explain=False, with_vectors=False, exact=depth is None
    )
    return [[hit.id for hit in hits] for hits in answers]
