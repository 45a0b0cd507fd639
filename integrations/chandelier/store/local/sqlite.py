"""`SqliteStore`: documents, their vectors and whatever is known of them in SQLite; subclasses find the best of them."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from chandelier.exceptions import ArgumentError
from chandelier.multivectors import Float32Array, checked_count
from chandelier.store.documents import Document, Hit, UpsertReport, checked_ids
from chandelier.store.encoding import Encoding, Query, checked_query, checked_search
from chandelier.store.filters import And, parse, passes_everything
from chandelier.store.intake import Entry, Intake
from chandelier.store.local.database import Database
from chandelier.store.local.held import Held
from chandelier.store.local.sql import Condition, compiled
from chandelier.store.local.tables import LITTLE_ENDIAN, Rows, Stored, Tables
from chandelier.store.protocol import ThreadedStore

if TYPE_CHECKING:
    import sqlite3

    from chandelier.models import ColBERT

__all__ = ["Find", "SqliteStore", "Wanted"]

PAGE = 256
PAGE_WITH_VECTORS = 32


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be found for a query.

    Attributes:
        k: How many documents.
        rows: The row numbers of those that may be found, rising; None for all.
        depth: How many candidates to score exactly, at least `k`; None for as many as the store likes.
        exact: Whether to score all.
    """

    k: int
    rows: Rows | None
    depth: int | None
    exact: bool


Find: TypeAlias = Callable[[list[Float32Array], Wanted], list[list[tuple[int, float]]]]
"""From queries to the row numbers and scores of each one's best, best first, the older first of equals."""


