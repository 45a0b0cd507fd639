"""How the index of a `PlaidStore` is brought up to date: planned, built beside what is there, and swapped."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from chandelier import _core
from chandelier.exceptions import StoreError
from chandelier.multivectors import FloatArray
from chandelier.plaid.segments import NAME, Listed, Manifest, Segments, text_of
from chandelier.store.folders import sync
from chandelier.store.local.database import Database
from chandelier.store.local.tables import Rows, State, Tables

__all__ = ["Builder", "planned"]

LOCK = "optimize.lock"
UNFINISHED = re.compile(r"\.tmp[0-9A-Za-z]{6}")
"""What a file is called until it is whole."""

FEWEST = 256
"""Documents from which on an index is worth it: fewer are scored exactly in less time."""

SEGMENT_TOKENS = 1 << 25
"""No segment has more, unless one document has: while it is built, each takes about 100 bytes of memory."""

SAMPLE_TOKENS = 24
"""Of each centroid, that it is computed from."""

PAGE_TOKENS = 1 << 17
"""That are read and given to the builder at once."""

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Documents that are to be one segment.

    Attributes:
        rows: The row numbers of those that are there, rising.
        lengths: How many tokens each has.
        listed: The segment that has them and stays as it is; None for one that is to be built.
    """

    rows: Rows
    lengths: Rows
    listed: Listed | None = None

    @property
    def tokens(self) -> int:
        """How many there are."""
        return int(self.lengths.sum())

    @property
    def size(self) -> int:
        """Documents, as they count for merging: a segment does not seem smaller for every one that is deleted."""
        return len(self.rows) if self.listed is None else self.listed.documents

    def followed_by(self, other: Piece) -> Piece:
        """Both as one, to be built."""
        return Piece(np.concatenate([self.rows, other.rows]), np.concatenate([self.lengths, other.lengths]))


def planned(manifest: Manifest, rows: Rows, lengths: Rows) -> list[Piece]:
    """What the segments are to be, in the order of their row numbers.

    What is in none becomes one, and one of which more than half is gone is built again. Each is to be at least twice as
    large as the next, so that there are few, and few documents are built into a segment more than a few times.

    Args:
        manifest: The segments that may stay.
        rows: The row numbers of all documents that have vectors, rising.
        lengths: How many tokens each has.
    """
    if len(rows) < FEWEST:
        return []
    pieces: list[Piece] = []
    for listed in manifest:
        first, last = np.searchsorted(rows, (listed.first, listed.last + 1))
        stays = 2 * (last - first) >= listed.documents
        _push(pieces, Piece(rows[first:last], lengths[first:last], listed if stays else None))
    fresh = int(np.searchsorted(rows, manifest[-1].last, side="right")) if manifest else 0
    for part in _parts(lengths[fresh:], SEGMENT_TOKENS):
        _push(pieces, Piece(rows[fresh:][part], lengths[fresh:][part]))
    return pieces


def _parts(lengths: Rows, tokens: int) -> Iterator[slice]:
    """Documents in parts of at most so many tokens; one that has more is a part of its own."""
    ends = np.cumsum(lengths)
    start = 0
    while start < len(lengths):
        before = ends[start - 1] if start else 0
        end = max(start + 1, int(np.searchsorted(ends, before + tokens, side="right")))
        yield slice(start, end)
        start = end


def _push(pieces: list[Piece], piece: Piece) -> None:
    if len(piece.rows):
        pieces.append(piece)
    while len(pieces) > 1 and _belong_together(*pieces[-2:]):
        pieces[-2:] = [pieces[-2].followed_by(pieces[-1])]


def _belong_together(first: Piece, second: Piece) -> bool:
    return first.size < 2 * second.size and first.tokens + second.tokens <= SEGMENT_TOKENS


