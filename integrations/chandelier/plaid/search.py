"""One search of a `PlaidStore`: segments give candidates, the rows in SQLite their true scores."""

from __future__ import annotations

import heapq
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias

import numpy as np

from chandelier.exceptions import ChandelierError
from chandelier.maths import top_k
from chandelier.multivectors import Float32Array, FloatArray
from chandelier.plaid.segments import Index, Segment, Segments
from chandelier.store.local.database import Database
from chandelier.store.local.held import Snapshot
from chandelier.store.local.sqlite import Wanted
from chandelier.store.local.tables import Rows, Tables

__all__ = ["Knobs", "View"]

FULL_SCORES = (512, 2048)
"""What `n_full_scores` is unless it is given: a share of a segment's documents, from 8,000 to 32,000 of them."""

DOCUMENTS_A_FULL_SCORE, FULL_SCORES_A_CANDIDATE = 16, 4

MOST_QUERY_ROWS = 4096
"""Of a query that the index is asked: the products of its rows with all centroids are in memory, 1 GB of them. A longer
one, which is no question but a book, is scored against everything."""

PAGE_BYTES = 32 << 20

Best: TypeAlias = list[tuple[int, float]]
"""Row numbers and scores, best first, the older first of equals."""


@dataclass(frozen=True, slots=True)
class Knobs:
    """How hard PLAID looks.

    Attributes:
        n_ivf_probe: How many cells are looked into for each row of the query; None for all.
        n_full_scores: How many candidates of a segment get a score from their residuals; None for a default.
        depth: How many of these are scored exactly.
    """

    n_ivf_probe: int | None
    n_full_scores: int | None
    depth: int

    def full_scores(self, documents: int) -> int:
        """Of a segment with so many that may be found; what is scored exactly has a score from its residuals."""
        if self.n_full_scores is not None:
            return max(self.n_full_scores, self.depth)
        least, most = FULL_SCORES
        share = min(max(documents // DOCUMENTS_A_FULL_SCORE, least), most)
        return max(share, FULL_SCORES_A_CANDIDATE * self.depth)


@dataclass(frozen=True, slots=True)
class Chosen:
    """What may be found of a segment, at least one document; `places` None for all."""

    segment: Segment
    places: Rows | None

    @property
    def rows(self) -> Rows:
        """Its row numbers, rising."""
        return self.segment.rows if self.places is None else self.segment.rows[self.places]

    def __len__(self) -> int:
        return len(self.segment.rows if self.places is None else self.places)


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A store in one state.

    Attributes:
        connection: Sees the state.
        segments: The files.
        index: Those of the state.
        fresh: The documents that are in none of them.
    """

    database: Database
    tables: Tables
    connection: sqlite3.Connection
    segments: Segments
    index: Index
    fresh: Snapshot

    def find(self, queries: list[Float32Array], wanted: Wanted, knobs: Knobs) -> list[Best]:
        """The best documents for each query."""
        chosen = [Chosen(each, each.places(wanted.rows)) for each in self.index.segments]
        chosen = [each for each in chosen if len(each)]
        everything = [each.rows for each in chosen]
        # Where all would be candidates anyway, a filter that few pass say, nothing has to find them.
        if wanted.exact or sum(map(len, chosen)) <= knobs.depth:
            found = self._scored(queries, wanted.k, everything)
        else:
            found = []
            for query in queries:
                is_short = len(query) <= MOST_QUERY_ROWS
                rows = [self._candidates(query, chosen, wanted.k, knobs)] if is_short else everything
                found += self._scored([query], wanted.k, rows)
        fresh = (self.fresh.top_k(query, wanted.k, wanted.rows) for query in queries)
        return [_best([old, new], wanted.k) for old, new in zip(found, fresh, strict=True)]

    def _candidates(self, query: Float32Array, chosen: list[Chosen], k: int, knobs: Knobs) -> Rows:
        """The row numbers of the `depth` documents that look best, rising."""
        found = [self._approximate(query, each, knobs) for each in chosen]
        if knobs.n_ivf_probe is not None and sum(len(rows) for rows, _ in found) < k:
            # The cells of a few rows of a query may hold fewer documents than are wanted, although there are more.
            return self._candidates(query, chosen, k, Knobs(None, knobs.n_full_scores, knobs.depth))
        rows = np.concatenate([rows for rows, _ in found])
        scores = np.concatenate([scores for _, scores in found])
        return np.sort(rows[np.lexsort((rows, -scores))[: knobs.depth]])

    def _approximate(self, query: Float32Array, chosen: Chosen, knobs: Knobs) -> tuple[Rows, Float32Array]:
        probes = None if len(chosen) <= knobs.depth else knobs.n_ivf_probe
        engine = chosen.segment.engine
        try:
            full_scores = knobs.full_scores(len(chosen))
            places, scores = engine.search(query, knobs.depth, probes, full_scores, chosen.places)
        except ChandelierError as error:  # the query was checked: it is the file
            raise self.segments.unreadable(chosen.segment.listed, error) from error
        return chosen.segment.rows[places], scores

    def _scored(self, queries: list[Float32Array], k: int, rows: list[Rows]) -> list[Best]:
        """The best of some documents, by MaxSim; rising row numbers."""
        found: list[Best] = [[] for _ in queries]
        for numbers, vectors in self._pages(rows):
            for index, query in enumerate(queries):
                places, scores = top_k(query, vectors, k)
                page = [(numbers[place], score) for place, score in zip(places.tolist(), scores.tolist(), strict=True)]
                found[index] = _best([found[index], page], k)
        return found

    def _pages(self, rows: list[Rows]) -> Iterator[tuple[list[int], list[FloatArray]]]:
        """The vectors, as many at a time as memory has room for whatever there is."""
        numbers: list[int] = []
        vectors: list[FloatArray] = []
        size = count = 0
        for part in rows:
            for row, matrix in self.tables.vectors_of(self.connection, part):
                numbers.append(row)
                vectors.append(matrix)
                size += matrix.nbytes
                if size >= PAGE_BYTES:
                    yield numbers, vectors
                    count += len(numbers)
                    numbers, vectors, size = [], [], 0
        if numbers:
            yield numbers, vectors
        if count + len(numbers) != sum(map(len, rows)):
            raise self.database.damaged("vectors are missing")


def _best(found: Iterable[Best], k: int) -> Best:
    return list(islice(heapq.merge(*found, key=lambda each: (-each[1], each[0])), k))