class SqliteStore(ThreadedStore):
    """What `LocalStore` and `PlaidStore` share: all but their constructors, and how the best documents are found.

    Args:
        encoding: The model, and how it is used.
        path: The file of SQLite; None for a database in memory.
        datatype: Of the vectors; None for what the file says, and float32 for a new one.
        memory_limit: How many bytes the vectors in memory may take; None for as much as is available.
        settings: What else a new file keeps.
    """

    def __init__(
        self, encoding: Encoding, path: str | None, *, datatype: str | None, memory_limit: int | None, **settings: str
    ) -> None:
        if memory_limit is not None:
            memory_limit = checked_count("memory_limit", memory_limit, most=(1 << 63) - 1)
        self._encoding = encoding
        self._memory_limit = memory_limit
        wanted = {
            "fingerprint": encoding.fingerprint,
            "model": encoding.model.name,
            "dim": encoding.dim,
            "datatype": datatype,
            **dict.fromkeys(settings),
        }
        self._database = Database(path, wanted, {"datatype": "float32", **settings})
        try:
            kept = self._database.settings["datatype"]
            if kept not in LITTLE_ENDIAN:
                raise self._database.damaged("its datatype")
            self._tables = Tables(self._database, encoding.dim, kept)
            self._held = Held(self._database, self._tables, memory_limit, self._more_room())
            self._prepare()
        except BaseException:
            self._database.close()
            raise
        OPEN.add(self)

    @property
    def model(self) -> ColBERT:
        """What encodes documents and queries."""
        return self._encoding.model

    @property
    def datatype(self) -> str:
        """Of the vectors, `"float32"` or `"float16"`."""
        return str(self._tables.datatype)

    def upsert(
        self, documents: Iterable[Document], *, progress: bool = False, raise_on_failure: bool = False
    ) -> UpsertReport:
        """Store documents; one with an id that is there replaces it. See `Store.upsert`.

        Documents are encoded and written in portions, each of which is stored whole or not at all.

        Raises:
            StoreError: If the file cannot be written (a full disk, say), or a `LocalStore`'s vectors become larger than
                the memory that has to hold them; `report` says what was stored before.
            PartialUpsertError: With `raise_on_failure`, if a document was refused; the others are stored.
        """
        intake = Intake(documents, self._encoding, progress)
        with intake.reporting():
            with self._database.reading():  # whatever is wrong with the file shows before anything is encoded
                pass
            for entries in intake:
                self._store(entries, intake)
        return intake.finish(self._database.name, raise_on_failure)

    def search(
        self,
        query: Query,
        k: int = 10,
        *,
        filter: Mapping[str, Any] | None = None,
        depth: int | None = None,
        explain: bool = False,
        with_vectors: bool = False,
        exact: bool = False,
    ) -> list[Hit]:
        """The `k` documents with the highest MaxSim, best first, the one stored earlier first of equals.

        Args:
            query: A text, or rows `(tokens, dim)`.
            k: How many; fewer come if there are fewer.
            filter: What the metadata must be like; see `chandelier.store.filters`.
            depth: How many candidates are scored exactly, at least `k`, where the store does not score all.
            explain: Say which words matched (`Hit.explanation`); the query must be a text.
            with_vectors: Give the rows of the hits too, in the store's datatype.
            exact: Score all documents that pass the filter, as a `LocalStore` always does.
        """
        options = dict(filter=filter, depth=depth, explain=explain, with_vectors=with_vectors, exact=exact)
        return self.search_many([checked_query(query)], k, **options)[0]  # type: ignore[arg-type]

    def search_many(
        self,
        queries: Iterable[Query],
        k: int = 10,
        *,
        filter: Mapping[str, Any] | None = None,
        depth: int | None = None,
        explain: bool = False,
        with_vectors: bool = False,
        exact: bool = False,
    ) -> list[list[Hit]]:
        """Search for several queries at once, in one state of the store; see `search`."""
        k, depth = checked_search(k, depth)
        condition = _condition(filter)
        asked = self._encoding.queries(queries)
        if explain:
            self._encoding.check_explains(asked)
        if not asked:
            return []
        with self._finding() as (connection, find):
            rows = None if condition is None else self._tables.rows_where(connection, condition)
            found = find([query.rows for query in asked], Wanted(k, rows, depth, exact))
            stored = self._tables.with_rows(connection, (row for best in found for row, _ in best), with_vectors)
        documents = {each.row: each for each in stored}
        hits = [[_hit(documents[row], score) for row, score in best] for best in found]
        if explain:
            hits = [self._encoding.explained(query, best) for query, best in zip(asked, hits, strict=True)]
        return hits

    def get(self, ids: Iterable[str], *, with_vectors: bool = False) -> list[Document]:
        """The documents with these ids, in their order; an id that is not there is left out."""
        wanted = checked_ids(ids)
        with self._database.reading() as connection:
            stored = self._tables.with_ids(connection, list(dict.fromkeys(wanted)), with_vectors)
        documents = {each.document.id: _document(each) for each in stored}
        return [documents[id] for id in wanted if id in documents]

    def delete(self, ids: Iterable[str] | None = None, *, filter: Mapping[str, Any] | None = None) -> int:
        """Delete the documents with these ids, or all that pass a filter; how many there were."""
        if (ids is None) == (filter is None):
            got = "neither" if ids is None else "both"
            raise ArgumentError(f"delete: got {got} of ids and filter, wanted one; delete_all() deletes everything")
        if ids is not None:
            wanted = list(dict.fromkeys(checked_ids(ids)))
            with self._database.writing() as connection:
                return self._tables.delete(connection, self._tables.rows_of(connection, wanted))
        condition = _condition(filter)
        if condition is None:
            got = f"filter: got {str(filter)[:80]}"
            raise ArgumentError(f"{got}, which everything passes; use delete_all()", argument="filter")
        with self._database.writing() as connection:
            return self._tables.delete(connection, self._tables.rows_where(connection, condition))

    def delete_all(self) -> int:
        """Delete every document; how many there were."""
        with self._database.writing() as connection:
            return self._tables.delete_all(connection)

    def count(self, filter: Mapping[str, Any] | None = None) -> int:
        """How many documents there are, or pass a filter."""
        condition = _condition(filter)
        with self._database.reading() as connection:
            return self._tables.count(connection, condition)

    def iterate(self, *, filter: Mapping[str, Any] | None = None, with_vectors: bool = False) -> Iterator[Document]:
        """The documents that are there now, or pass a filter, in the order in which they were stored.

        Each comes once, as it is when its turn comes; only their ids are held in memory. So the store may be written to
        meanwhile: what is deleted does not come, nor does what is new.
        """
        condition = _condition(filter)
        with self._database.reading() as connection:
            ids = self._tables.ids_where(connection, condition)
        return self._each(ids, with_vectors)

    def vacuum(self) -> None:
        """Make the file smaller by what was deleted. It needs as much room again on the disk for a moment."""
        self._database.vacuum()

    def close(self) -> None:
        """Close the file and give the memory back; closing again does nothing."""
        self._database.close()
        self._held.release()

    def _store(self, entries: list[Entry], intake: Intake) -> None:
        """One portion."""
        fitting = []
        for entry in entries:
            if reason := self._tables.refusal(entry):
                intake.refused(entry.id, reason)
            else:
                fitting.append(entry)
        with self._database.writing() as connection:
            self._tables.store(connection, fitting)
            self._check_room(connection)
        intake.stored(fitting)

    def _each(self, ids: list[str], with_vectors: bool) -> Iterator[Document]:
        page = PAGE_WITH_VECTORS if with_vectors else PAGE
        for start in range(0, len(ids), page):
            yield from self.get(ids[start : start + page], with_vectors=with_vectors)

    def _prepare(self) -> None:
        """Make what a subclass has besides, before anybody uses the store, or forks."""

    def _finding(self) -> AbstractContextManager[tuple[sqlite3.Connection, Find]]:
        """A connection, and what finds documents in the state that it sees."""
        raise NotImplementedError

    def _check_room(self, connection: sqlite3.Connection) -> None:
        """Refuses, before they are kept, documents that nobody could search."""

    def _more_room(self) -> str:
        """What to do when the vectors do not fit into memory."""
        raise NotImplementedError


OPEN: weakref.WeakSet[SqliteStore] = weakref.WeakSet()


def _after_fork() -> None:
    for store in OPEN:
        store._database.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _condition(filter: Mapping[str, Any] | None) -> Condition | None:
    """A filter in SQL; None for one that everything passes."""
    node = And(()) if filter is None else parse(filter)
    return None if passes_everything(node) else compiled(node)


def _document(stored: Stored) -> Document:
    document = stored.document
    return Document(document.id, document.text, document.metadata, stored.vectors)


def _hit(stored: Stored, score: float) -> Hit:
    document = stored.document
    return Hit(document.id, score, document.text, dict(document.metadata), stored.vectors)