class Builder:
    """Brings the index up to date.

    Args:
        store: The folder of the store.
        database: Where documents and manifest are.
        tables: What stands in it.
        segments: The files.
        nbits: Of each value of a residual.
    """

    def __init__(self, store: str, database: Database, tables: Tables, segments: Segments, nbits: int) -> None:
        self._store = store
        self._database = database
        self._tables = tables
        self._segments = segments
        self._nbits = nbits

    def optimize(self, rebuild: bool, progress: bool) -> bool:
        """Whether there was anything to do; see `PlaidStore.optimize`."""
        with self._database.reading():  # a store that is closed says so before it waits for anybody
            pass
        with self._errors(), self._locked():
            if not os.path.isdir(self._segments.folder):
                os.mkdir(self._segments.folder)
                sync(self._store)
            self._clean()  # what a crash has left needs room
            try:
                return self._brought_up_to_date(rebuild, progress)
            finally:
                with suppress(StoreError):  # what ended the work says more
                    self._clean()

    def _brought_up_to_date(self, rebuild: bool, progress: bool) -> bool:
        with self._database.reading() as connection:
            state, text = self._tables.state(connection), self._segments.text(connection)
            manifest = () if rebuild else self._segments.manifest(connection)
            rows, lengths = self._tables.lengths(connection, 0)
        self._check(manifest)
        pieces = planned(manifest, rows, lengths)
        with ExitStack() as stack:
            bar = None
            if progress:
                from tqdm.auto import tqdm  # 30 ms that only a bar is worth

                total = sum(len(piece.rows) for piece in pieces if piece.listed is None)
                bar = stack.enter_context(tqdm(total=total, desc="optimizing", unit=" documents"))
            made = [piece.listed or self._built(piece, bar) for piece in pieces]
        new = text_of(tuple(listed for listed in made if listed is not None))
        if new == text:
            return False
        with self._database.writing() as connection:
            self._check_unchanged(connection, state, text)
            self._segments.replace_text(connection, new)
        return True

    def _built(self, piece: Piece, bar: Any) -> Listed | None:
        """A segment on the disk; None if all its documents were deleted meanwhile."""
        partitions = _core.plaid_partitions(piece.tokens)
        sample = [matrix for _, matrix in self._read(_spread(piece, SAMPLE_TOKENS * partitions))]
        if not sample:
            return None
        if bar is not None:
            bar.set_description("optimizing: training centroids")
        data = np.concatenate(sample)
        builder = _core.PlaidBuilder(data, self._nbits, min(partitions, len(data)))
        del sample, data
        if bar is not None:
            bar.set_description("optimizing")
        rows: list[int] = []
        for numbers, matrices in self._pages(piece):
            offsets = np.concatenate([[0], np.cumsum([len(matrix) for matrix in matrices])])
            builder.add(np.array(numbers, np.int64), np.concatenate(matrices), offsets.astype(np.int64))
            rows += numbers
            if bar is not None:
                bar.update(len(numbers))
        if not rows:
            return None
        file = f"{uuid.uuid4().hex}.safetensors"
        path = self._segments.path(file)
        builder.write(path)
        sync(self._segments.folder)
        return Listed(file, os.stat(path).st_size, rows[0], rows[-1], len(rows))

    def _pages(self, piece: Piece) -> Iterator[tuple[list[int], list[FloatArray]]]:
        """The documents of a piece that are still there, some at a time."""
        for part in _parts(piece.lengths, PAGE_TOKENS):
            if page := self._read(piece.rows[part]):
                numbers, matrices = zip(*page, strict=True)
                yield list(numbers), list(matrices)

    def _read(self, rows: Rows) -> list[tuple[int, FloatArray]]:
        """The vectors of some documents, in a transaction of its own: a long one keeps SQLite's log from ending."""
        with self._database.reading() as connection:
            return list(self._tables.vectors_of(connection, rows))

    def _check(self, manifest: Manifest) -> None:
        """Refuses to leave what is damaged in the index."""
        for listed in manifest:
            try:
                self._segments.check(listed)
            except FileNotFoundError as error:
                raise self._segments.missing(listed.file) from error

    def _check_unchanged(self, connection: Any, state: State, text: str) -> None:
        if not self._tables.became(connection, state) or self._segments.text(connection) != text:
            message = "its documents were replaced by another copy of them while the index was built; try again"
            raise StoreError(f"{self._store}: {message}", store=self._store)

    def _clean(self) -> None:
        """Delete the files that the manifest does not name: those of a crash, and those that were replaced."""
        with self._database.reading() as connection:
            text = self._segments.text(connection)
        for name in os.listdir(self._segments.folder):
            is_ours = NAME.fullmatch(name) or UNFINISHED.fullmatch(name)
            if is_ours and name not in text:  # a manifest that is damaged may name files too
                os.unlink(self._segments.path(name))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One optimizer at a time, of all processes; the others wait."""
        descriptor = os.open(os.path.join(self._store, LOCK), os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(descriptor, fcntl.LOCK_UN)  # for children too that were forked meanwhile
        finally:
            os.close(descriptor)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            way_out = "make room, and optimize again" if error.errno in NO_ROOM else "optimize again when it can be"
            reason = os.strerror(error.errno) if error.errno else error
            message = f"the index cannot be written: {reason}; {way_out}"
            raise StoreError(
                f"{self._store}: {message}; documents and index are as they were", store=self._store
            ) from error


def _spread(piece: Piece, tokens: int) -> Rows:
    """Documents of about so many tokens, spread evenly; all if there are not more."""
    count = len(piece.rows)
    if piece.tokens > tokens:
        count = max(1, count * tokens // piece.tokens)
    chosen: Rows = piece.rows[np.arange(count) * len(piece.rows) // count]
    return chosen
