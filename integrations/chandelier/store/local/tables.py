"""What stands in the tables: documents and their vectors, written and read back with a checksum each."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from chandelier.multivectors import FloatArray
from chandelier.store.documents import Document
from chandelier.store.intake import Entry
from chandelier.store.local.database import Database
from chandelier.store.local.metadata import from_json, to_json
from chandelier.store.local.sql import Condition

__all__ = ["State", "Stored", "Tables"]

Rows = npt.NDArray[np.int64]

LITTLE_ENDIAN = {"float16": "<f2", "float32": "<f4"}
MOST_BYTES = 1_000_000_000
"""What SQLite holds in one row of a table."""

IDS_AT_ONCE = 500
"""Parameters of one statement; SQLite takes 32,766, and is not faster with more."""


@dataclass(frozen=True, slots=True)
class State:
    """How far the tables have come; the numbers only grow.

    Attributes:
        last: The highest row number given so far.
        deletions: How many documents were deleted or replaced so far.
        changes: How many transactions wrote so far.
        mark: Random bytes of the last of these.
    """

    last: int = 0
    deletions: int = 0
    changes: int = 0
    mark: bytes = b""


@dataclass(frozen=True, slots=True)
class Stored:
    """A document that was read; `vectors` if they were asked for."""

    row: int
    document: Document
    vectors: FloatArray | None


class Tables:
    """Reads and writes on a connection that somebody else has begun a transaction on.

    Args:
        database: Where the connections come from.
        dim: The length of a row of vectors.
        datatype: `"float16"` or `"float32"`, of the vectors.
    """

    def __init__(self, database: Database, dim: int, datatype: str) -> None:
        self._database = database
        self.dim = dim
        self.datatype = np.dtype(datatype)
        self._written = np.dtype(LITTLE_ENDIAN[datatype])
        self.token_bytes = dim * self.datatype.itemsize

    # Writing

    def refusal(self, entry: Entry) -> str | None:
        """Why a document does not fit into the tables; None if it does."""
        size = len(entry.rows) * self.token_bytes
        if size >= MOST_BYTES:
            return f"got vectors of {size:,} bytes, wanted less than {MOST_BYTES:,}; pool its tokens or cut it up"
        if 4 * len(entry.text) >= MOST_BYTES // 2 and len(entry.text.encode()) >= MOST_BYTES // 2:
            return f"got a text of {len(entry.text):,} characters, wanted less than {MOST_BYTES // 2:,} bytes"
        return None

    def store(self, connection: sqlite3.Connection, entries: Sequence[Entry]) -> None:
        """Write documents in place of those with the same ids."""
        self.delete(connection, self.rows_of(connection, [entry.id for entry in entries]))
        documents, vectors = [], []
        for row, entry in enumerate(entries, self.state(connection).last + 1):
            metadata = to_json(entry.metadata)
            checksum = _checksum(row, entry.id.encode(), metadata.encode(), entry.text.encode())
            documents.append((row, entry.id, checksum, metadata, entry.text))
            if len(entry.rows):
                data = np.ascontiguousarray(entry.rows, self._written).tobytes()
                vectors.append((row, len(entry.rows), _checksum(row, data), data))
        connection.executemany("INSERT INTO documents VALUES (?, ?, ?, ?, ?)", documents)
        connection.executemany("INSERT INTO vectors VALUES (?, ?, ?, ?)", vectors)
        self._add(connection, "tokens", sum(len(entry.rows) for entry in entries))

    def delete(self, connection: sqlite3.Connection, rows: Sequence[int] | Rows) -> int:
        """Delete documents by row number, all of which are there; how many."""
        if not len(rows):
            return 0
        numbers = to_json([int(row) for row in rows])
        chosen = "row IN (SELECT value FROM json_each(?))"
        total = f"SELECT coalesce(sum(tokens), 0) FROM vectors WHERE {chosen}"
        (tokens,) = connection.execute(total, (numbers,)).fetchone()
        connection.execute(f"DELETE FROM vectors WHERE {chosen}", (numbers,))
        connection.execute(f"DELETE FROM documents WHERE {chosen}", (numbers,))
        self._add(connection, "tokens", -tokens)
        self._add(connection, "deletions", len(rows))
        return len(rows)

    def delete_all(self, connection: sqlite3.Connection) -> int:
        """Delete every document; how many there were."""
        count = self.count(connection, None)
        connection.execute("DELETE FROM vectors")
        connection.execute("DELETE FROM documents")
        connection.execute("UPDATE settings SET value = 0 WHERE name = 'tokens'")
        self._add(connection, "deletions", count)
        return count

    def _add(self, connection: sqlite3.Connection, name: str, number: int) -> None:
        """Count up or down."""
        connection.execute("UPDATE settings SET value = value + ? WHERE name = ?", (number, name))

    # Reading

    def state(self, connection: sqlite3.Connection) -> State:
        """How far the tables have come."""
        found = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'documents'").fetchone()
        last = 0 if found is None else found[0]
        newest = connection.execute("SELECT coalesce(max(row), 0) FROM documents").fetchone()[0]
        change = connection.execute("SELECT number, mark FROM history ORDER BY number DESC LIMIT 1").fetchone()
        if not isinstance(last, int) or last < newest or (last and change is None):
            raise self._database.damaged("its counters")
        return State(last, self._setting(connection, "deletions"), *(change or (0, b"")))

    def became(self, connection: sqlite3.Connection, past: State) -> bool:
        """Whether the tables were once in this state, which those of an older copy of the file were not."""
        if past == State():
            return True
        found = connection.execute("SELECT mark FROM history WHERE number = ?", (past.changes,)).fetchone()
        return found is not None and bool(found[0] == past.mark)

    def tokens(self, connection: sqlite3.Connection, after: int = 0) -> int:
        """How many rows of vectors there are, of the documents beyond a row number."""
        if not after:
            return self._setting(connection, "tokens")
        total = "SELECT coalesce(sum(tokens), 0) FROM vectors WHERE row > ?"
        return int(connection.execute(total, (after,)).fetchone()[0])

    def count(self, connection: sqlite3.Connection, condition: Condition | None) -> int:
        """How many documents there are, or pass."""
        where, parameters = _where(condition)
        count: int = connection.execute(f"SELECT count(*) FROM documents {where}", parameters).fetchone()[0]
        return count

    def rows_where(self, connection: sqlite3.Connection, condition: Condition | None) -> Rows:
        """The row numbers of the documents that pass, rising."""
        where, parameters = _where(condition)
        found = connection.execute(f"SELECT row FROM documents {where} ORDER BY row", parameters)
        return np.fromiter((row for (row,) in found), np.int64)

    def ids_where(self, connection: sqlite3.Connection, condition: Condition | None) -> list[str]:
        """The ids of the documents that pass, in the order of their rows."""
        where, parameters = _where(condition)
        return [id for (id,) in connection.execute(f"SELECT id FROM documents {where} ORDER BY row", parameters)]

    def rows_of(self, connection: sqlite3.Connection, ids: Sequence[str]) -> list[int]:
        """The row numbers of the documents with these ids, which are all different, in no particular order."""
        return [row for part in _parts(ids) for (row,) in self._by_id(connection, "row", part)]

    def with_ids(self, connection: sqlite3.Connection, ids: Sequence[str], with_vectors: bool) -> list[Stored]:
        """The documents with these ids that are there, in no particular order."""
        columns = "row, id, checksum, metadata, text"
        found = [each for part in _parts(ids) for each in self._by_id(connection, columns, part)]
        return self._stored(connection, found, with_vectors)

    def with_rows(self, connection: sqlite3.Connection, rows: Iterable[int], with_vectors: bool) -> list[Stored]:
        """The documents of these row numbers, all of which are there, in no particular order."""
        wanted = set(rows)
        found = connection.execute(
            "SELECT row, id, checksum, metadata, text FROM documents WHERE row IN (SELECT value FROM json_each(?))",
            (to_json(sorted(wanted)),),
        ).fetchall()
        if {each[0] for each in found} != wanted:
            raise self._database.damaged("it holds vectors of documents that are missing")
        return self._stored(connection, found, with_vectors)

    def lengths(self, connection: sqlite3.Connection, after: int) -> tuple[Rows, Rows]:
        """The row numbers beyond one, rising, and how many tokens each has."""
        found = connection.execute("SELECT row, tokens FROM vectors WHERE row > ? ORDER BY row", (after,)).fetchall()
        if not all(isinstance(tokens, int) and tokens > 0 for _, tokens in found):
            raise self._database.damaged("the lengths of its vectors")
        both = np.array(found, np.int64).reshape(-1, 2)
        return np.ascontiguousarray(both[:, 0]), np.ascontiguousarray(both[:, 1])

    def rows_with_vectors(self, connection: sqlite3.Connection, after: int = 0) -> Rows:
        """The row numbers of all documents beyond one that have vectors, rising."""
        found = connection.execute("SELECT row FROM vectors WHERE row > ? ORDER BY row", (after,))
        return np.fromiter((row for (row,) in found), np.int64)

    def vectors(self, connection: sqlite3.Connection, after: int) -> Iterator[tuple[int, FloatArray]]:
        """Row numbers beyond one, rising, and the vectors of each, which lie in memory that the next one takes."""
        query = "SELECT row, tokens, checksum, data FROM vectors WHERE row > ? ORDER BY row"
        for row, tokens, checksum, data in connection.execute(query, (after,)):
            yield row, self._array(row, tokens, checksum, data)

    def vectors_of(self, connection: sqlite3.Connection, rows: Rows) -> Iterator[tuple[int, FloatArray]]:
        """Those of some rising row numbers that are there, and the vectors of each."""
        query = (
            "SELECT row, tokens, checksum, data FROM vectors WHERE row IN (SELECT value FROM json_each(?)) ORDER BY row"
        )
        for start in range(0, len(rows), IDS_AT_ONCE):
            for row, *rest in connection.execute(query, (to_json(rows[start : start + IDS_AT_ONCE].tolist()),)):
                yield row, self._array(row, *rest)

    def _by_id(self, connection: sqlite3.Connection, columns: str, ids: Sequence[str]) -> list[Any]:
        places = ", ".join("?" * len(ids))
        return connection.execute(f"SELECT {columns} FROM documents WHERE id IN ({places})", ids).fetchall()

    def _stored(self, connection: sqlite3.Connection, found: list[Any], with_vectors: bool) -> list[Stored]:
        vectors: dict[int, FloatArray] = {}
        if with_vectors:
            query = "SELECT row, tokens, checksum, data FROM vectors WHERE row IN (SELECT value FROM json_each(?))"
            for row, *rest in connection.execute(query, (to_json([each[0] for each in found]),)):
                vectors[row] = self._array(row, *rest).astype(self.datatype, copy=False)
        without = np.zeros((0, self.dim), self.datatype) if with_vectors else None
        return [Stored(row, self._document(row, *rest), vectors.get(row, without)) for row, *rest in found]

    def _document(self, row: int, id: Any, checksum: Any, metadata: Any, text: Any) -> Document:
        if not (isinstance(id, str) and isinstance(metadata, str) and isinstance(text, str)):
            raise self._database.damaged(f"document {row}")
        if checksum != _checksum(row, id.encode(), metadata.encode(), text.encode()):
            raise self._database.damaged(f"document {row} ({id[:80]!r}) is not as it was written")
        return Document(id, text, from_json(metadata))

    def _array(self, row: int, tokens: Any, checksum: Any, data: Any) -> FloatArray:
        if not isinstance(data, bytes) or not isinstance(tokens, int) or len(data) != tokens * self.token_bytes:
            raise self._database.damaged(f"the vectors of document {row} have another length")
        if checksum != _checksum(row, data):
            raise self._database.damaged(f"the vectors of document {row} are not as they were written")
        array: FloatArray = np.frombuffer(data, self._written).reshape(tokens, self.dim)
        return array

    def _setting(self, connection: sqlite3.Connection, name: str) -> int:
        found = connection.execute("SELECT value FROM settings WHERE name = ?", (name,)).fetchone()
        if found is None or not isinstance(found[0], int):
            raise self._database.damaged("its counters")
        return int(found[0])


def _where(condition: Condition | None) -> tuple[str, dict[str, str]]:
    return ("", {}) if condition is None else (f"WHERE {condition.sql}", condition.parameters)


def _checksum(row: int, *parts: bytes) -> int:
    """Of the row number too, so that one row is not taken for another."""
    checksum = row & 0xFFFFFFFF
    for part in parts:
        checksum = zlib.crc32(part, checksum)
    return checksum


def _parts(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[start : start + IDS_AT_ONCE] for start in range(0, len(ids), IDS_AT_ONCE))
