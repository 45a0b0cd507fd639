"""The vectors of a store in memory: read from the file by the first search, and kept in step with it."""

from __future__ import annotations

import heapq
import logging
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np

from chandelier.maths import top_k
from chandelier.multivectors import Float32Array, MultiVectors
from chandelier.store.local.database import Database
from chandelier.store.local.memory import available
from chandelier.store.local.tables import Rows, State, Tables

__all__ = ["Held", "Snapshot", "common"]

LOG = logging.getLogger("chandelier")

PART_BYTES = 256 << 20
"""Up to here parts are merged: enough to keep all cores busy, and soon copied."""

LOUD_BYTES = 64 << 20
"""From here on taking memory is a warning, which is seen by default."""


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Some documents in one piece.

    Attributes:
        rows: Their row numbers, rising.
        vectors: Their vectors.
        alive: The places of those that are still there; None for all.
    """

    rows: Rows
    vectors: MultiVectors
    alive: Rows | None = None

    @property
    def nbytes(self) -> int:
        """What it takes in memory."""
        return self.vectors.data.nbytes

    @property
    def tokens(self) -> int:
        """How many rows of vectors are still there."""
        lengths = np.diff(self.vectors.offsets)
        return int((lengths if self.alive is None else lengths[self.alive]).sum())

    def places(self, rows: Rows) -> Rows:
        """The places of those of some rising row numbers that are here."""
        return common(self.rows, rows)

    def only(self, rows: Rows) -> Part | None:
        """What is left of it when these row numbers are still there; None for nothing."""
        alive = self.places(rows)
        if not len(alive):
            return None
        part = Part(self.rows, self.vectors, None if len(alive) == len(self.rows) else alive)
        return part if 2 * part.tokens > len(self.vectors.data) else part.packed()

    def packed(self) -> Part:
        """The same without what is gone."""
        if self.alive is None:
            return self
        vectors = MultiVectors.from_arrays((self.vectors[int(place)] for place in self.alive), dim=self.vectors.dim)
        return Part(self.rows[self.alive], vectors)

    def followed_by(self, other: Part) -> Part:
        """Both as one."""
        first, second = self.packed(), other.packed()
        data = np.concatenate([first.vectors.data, second.vectors.data])
        offsets = np.concatenate([first.vectors.offsets, second.vectors.offsets[1:] + len(first.vectors.data)])
        return Part(np.concatenate([first.rows, second.rows]), MultiVectors.own(data, offsets))


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """All vectors in one state of the file; nobody changes it, so searching it needs no lock.

    Attributes:
        state: The state.
        parts: The vectors, in the order of their row numbers.
        after: The row number beyond which they are; those up to it are found in another way.
    """

    state: State
    parts: tuple[Part, ...]
    after: int = 0

    @classmethod
    def of_nothing(cls) -> Snapshot:
        """The state before anything is stored."""
        return cls(State(), ())

    @property
    def nbytes(self) -> int:
        """What it takes in memory."""
        return sum(part.nbytes for part in self.parts)

    @property
    def documents(self) -> int:
        """How many there are."""
        return sum(len(part.rows if part.alive is None else part.alive) for part in self.parts)

    def top_k(self, query: Float32Array, k: int, rows: Rows | None) -> list[tuple[int, float]]:
        """Row numbers and scores of the best documents, best first, the older first of equals.

        Args:
            query: `(tokens, dim)`.
            k: How many.
            rows: The row numbers of those that may be found, rising; None for all.
        """
        best = []
        for part in self.parts:
            places, scores = top_k(query, part.vectors, k, subset=part.alive if rows is None else part.places(rows))
            best.append(list(zip(part.rows[places].tolist(), scores.tolist(), strict=True)))
        return list(islice(heapq.merge(*best, key=lambda each: (-each[1], each[0])), k))


class Held:
    """The newest snapshot.

    Args:
        database: The file.
        tables: What stands in it.
        memory_limit: Bytes that vectors may take; None for what the system has.
        way_out: What to do when they would take more.
    """

    def __init__(self, database: Database, tables: Tables, memory_limit: int | None, way_out: str) -> None:
        self._database = database
        self._tables = tables
        self._memory_limit = memory_limit
        self._way_out = way_out
        self._lock = threading.Lock()
        self.newest = Snapshot.of_nothing()

    def release(self) -> None:
        """Give the memory back."""
        self.newest = Snapshot.of_nothing()

    def in_step(self, connection: sqlite3.Connection, known: Snapshot, after: int = 0) -> Snapshot:
        """The snapshot that a connection sees; `known` was the newest before its transaction began.

        Only what is beyond the row number `after` is held, which must be the same whenever the state is.
        """
        state = self._tables.state(connection)
        if known.state == state:
            return known
        with self._lock:
            if self.newest.state == state:
                return self.newest
            went_back = not self._tables.became(connection, known.state)  # an older copy was written over the file
            base = self.newest if self._tables.became(connection, self.newest.state) else known
            try:
                starts_anew = went_back or base.after > after
                snapshot = self._brought_to(state, connection, Snapshot.of_nothing() if starts_anew else base, after)
            except MemoryError as error:
                raise self._database.error("the system gives no more memory for its vectors") from error
            if went_back or base is self.newest:
                self.newest = snapshot
            return snapshot

    def check_room(self, tokens: int) -> None:
        """Refuses to hold so many tokens if there is no memory for them."""
        needed = tokens * self._tables.token_bytes
        room = self._memory_limit
        if room is None and (left := available()) is not None:
            room = left + self.newest.nbytes
        if room is not None and needed > room:
            limit = "available" if self._memory_limit is None else "allowed by memory_limit"
            message = f"its vectors take {_size(needed)} of memory, {_size(room)} are {limit}"
            raise self._database.error(f"{message}; {self._way_out}")

    def _brought_to(self, state: State, connection: sqlite3.Connection, base: Snapshot, after: int) -> Snapshot:
        tokens = self._tables.tokens(connection, after)
        self.check_room(tokens)
        parts = list(base.parts)
        if (state.deletions, after) != (base.state.deletions, base.after):
            rows = self._tables.rows_with_vectors(connection, after)
            parts = [left for part in parts if (left := part.only(rows)) is not None]
        for part in self._loaded(connection, max(base.state.last, after)):
            parts.append(part)
            while len(parts) > 1 and _belong_together(*parts[-2:]):
                parts[-2:] = [parts[-2].followed_by(parts[-1])]
        if sum(part.tokens for part in parts) != tokens:
            raise self._database.damaged("vectors are missing")
        return Snapshot(state, tuple(parts), after)

    def _loaded(self, connection: sqlite3.Connection, after: int) -> Iterator[Part]:
        """What is new, straight from the file to its place."""
        rows, lengths = self._tables.lengths(connection, after)
        if not len(rows):
            return
        needed = int(lengths.sum()) * self._tables.token_bytes
        level = logging.WARNING if needed >= LOUD_BYTES else logging.INFO
        LOG.log(level, "%s: taking %s of memory for vectors", self._database.name, _size(needed))
        vectors = self._tables.vectors(connection, after)
        start = 0
        while start < len(rows):
            offsets = np.concatenate([[0], np.cumsum(lengths[start:])])
            most = PART_BYTES // self._tables.token_bytes
            count = max(1, int(np.searchsorted(offsets, most, side="right")) - 1)
            offsets = offsets[: count + 1]
            data = np.empty((int(offsets[-1]), self._tables.dim), self._tables.datatype)
            for place in range(count):
                row, matrix = next(vectors, (0, data[:0]))
                if row != rows[start + place] or len(matrix) != lengths[start + place]:
                    raise self._database.damaged("its tables do not agree")
                data[offsets[place] : offsets[place + 1]] = matrix
            yield Part(rows[start : start + count], MultiVectors.own(data, offsets))
            start += count


def common(rows: Rows, others: Rows) -> Rows:
    """The places in some rising row numbers, at least one, of those that are also among others."""
    first, last = np.searchsorted(others, (rows[0], rows[-1] + 1))
    inside = others[first:last]
    places = np.searchsorted(rows, inside)
    found: Rows = places[rows[places] == inside]
    return found


def _belong_together(first: Part, second: Part) -> bool:
    """Whether to merge: each part is to be twice as large as the next, so that there are few, and few copies."""
    together = first.nbytes + second.nbytes
    return together <= PART_BYTES and first.nbytes < 2 * second.nbytes


def _size(size: int) -> str:
    return f"{size / (1 << 30):,.1f} GiB" if size >= 1 << 30 else f"{size / (1 << 20):,.1f} MiB"
