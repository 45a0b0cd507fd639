"""`LocalStore`: one file of SQLite, or memory, and exact MaxSim over all that is in it."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from chandelier.exceptions import ArgumentError
from chandelier.multivectors import checked_count, checked_path
from chandelier.store.descriptions import description_of
from chandelier.store.documents import Document, Hit, UpsertReport, checked_ids
from chandelier.store.encoding import Encoding, Query, checked_query, checked_search
from chandelier.store.filters import And, parse, passes_everything
from chandelier.store.intake import Entry, Intake
from chandelier.store.local.database import Database
from chandelier.store.local.held import Held, Snapshot
from chandelier.store.local.sql import Condition, compiled
from chandelier.store.local.tables import LITTLE_ENDIAN, Stored, Tables
from chandelier.store.protocol import ThreadedStore

if TYPE_CHECKING:
    import sqlite3

    from chandelier.models import ColBERT

__all__ = ["LocalStore"]

PAGE = 256
PAGE_WITH_VECTORS = 32


class LocalStore(ThreadedStore):
    """A store in one file, or in memory, that scores every document exactly.

    Ids, texts, metadata and vectors are in SQLite; the vectors are also held in memory from the first search on, where
    MaxSim is computed, and follow the file: whatever this or another process stored is found by the next search.

    Share one between threads: any number of them search, one writes at a time. Several processes may open one file,
    on one machine, for which SQLite makes two more files beside it, `-wal` and `-shm`. What an upsert has written is
    durable, portion by portion, whenever the process dies. A file in a folder that cannot be written is taken for one
    that nobody changes. A pickle holds model and path.

    A forked child can use neither a store that was open before the fork nor open its file again, which SQLite does not
    survive: start workers by `spawn`, or open the store after the fork.

    Args:
        model: Encodes documents and queries. A file keeps its fingerprint and opens with no other model.
        path: The file, made if there is none; None for a database in memory, which lasts until `close`.
        datatype: `"float32"`, or `"float16"` for half of the size and scores within 5e-4 a query token; None for what
            the file says, and float32 for a new one.
        pool_factor: As in `ColBERT.encode_documents`, for the documents that this store encodes.
        protected_tokens: The same.
        memory_limit: How many bytes the vectors may take; None for as much as is available.

    Raises:
        StoreError: If the file is no store, is damaged, or was made with another model, dim or datatype.
        FileNotFoundError: If the folder does not exist.
        ArgumentError: If an argument is none of these.

    Examples:
        >>> from chandelier import ColBERT, Document, LocalStore
        >>> model = ColBERT("tests/goldens/a_bert_pylate/checkpoint")
        >>> with LocalStore(model) as store:
        ...     report = store.upsert([
        ...         Document("a", "Bread needs flour.", {"lang": "en", "year": 2021}),
        ...         Document("b", "Paris is in France.", {"lang": "en", "year": 2023}),
        ...         Document("c", "Paris liegt in Frankreich.", {"lang": "de", "year": 2024}),
        ...     ])
        ...     print(report)
        ...     hits = store.search("where is paris?", k=2, filter={"lang": "en", "year": {"$gte": 2020}})
        ...     print([hit.id for hit in hits], hits[0].metadata)
        stored 3
        ['b', 'a'] {'lang': 'en', 'year': 2023}
    """

    def __init__(
        self,
        model: ColBERT,
        path: str | os.PathLike[str] | None = None,
        *,
        datatype: Literal["float32", "float16"] | None = None,
        pool_factor: int = 1,
        protected_tokens: int = 1,
        memory_limit: int | None = None,
    ) -> None:
        self._encoding = Encoding(model, pool_factor, protected_tokens)
        if datatype is not None and datatype not in ("float32", "float16"):
            raise ArgumentError(f"datatype: got {datatype!r}, wanted 'float32' or 'float16'", argument="datatype")
        if memory_limit is not None:
            memory_limit = checked_count("memory_limit", memory_limit, most=(1 << 63) - 1)
        file = None if path is None else checked_path("path", path)
        if file == ":memory:":
            raise ArgumentError("path: got ':memory:', wanted a path, or None for a store in memory", argument="path")
        self._memory_limit = memory_limit
        settings = {
            "fingerprint": self._encoding.fingerprint,
            "model": model.name,
            "dim": self._encoding.dim,
            "datatype": datatype,
        }
        self._database = Database(file, settings, {"datatype": "float32"})
        try:
            datatype = self._database.settings["datatype"]
            if datatype not in LITTLE_ENDIAN:
                raise self._database.damaged("its datatype")
            self._tables = Tables(self._database, self._encoding.dim, datatype)
            self._held = Held(self._database, self._tables, memory_limit)
        except BaseException:
            self._database.close()
            raise
        OPEN.add(self)

    @property
    def model(self) -> ColBERT:
        """What encodes documents and queries."""
        return self._encoding.model

    @property
    def path(self) -> str | None:
        """The file; None for a store in memory."""
        return self._database.path

    @property
    def datatype(self) -> str:
        """Of the vectors, `"float32"` or `"float16"`."""
        return str(self._tables.datatype)

    @property
    def description(self) -> dict[str, Any]:
        """What the store was opened with, as plain JSON: `chandelier.store.open_store` opens it again from that.

        Raises:
            StoreError: If the store is in memory.
        """
        if self.path is None:
            raise self._database.error("is in memory, where nobody can open it again; give it a path")
        factor, protected = self._encoding.pooling
        return description_of(
            LocalStore,
            self.model,
            path=self.path,
            datatype=None if self.datatype == "float32" else self.datatype,
            pool_factor=factor,
            protected_tokens=protected,
            memory_limit=self._memory_limit,
        )

    def upsert(
        self, documents: Iterable[Document], *, progress: bool = False, raise_on_failure: bool = False
    ) -> UpsertReport:
        """Store documents; one with an id that is there replaces it. See `Store.upsert`.

        Documents are encoded and written in portions, each of which is stored whole or not at all.

        Raises:
            StoreError: If the file cannot be written (a full disk, say) or the vectors become larger than the memory;
                `report` says what was stored before.
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
        exact: bool = True,
    ) -> list[Hit]:
        """The `k` documents with the highest MaxSim, best first, the one stored earlier first of equals.

        Args:
            query: A text, or rows `(tokens, dim)`.
            k: How many; fewer come if there are fewer.
            filter: What the metadata must be like; see `chandelier.store.filters`.
            depth: Of no effect: all documents that pass the filter are scored.
            explain: Say which words matched (`Hit.explanation`); the query must be a text.
            with_vectors: Give the rows of the hits too, in the store's datatype.
            exact: Of no effect: every search is.
        """
        options = dict(filter=filter, depth=depth, explain=explain, with_vectors=with_vectors)
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
        exact: bool = True,
    ) -> list[list[Hit]]:
        """Search for several queries at once, in one state of the store; see `search`."""
        k, _ = checked_search(k, depth)
        condition = _condition(filter)
        asked = self._encoding.queries(queries)
        if explain:
            self._encoding.check_explains(asked)
        if not asked:
            return []
        with self._in_step() as (connection, snapshot):
            rows = None if condition is None else self._tables.rows_where(connection, condition)
            found = [snapshot.top_k(query.rows, k, rows) for query in asked]
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

    def __repr__(self) -> str:
        return f"LocalStore(path={self.path!r}, model={self.model.name!r}, datatype={self.datatype!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        if self.path is None:
            raise self._database.error("cannot be pickled; give it a path")
        factor, protected = self._encoding.pooling
        return _reopened, (self.model, self.path, self.datatype, factor, protected, self._memory_limit)

    def _store(self, entries: list[Entry], intake: Intake) -> None:
        """One portion."""
        fitting = []
        for entry in entries:
            if reason := self._tables.refusal(entry):
                intake.refused(entry.id, reason)
            else:
                fitting.append(entry)
        with self._database.writing() as connection:
            self._held.check_room(self._tables.store(connection, fitting))
        intake.stored(fitting)

    def _each(self, ids: list[str], with_vectors: bool) -> Iterator[Document]:
        page = PAGE_WITH_VECTORS if with_vectors else PAGE
        for start in range(0, len(ids), page):
            yield from self.get(ids[start : start + page], with_vectors=with_vectors)

    @contextmanager
    def _in_step(self) -> Iterator[tuple[sqlite3.Connection, Snapshot]]:
        """A connection, and the vectors of the state that it sees."""
        known = self._held.newest
        with self._database.reading() as connection:
            yield connection, self._held.in_step(connection, known)

    def _after_fork(self) -> None:
        self._database.after_fork()
        self._held.after_fork()


OPEN: weakref.WeakSet[LocalStore] = weakref.WeakSet()


def _after_fork() -> None:
    for store in OPEN:
        store._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _reopened(
    model: ColBERT, path: str, datatype: Any, pool_factor: int, protected_tokens: int, memory_limit: int | None
) -> LocalStore:
    """What a pickle calls."""
    return LocalStore(
        model,
        path,
        datatype=datatype,
        pool_factor=pool_factor,
        protected_tokens=protected_tokens,
        memory_limit=memory_limit,
    )


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
