"""The file of a store: what it must be like, its connections, its transactions, and its errors in our words."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from typing import Any
from urllib.parse import quote

from chandelier.exceptions import StoreError

__all__ = ["Database", "Settings"]

Settings = dict[str, Any]
Identity = tuple[int, int]
"""Device and inode of a file."""

APPLICATION_ID = int.from_bytes(b"chnd", "big")
LAYOUT = 1
SCHEMA = (
    "CREATE TABLE settings (name TEXT PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID",
    # A document that is replaced gets a new row, and no row number comes twice: what is new is beyond the last seen.
    # The text stands last, so that nobody who looks at metadata walks over it.
    "CREATE TABLE documents (row INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, "
    "checksum INTEGER NOT NULL, metadata TEXT NOT NULL, text TEXT NOT NULL) STRICT",
    "CREATE TABLE vectors (row INTEGER PRIMARY KEY, tokens INTEGER NOT NULL, checksum INTEGER NOT NULL, "
    "data BLOB NOT NULL) STRICT",
    # One row for each transaction that wrote: whether what is in memory is a past of the file, or of another one.
    "CREATE TABLE history (number INTEGER PRIMARY KEY, mark BLOB NOT NULL) STRICT",
    # How long each document is, without walking over the vectors.
    "CREATE INDEX vectors_tokens ON vectors (row, tokens)",
)
PAGE_BYTES = 8192
"""Vectors are read a third faster than with 4096, and no more is left empty."""

SMALLEST = 512
"""Bytes of a database of SQLite."""

OLDEST_SQLITE = (3, 38, 0)
PATIENCE_SECONDS = 30.0
IDLE_CONNECTIONS = 8

HINTS = {
    "database is locked": f"another process has been writing to it for {PATIENCE_SECONDS:.0f} seconds; try again",
    "database table is locked": f"another process has been writing to it for {PATIENCE_SECONDS:.0f} seconds; try again",
    "database or disk is full": "make room; what was stored before is as it was",
    "attempt to write a readonly database": "the file or its folder cannot be written; it can only be searched",
    "file is not a database": "it is no store of chandelier, or its beginning was overwritten",
    "unable to open database file": "look at the permissions of the file and of its folder",
    "disk I/O error": "the disk does not read or write; what was stored before is as it was",
}
"""What the messages of SQLite mean here."""


class Database:
    """One file, or one database in memory.

    Args:
        path: The file; None for a database in memory.
        wanted: What its settings must say; a None is taken from the file.
        defaults: What a new file's settings say instead of None.
    """

    def __init__(self, path: str | None, wanted: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            oldest = ".".join(map(str, OLDEST_SQLITE))
            raise StoreError(f"LocalStore: got SQLite {sqlite3.sqlite_version}, wanted {oldest} or newer")
        self.path = None if path is None else os.path.abspath(path)  # whatever becomes of the working directory
        self.name = "LocalStore in memory" if self.path is None else self.path
        self._idle: list[sqlite3.Connection] = []
        self._closed = False
        self._crossed_fork = False
        self._new_locks()
        self._look_at_path()
        if self._identity() in INHERITED:
            raise self.error("is open in the process that this one was forked from; start workers by spawn")
        connection = self._connect(create=True)
        with _closed_on_error(connection), self._errors():
            self._create(connection, {**wanted, **{k: v for k, v in defaults.items() if wanted[k] is None}})
            self.settings = self._verified(connection)
            self._check(wanted)
        self._opened = self._identity()
        self._give(connection)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection that sees the database as it is now, whoever writes meanwhile."""
        with self._transaction("BEGIN") as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A connection whose changes all become durable at the end, or none if there is an exception."""
        with self._writer, self._transaction("BEGIN IMMEDIATE") as connection:
            before = connection.total_changes
            yield connection
            if connection.total_changes != before:
                connection.execute("INSERT INTO history (mark) VALUES (randomblob(16))")

    def vacuum(self) -> None:
        """Give the room of what was deleted back to the file system."""
        with self._writer, self._connection() as connection, self._errors():
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        """Close the connections; those in use when they come back."""
        self._closed = True
        while self._idle:
            with suppress(IndexError):
                self._idle.pop().close()

    def after_fork(self) -> None:
        """In a forked child: leave the parent's connections and locks alone.

        What SQLite remembers of the parent's locks it takes for the child's: no connection to the same file is safe.
        """
        if self.path is not None and not self._closed:
            INHERITED.add(self._opened)
        ABANDONED.extend(self._idle)
        self._idle = []
        self._crossed_fork = True
        self._new_locks()

    def damaged(self, what: str) -> StoreError:
        """The error for contents that nobody wrote like this."""
        way_out = "restore a copy, or delete the file and store the documents again"
        return StoreError(f"{self.name}: is damaged: {what}; {way_out}", store=self.name)

    def error(self, message: str) -> StoreError:
        """An error about this file."""
        return StoreError(f"{self.name}: {message}", store=self.name)

    def _new_locks(self) -> None:
        self._writer = threading.Lock()
        # A database in memory has one connection, which serves one call at a time.
        self._only = threading.Lock()

    def _look_at_path(self) -> None:
        if self.path is None:
            return
        folder = os.path.dirname(self.path)
        if not os.path.isdir(folder):
            raise FileNotFoundError(2, "no such folder", folder)
        if os.path.exists(self.path) and not os.path.isfile(self.path):
            kind = "a folder" if os.path.isdir(self.path) else "no regular file"
            raise self.error(f"is {kind}, wanted the path of a file")
        # SQLite takes a few bytes for an empty database and overwrites them. The file must not be opened to look at
        # them: closing it again would drop the locks of other connections of this process.
        if os.path.exists(self.path) and 0 < os.path.getsize(self.path) < SMALLEST:
            raise self.error(f"file is not a database: {HINTS['file is not a database']}")

    def _identity(self) -> Identity | None:
        """Which file the path leads to now; None for none."""
        if self.path is None:
            return None
        with suppress(OSError):
            found = os.stat(self.path)
            return found.st_dev, found.st_ino
        return None

    # Connections

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        with self._connection() as connection, self._errors():
            try:  # from the beginning on: Ctrl-C may come as a transaction has just begun
                connection.execute(begin)
                yield connection
                connection.commit()
            finally:
                if connection.in_transaction:
                    connection.rollback()

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        with self._only if self.path is None else nullcontext():
            connection = self._take()
            try:
                yield connection
            finally:
                self._give(connection)

    def _take(self) -> sqlite3.Connection:
        if self._closed:
            raise self.error("is closed")
        if self._crossed_fork:
            way_out = "open it in the process that uses it, and start workers by spawn"
            raise self.error(f"was opened before a fork; {way_out}")
        if self._identity() != self._opened:
            raise self.error("was moved, deleted or replaced; open it again")
        with suppress(IndexError):
            return self._idle.pop()
        if self.path is None:
            raise self.error("was interrupted and is lost; make a new one")
        connection = self._connect(create=False)
        with _closed_on_error(connection), self._errors():
            if self._verified(connection)["store"] != self.settings["store"]:
                raise self.error("was replaced by another store; open it again")
        return connection

    def _give(self, connection: sqlite3.Connection) -> None:
        if connection.in_transaction and self.path is None:
            connection.rollback()
        if connection.in_transaction or len(self._idle) >= IDLE_CONNECTIONS:
            connection.close()
            return
        self._idle.append(connection)
        if self._closed:
            self.close()

    def _connect(self, *, create: bool) -> sqlite3.Connection:
        with self._errors():
            connection = sqlite3.connect(
                ":memory:" if self.path is None else self._uri(self.path, create),
                timeout=PATIENCE_SECONDS,
                isolation_level=None,
                check_same_thread=False,  # a connection serves one thread at a time, but not always the same one
                uri=self.path is not None,
            )
            with _closed_on_error(connection):
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute("PRAGMA trusted_schema = OFF")
                connection.execute("PRAGMA cell_size_check = ON")
                connection.execute(f"PRAGMA journal_size_limit = {64 << 20}")
        return connection

    def _uri(self, path: str, create: bool) -> str:
        uri = f"file:{quote(os.fsencode(path))}"
        if self._is_frozen(path):
            return f"{uri}?immutable=1"
        return f"{uri}?mode={'rwc' if create else 'rw'}"

    def _is_frozen(self, path: str) -> bool:
        """Whether nobody writes to it and we cannot: then SQLite must not look for the files that writers need."""
        return (
            os.path.exists(path)
            and not os.access(path, os.W_OK)
            and not os.access(os.path.dirname(path), os.W_OK)
            and not os.path.exists(path + "-wal")
        )

    # What is in the file

    def _create(self, connection: sqlite3.Connection, settings: Settings) -> None:
        """Makes the tables, unless there is something already. Of several processes that try, one does."""
        if not self._is_empty(connection):
            self._verified(connection)
            if self.path is not None and os.access(self.path, os.W_OK):
                self._keep_log(connection)  # a copy that `VACUUM INTO` made has none
            return
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        self._keep_log(connection)
        connection.execute("BEGIN IMMEDIATE")
        try:
            if self._is_empty(connection):
                for statement in SCHEMA:
                    connection.execute(statement)
                rows = {**settings, "store": uuid.uuid4().hex, "deletions": 0, "tokens": 0}
                connection.executemany("INSERT INTO settings VALUES (?, ?)", rows.items())
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {LAYOUT}")
            connection.commit()
        finally:
            if connection.in_transaction:
                connection.rollback()

    def _keep_log(self, connection: sqlite3.Connection) -> None:
        """A write-ahead log: readers and the writer do not wait for each other."""
        patient_until = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL").fetchall()
            except sqlite3.OperationalError as error:  # SQLite itself does not wait for others that do the same
                if "locked" not in str(error) or time.monotonic() > patient_until:
                    raise
                time.sleep(0.01)
            else:
                return

    def _is_empty(self, connection: sqlite3.Connection) -> bool:
        return _value(connection, "PRAGMA application_id") == 0 and not _value(
            connection, "SELECT count(*) FROM sqlite_master"
        )

    def _verified(self, connection: sqlite3.Connection) -> Settings:
        """The settings of what is certainly a store."""
        if _value(connection, "PRAGMA application_id") != APPLICATION_ID:
            raise self.error("is the SQLite database of another application")
        layout = _value(connection, "PRAGMA user_version")
        if layout > LAYOUT:
            raise self.error(f"has layout {layout}, this chandelier knows {LAYOUT}; a newer version opens it")
        schema = connection.execute("SELECT sql FROM sqlite_master WHERE sql NOT NULL AND name NOT LIKE 'sqlite_%'")
        if layout != LAYOUT or sorted(sql for (sql,) in schema) != sorted(SCHEMA):
            raise self.damaged("it has other tables than a store")
        return dict(connection.execute("SELECT name, value FROM settings").fetchall())

    def _check(self, wanted: Mapping[str, Any]) -> None:
        """Refuses a store that was made in another way than it is opened."""
        names = {"fingerprint": "model", "dim": "dim", "datatype": "datatype"}
        for name, value in wanted.items():
            if name not in self.settings:
                raise self.damaged(f"its {name} is missing")
            stored = self.settings[name]
            if name in names and value is not None and stored != value:
                was, now = stored, value
                if name == "fingerprint":
                    was = f"{self.settings.get('model')} (fingerprint {stored})"
                    now = f"{wanted['model']} (fingerprint {value})"
                way_out = "open it with the same, or make a new store"
                raise self.error(f"was made with {names[name]} {was}, and is opened with {now}; {way_out}")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            words = str(error)
            hint = next((f": {hint}" for words_of, hint in HINTS.items() if words_of in words), "")
            if isinstance(error, sqlite3.DatabaseError) and ("malformed" in words or "decode" in words):
                raise self.damaged(words) from error
            raise self.error(f"{words}{hint}") from error


INHERITED: set[Identity | None] = set()
"""Files that were open in a process that this one was forked from."""

ABANDONED: list[sqlite3.Connection] = []
"""Connections of a parent process: closing them here would meddle with its locks."""


@contextmanager
def _closed_on_error(connection: sqlite3.Connection) -> Iterator[None]:
    try:
        yield
    except BaseException:
        connection.close()
        raise


def _value(connection: sqlite3.Connection, query: str) -> Any:
    return connection.execute(query).fetchone()[0]
