"""The index of a `PlaidStore`: files that never change, and the manifest in the database that names them."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import threading
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np

from chandelier import _core
from chandelier.exceptions import ChandelierError, StoreError
from chandelier.store.local.database import Database
from chandelier.store.local.held import common
from chandelier.store.local.tables import Rows, State, Tables

__all__ = ["Index", "Listed", "Manifest", "Segment", "Segments", "text_of"]

FOLDER = "segments"
SETTING = "segments"
"""Where the manifest is: in a transaction with the documents, so that it is always in step with them."""

NAME = re.compile(r"[0-9a-f]{32}\.safetensors")
WAY_OUT = "optimize(rebuild=True) builds it again from the documents, nothing is lost"


@dataclass(frozen=True, slots=True)
class Listed:
    """A segment as the manifest names it.

    Attributes:
        file: Its name in the folder of segments.
        size: Bytes.
        first: The lowest row number in it.
        last: The highest. Row numbers only grow: no other segment has documents between the two.
        documents: How many there were when it was built.
    """

    file: str
    size: int
    first: int
    last: int
    documents: int


Manifest: TypeAlias = tuple[Listed, ...]
"""All segments, in the order of their row numbers."""


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """A segment that is open.

    Attributes:
        listed: What the manifest says.
        engine: The file, mapped.
        rows: The row numbers of its documents, rising.
        alive: The places of those that are still there; None for all.
    """

    listed: Listed
    engine: _core.PlaidSegment
    rows: Rows
    alive: Rows | None = None

    def places(self, rows: Rows | None) -> Rows | None:
        """The places of what may be found, of some rising row numbers, all of which are there; None for all."""
        return self.alive if rows is None else common(self.rows, rows)


@dataclass(frozen=True, slots=True, eq=False)
class Index:
    """All segments in one state of the database; nobody changes it.

    Attributes:
        state: The state.
        segments: In the order of their row numbers.
    """

    state: State
    segments: tuple[Segment, ...]

    @property
    def after(self) -> int:
        """The row number beyond which documents are in no segment."""
        return self.segments[-1].listed.last if self.segments else 0


class Segments:
    """The files, and the newest index.

    Args:
        store: The folder of the store, which errors name.
        database: Where the manifest is.
        tables: What stands in it.
    """

    def __init__(self, store: str, database: Database, tables: Tables) -> None:
        self.folder = os.path.join(store, FOLDER)
        self._store = store
        self._database = database
        self._tables = tables
        self._lock = threading.Lock()
        self.release()

    def release(self) -> None:
        """Close the files as soon as nobody uses them."""
        self.newest = Index(State(), ())

    # The manifest

    def text(self, connection: sqlite3.Connection) -> str:
        """The manifest as it is stored."""
        found = connection.execute("SELECT value FROM settings WHERE name = ?", (SETTING,)).fetchone()
        return found[0] if found is not None and isinstance(found[0], str) else ""

    def manifest(self, connection: sqlite3.Connection) -> Manifest:
        """The manifest."""
        try:
            listed = json.loads(self.text(connection))
            manifest = tuple(Listed(**each) for each in (listed if isinstance(listed, list) else [listed]))
        except (TypeError, ValueError, RecursionError):
            raise self._damaged("its list of segments cannot be read") from None
        if not all(map(_is_sound, manifest)) or any(one.last >= next.first for one, next in pairwise(manifest)):
            raise self._damaged("its list of segments is none that a store wrote")
        return manifest

    def replace_text(self, connection: sqlite3.Connection, text: str) -> None:
        """Put another manifest in its place."""
        connection.execute("UPDATE settings SET value = ? WHERE name = ?", (text, SETTING))

    # The files

    def path(self, file: str) -> str:
        """Where a file is."""
        return os.path.join(self.folder, file)

    def check(self, listed: Listed) -> None:
        """Refuses a file that is not as long as it was written, or a `FileNotFoundError`."""
        size = os.stat(self.path(listed.file)).st_size
        if size != listed.size:
            raise self._damaged(f"{FOLDER}/{listed.file} has {size:,} bytes, wanted {listed.size:,}")

    def missing(self, path: str) -> StoreError:
        """The error for a file that the manifest names and that is not there."""
        return self._damaged(f"{FOLDER}/{os.path.basename(path)} is missing")

    def unreadable(self, listed: Listed, error: Exception) -> StoreError:
        """The error for what the core says of a file."""
        return self._damaged(f"{FOLDER}/{listed.file} cannot be read: {error}")

    # What is open

    def in_step(self, connection: sqlite3.Connection, known: Index) -> Index:
        """The index that a connection sees; `known` was the newest before its transaction began.

        Raises:
            FileNotFoundError: If a file is gone: another process has optimized since the transaction began, or the
                store is damaged.
        """
        state = self._tables.state(connection)
        if known.state == state:
            return known
        with self._lock:
            if self.newest.state == state:
                return self.newest
            went_back = not self._tables.became(connection, known.state)  # an older copy was written over the file
            is_newest = self._tables.became(connection, self.newest.state)
            same = is_newest and state.deletions == self.newest.state.deletions
            index = Index(
                state, self._brought_to(connection, {each.listed: each for each in self.newest.segments}, same)
            )
            if went_back or is_newest:
                self.newest = index
            return index

    def _brought_to(
        self, connection: sqlite3.Connection, known: dict[Listed, Segment], same: bool
    ) -> tuple[Segment, ...]:
        """The segments of the manifest; `same` if nothing was deleted since those that are known were brought up."""
        manifest = self.manifest(connection)
        if not manifest:
            return ()
        if same and all(listed in known for listed in manifest):
            return tuple(known[listed] for listed in manifest)
        rows = self._tables.rows_with_vectors(connection)
        segments = tuple(self._alive(known.get(listed) or self._open(listed), rows) for listed in manifest)
        found = sum(len(each.rows if each.alive is None else each.alive) for each in segments)
        if found != np.searchsorted(rows, manifest[-1].last, side="right"):
            raise self._damaged("its segments leave out documents")
        return segments

    def _alive(self, segment: Segment, rows: Rows) -> Segment:
        alive = common(segment.rows, rows)
        return Segment(segment.listed, segment.engine, segment.rows, None if len(alive) == len(segment.rows) else alive)

    def _open(self, listed: Listed) -> Segment:
        self.check(listed)
        try:
            engine = _core.PlaidSegment(self.path(listed.file))
        except FileNotFoundError:
            raise
        except (ChandelierError, OSError) as error:
            raise self.unreadable(listed, error) from error
        rows = engine.rows
        ends = (int(rows[0]), int(rows[-1])) if len(rows) else None
        if (engine.dim, len(rows), ends) != (self._tables.dim, listed.documents, (listed.first, listed.last)):
            raise self._damaged(f"{FOLDER}/{listed.file} is another segment than was written under this name")
        return Segment(listed, engine, rows)

    def _damaged(self, what: str) -> StoreError:
        return StoreError(f"{self._store}: is damaged: {what}; {WAY_OUT}", store=self._store)


def text_of(manifest: Manifest) -> str:
    """A manifest as it is stored."""
    return json.dumps([asdict(each) for each in manifest])


def _is_sound(listed: Listed) -> bool:
    numbers = (listed.size, listed.first, listed.last, listed.documents)
    return (
        isinstance(listed.file, str)
        and NAME.fullmatch(listed.file) is not None
        and all(type(number) is int and number > 0 for number in numbers)
        and listed.documents <= listed.last - listed.first + 1
    )
