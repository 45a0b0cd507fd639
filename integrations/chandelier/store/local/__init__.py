"""`LocalStore`: one file of SQLite, or memory, and exact MaxSim over all that is in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from chandelier.exceptions import ArgumentError
from chandelier.multivectors import checked_path
from chandelier.store.descriptions import description_of
from chandelier.store.encoding import Encoding
from chandelier.store.local.sqlite import Find, SqliteStore

if TYPE_CHECKING:
    import sqlite3

    from chandelier.models import ColBERT

__all__ = ["LocalStore"]


class LocalStore(SqliteStore):
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
        encoding = Encoding(model, pool_factor, protected_tokens)
        if datatype is not None and datatype not in ("float32", "float16"):
            raise ArgumentError(f"datatype: got {datatype!r}, wanted 'float32' or 'float16'", argument="datatype")
        file = None if path is None else checked_path("path", path)
        if file == ":memory:":
            raise ArgumentError("path: got ':memory:', wanted a path, or None for a store in memory", argument="path")
        super().__init__(encoding, file, datatype=datatype, memory_limit=memory_limit)

    @property
    def path(self) -> str | None:
        """The file; None for a store in memory."""
        return self._database.path

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

    def __repr__(self) -> str:
        return f"LocalStore(path={self.path!r}, model={self.model.name!r}, datatype={self.datatype!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        if self.path is None:
            raise self._database.error("cannot be pickled; give it a path")
        factor, protected = self._encoding.pooling
        options = dict(datatype=self.datatype, pool_factor=factor, protected_tokens=protected)
        return partial(LocalStore, **options, memory_limit=self._memory_limit), (self.model, self.path)  # type: ignore[arg-type]

    @contextmanager
    def _finding(self) -> Iterator[tuple[sqlite3.Connection, Find]]:
        known = self._held.newest
        with self._database.reading() as connection:
            snapshot = self._held.in_step(connection, known)
            yield connection, lambda queries, wanted: [snapshot.top_k(each, wanted.k, wanted.rows) for each in queries]

    def _check_room(self, connection: sqlite3.Connection) -> None:
        self._held.check_room(self._tables.tokens(connection))

    def _more_room(self) -> str:
        half = "datatype='float16' (half of it), " if self.datatype == "float32" else ""
        on_disk = "use PlaidStore or QdrantEdgeStore, which keep vectors on disk, or a server"
        return f"make a store with {half}pool_factor=2 (half of it), {on_disk}"
