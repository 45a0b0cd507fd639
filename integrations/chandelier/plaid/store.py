"""`PlaidStore`."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from chandelier import _core
from chandelier.exceptions import ArgumentError, StoreError
from chandelier.multivectors import checked_count, checked_path
from chandelier.plaid.build import LOCK, Builder
from chandelier.plaid.search import Knobs, View
from chandelier.plaid.segments import FOLDER, SETTING, Segments
from chandelier.recall import Recall, RecallReport, several
from chandelier.store.descriptions import description_of
from chandelier.store.encoding import Encoding, Query, checked_search
from chandelier.store.local.sqlite import Find, SqliteStore, Wanted

if TYPE_CHECKING:
    import sqlite3

    from chandelier.models import ColBERT

__all__ = ["PlaidStore"]

LOG = logging.getLogger("chandelier")

DOCUMENTS = "documents.db"
MANY_FRESH = 20_000
"""Documents in no segment, from which on a search says what would make it faster."""


class PlaidStore(SqliteStore):
    """A store for more documents than are worth scoring one by one: PLAID, in this process and one folder.

    Documents and their rows, in float16, are in a file of SQLite. `optimize` builds an index over them: each row as its
    nearest centroid and a residual of a few bits, in files that are mapped, not read into memory. A search looks up the
    cells of the centroids near the query, has the best `depth` candidates from the index, and scores these by MaxSim of
    the rows: scores are true, and the order is; what the index overlooked is missing, and `recall` measures how much.

    What was stored since the last `optimize` is found at once: it is held in memory and scored exactly, as a
    `LocalStore` does. Nothing optimizes by itself: call it after what adds much, or now and then. Deleting and
    replacing need no optimizing, and every filter is honoured exactly.

    Share one between threads, and one folder between processes of one machine, whichever of them optimizes. What an
    upsert has written is durable, portion by portion, whenever the process dies; the index is derived from it, and a
    kill leaves the old one or the new one. A pickle holds model, path and options. As to forks, see `LocalStore`.

    Args:
        path: The folder, made if it is not there; one that holds anything else is refused.
        model: Encodes documents and queries. The folder keeps its fingerprint and opens with no other model.
        nbits: Of each value of a residual, 4, or 2 for half of the index and more that is overlooked. Segments that are
            there stay as they were built; `optimize(rebuild=True)` builds all of them anew.
        n_ivf_probe: How many cells are looked into for each row of the query; None for all of them.
        n_full_scores: How many candidates the centroids leave for the residuals, in each segment, and not fewer than
            `depth`. None for a 16th of the segment's documents, 512 at least and 2,048 at most, or four times `depth`.
        depth: How many candidates of these are scored by their rows; a search may say another number.
        pool_factor: As in `ColBERT.encode_documents`, for the documents that this store encodes.
        protected_tokens: The same.
        memory_limit: How many bytes the rows in no segment may take in memory; None for as much as is available. Where
            they take more, a search says so, and that `optimize` is due.

    Raises:
        StoreError: If the folder holds no store, is damaged, or was made with another model.
        ArgumentError: If an argument is none of these.

    Examples:
        >>> import tempfile
        >>> from chandelier import ColBERT, Document
        >>> model = ColBERT("tests/goldens/a_bert_pylate/checkpoint")
        >>> with PlaidStore(tempfile.mkdtemp(), model) as store:
        ...     report = store.upsert(Document(str(i), f"note {i}", {"even": i % 2 == 0}) for i in range(300))
        ...     print(store.optimize(), store.segments)
        ...     print(store.search("note 42", k=1, filter={"even": True})[0].id)
        True 1
        42
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        model: ColBERT,
        *,
        nbits: int = 4,
        n_ivf_probe: int | None = None,
        n_full_scores: int | None = None,
        depth: int = 100,
        pool_factor: int = 1,
        protected_tokens: int = 1,
        memory_limit: int | None = None,
    ) -> None:
        folder = os.path.abspath(checked_path("path", path))  # whatever becomes of the working directory
        encoding = Encoding(model, pool_factor, protected_tokens)
        if isinstance(nbits, bool) or nbits not in (2, 4):
            raise ArgumentError(f"nbits: got {nbits!r}, wanted 2 or 4", argument="nbits")
        self._knobs = _knobs(n_ivf_probe, n_full_scores, checked_count("depth", depth))
        self._given: dict[str, Any] = {
            "path": folder,
            "nbits": nbits,
            "n_ivf_probe": n_ivf_probe,
            "n_full_scores": n_full_scores,
            "depth": depth,
            "pool_factor": pool_factor,
            "protected_tokens": protected_tokens,
            "memory_limit": memory_limit,
        }
        if memory_limit is not None:
            checked_count("memory_limit", memory_limit, most=(1 << 63) - 1)
        _check_ours(folder)
        os.makedirs(folder, exist_ok=True)
        file = os.path.join(folder, DOCUMENTS)
        self._warned = False
        super().__init__(encoding, file, datatype="float16", memory_limit=memory_limit, **{SETTING: "[]"})

    @property
    def path(self) -> str:
        """The folder."""
        return str(self._given["path"])

    @property
    def description(self) -> dict[str, Any]:
        """What the store was opened with, as plain JSON: `chandelier.store.open_store` opens it again from that."""
        return description_of(PlaidStore, self.model, **self._given)

    @property
    def segments(self) -> int:
        """How many segments the index has; 0 until there is something for `optimize` to do."""
        with self._database.reading() as connection:
            return len(self._segments.manifest(connection))

    def optimize(self, *, rebuild: bool = False, progress: bool = False) -> bool:
        """Bring the index up to date with the documents; whether there was anything to do.

        What was stored since becomes a segment, small segments are merged with it, and one of which more than half was
        deleted or replaced is built again. Fewer than 256 documents need no index. Searches and upserts go on
        meanwhile, in this process and others; another `optimize` waits for this one. Ctrl-C, or a kill, leaves the
        index as it was.

        Args:
            rebuild: Build all of it anew from the documents: with other `nbits`, or where a file is damaged or lost.
            progress: Show a tqdm bar on stderr, or in the notebook.

        Raises:
            StoreError: If the folder cannot be written (a full disk, say) or a segment is damaged.
        """
        return self._builder.optimize(rebuild, progress)

    async def aoptimize(self, *, rebuild: bool = False, progress: bool = False) -> bool:
        """As `optimize`, in a worker thread, which goes on when the call is cancelled."""
        return await asyncio.to_thread(self.optimize, rebuild=rebuild, progress=progress)

    def recall(
        self,
        queries: Iterable[Query],
        *,
        k: int = 10,
        n_ivf_probe: Iterable[int | None] = (4, 16, None),
        n_full_scores: Iterable[int] = (512, 2048, 8192),
        depth: int | None = None,
    ) -> RecallReport:
        """Measure which share of the exact top `k` searches with other numbers than the store's would find.

        Args:
            queries: Texts or matrices of rows, of the kind that users ask; 100 or more.
            k: How many documents are to be found.
            n_ivf_probe: As in the constructor, one or more.
            n_full_scores: As in the constructor, one or more; those below `depth` count as `depth`.
            depth: As in `search`.

        Returns:
            For each `n_ivf_probe` a measurement at each `n_full_scores`; see `chandelier.recall_probe`.

        Raises:
            StoreError: If there is no index.
            ArgumentError: If there is no query, or a number is out of range.
        """
        k, depth = checked_search(k, depth)
        depth = depth or max(self._knobs.depth, k)
        rows = [query.rows for query in self._encoding.queries(several("queries", queries))]
        probes = dict.fromkeys(several("n_ivf_probe", n_ivf_probe))
        scores = {max(depth, checked_count("n_full_scores", each)) for each in several("n_full_scores", n_full_scores)}
        trials = [(_knobs(probe, number, depth), number) for probe in probes for number in sorted(scores)]
        with self._view() as view:
            if not view.index.segments:
                message = "has no index to measure, all documents are scored exactly; optimize() builds one"
                raise StoreError(f"{self.path}: {message}", store=self.path)
            documents = self._tables.count(view.connection, None)
            exact = view.find(rows, Wanted(k, None, depth, exact=True), self._knobs)
            found = [view.find(rows, Wanted(k, None, depth, exact=False), trial) for trial, _ in trials]
        wanted = _names(exact)
        measurements = []
        for (trial, number), answers in zip(trials, found, strict=True):
            cells = "all cells" if trial.n_ivf_probe is None else f"n_ivf_probe {trial.n_ivf_probe}"
            share = _core.share_found(_names(answers), wanted)
            measurements.append(Recall(cells, 0, number, *share))
        return RecallReport(len(rows), documents, len(exact[0]), tuple(measurements), "n_full_scores")

    def close(self) -> None:
        """Close the files and give the memory back; closing again does nothing."""
        super().close()
        self._segments.release()

    def __repr__(self) -> str:
        return f"PlaidStore({self.path!r}, model={self.model.name!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        options = {name: value for name, value in self._given.items() if name != "path"}
        return partial(PlaidStore, **options), (self.path, self.model)

    def _prepare(self) -> None:
        self._segments = Segments(self.path, self._database, self._tables)
        self._builder = Builder(self.path, self._database, self._tables, self._segments, self._given["nbits"])

    @contextmanager
    def _view(self) -> Iterator[View]:
        """The store as it is now."""
        missing = None
        while True:
            index, fresh = self._segments.newest, self._held.newest
            with self._database.reading() as connection:
                try:
                    index = self._segments.in_step(connection, index)
                except FileNotFoundError as error:
                    # Another process has optimized since this transaction began: the next one sees what it did.
                    if error.filename == missing:
                        raise self._segments.missing(error.filename) from error
                    missing = error.filename
                    continue
                fresh = self._held.in_step(connection, fresh, index.after)
                self._warn(fresh.documents)
                yield View(self._database, self._tables, connection, self._segments, index, fresh)
                return

    @contextmanager
    def _finding(self) -> Iterator[tuple[sqlite3.Connection, Find]]:
        with self._view() as view:
            yield view.connection, lambda queries, wanted: view.find(queries, wanted, self._knobs_for(wanted))

    def _knobs_for(self, wanted: Wanted) -> Knobs:
        depth = wanted.depth or max(self._knobs.depth, wanted.k)
        return replace(self._knobs, depth=depth)

    def _warn(self, fresh: int) -> None:
        """Say once that a search takes longer than it has to."""
        if fresh <= MANY_FRESH:
            self._warned = False
        elif not self._warned:
            self._warned = True
            LOG.warning(
                "%s: scoring %s documents one by one; optimize() makes searches faster", self.path, f"{fresh:,}"
            )

    def _more_room(self) -> str:
        return "call optimize(), which builds an index over them on the disk"


def _knobs(n_ivf_probe: int | None, n_full_scores: int | None, depth: int) -> Knobs:
    """Numbers that may be given."""
    for name, number in (("n_ivf_probe", n_ivf_probe), ("n_full_scores", n_full_scores)):
        if number is not None:
            checked_count(name, number)
    return Knobs(n_ivf_probe, n_full_scores, depth)


def _names(found: list[list[tuple[int, float]]]) -> list[list[str]]:
    return [[str(row) for row, _ in best] for best in found]


def _check_ours(folder: str) -> None:
    """Refuses, by name, what is no folder of a store."""
    if os.path.lexists(folder) and not os.path.isdir(folder):
        raise StoreError(f"{folder}: is a file, wanted the path of a folder", store=folder)
    if not os.path.isdir(folder) or os.path.lexists(os.path.join(folder, DOCUMENTS)):
        return
    others = sorted(set(os.listdir(folder)) - {FOLDER, LOCK})
    if others:
        what = f"holds {others[0]!r} and no store; name an empty folder, or one that is not there yet"
        raise StoreError(f"{folder}: {what}", store=folder)
