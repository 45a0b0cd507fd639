"""A folder of a `PlaidStore` that was damaged, swapped or restored: named, and built again from the documents."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plaid_folder import DOCUMENTS, EXACT, QUERY, a_segment, documents, files, indexed, listed
from reference import ids, unit_rows

from chandelier import ColBERT, Document, StoreError, _core
from chandelier.plaid import PlaidStore, build

WAY_OUT = "optimize(rebuild=True) builds it again from the documents, nothing is lost"


@pytest.fixture
def store(tiny: ColBERT, tmp_path: Path) -> Iterator[PlaidStore]:
    with indexed(tiny, tmp_path) as store:
        yield store


def garbled(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[: len(content) // 8] = b"\xff" * (len(content) // 8)
    path.write_bytes(content)


def foreign(path: Path) -> None:
    """Another store's segment, of the same size and under the name of this one."""
    builder = _core.PlaidBuilder(unit_rows(np.random.default_rng(1), 600, 32), 4, 16)
    builder.add(np.arange(300), unit_rows(np.random.default_rng(1), 600, 32), np.arange(301) * 2)
    size = path.stat().st_size
    builder.write(str(path))
    with open(path, "ab") as file:
        file.truncate(size)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (Path.unlink, "is missing"),
        (lambda path: os.truncate(path, 1000), "has 1,000 bytes, wanted"),
        (lambda path: os.truncate(path, 0), "has 0 bytes, wanted"),
        (lambda path: path.write_bytes(path.read_bytes() + b"x"), "bytes, wanted"),
        (garbled, "cannot be read"),
        (lambda path: path.write_bytes(bytes(path.stat().st_size)), "cannot be read"),
        (foreign, "cannot be read"),
    ],
)
def test_a_segment_that_is_damaged(
    tiny: ColBERT, store: PlaidStore, damage: Callable[[Path], object], message: str
) -> None:
    """It is named, documents are still there, and a rebuild repairs it."""
    hits = store.search(QUERY, **EXACT)
    path = a_segment(store.path)
    store.close()
    damage(path)
    with PlaidStore(store.path, tiny) as store:
        for _ in range(2):
            with pytest.raises(StoreError) as caught:
                store.search(QUERY)
            assert str(caught.value).startswith(f"{store.path}: is damaged: segments/{path.name} ")
            assert message in str(caught.value)
            assert str(caught.value).endswith(WAY_OUT)
            assert caught.value.store == store.path
        assert store.count() == len(list(store.iterate(with_vectors=True))) == 1000
        if "cannot be read" not in message:
            with pytest.raises(StoreError, match=message):
                store.optimize()
        assert store.optimize(rebuild=True)
        assert store.search(QUERY, **EXACT) == hits
        assert len(files(store.path)) == 1


@pytest.mark.parametrize("size", [1, 16, 512, 4096])
def test_random_bytes_in_a_segment(tiny: ColBERT, store: PlaidStore, size: int) -> None:
    """Anywhere in the file: scores are true and what is gone stays gone, or the error names the file."""
    rng = np.random.default_rng(size)
    store.delete(filter={"even": True})
    scores = {hit.id: hit.score for hit in store.search(QUERY, 1000, exact=True)}
    path = a_segment(store.path)
    content = path.read_bytes()
    store.close()
    noticed = []
    for turn in range(60):
        begin = int(rng.integers(0, len(content) - size))
        path.write_bytes(content[:begin] + rng.bytes(size) + content[begin + size :])
        with PlaidStore(store.path, tiny) as again:
            try:
                hits = again.search(QUERY, depth=20)
            except StoreError as error:
                noticed.append(str(error))
            else:
                assert len(hits) == 10, turn
                assert all(hit.score == scores[hit.id] for hit in hits), turn
    assert noticed or size == 1
    for message in noticed:
        assert message.startswith(f"{store.path}: is damaged: ")
        assert message.endswith(WAY_OUT)


def test_the_segment_of_another_store(tiny: ColBERT, store: PlaidStore, tmp_path: Path) -> None:
    """Of the same size to the byte: a copy of a folder whose documents went on."""
    with PlaidStore(tmp_path / "other", tiny) as other:
        other.upsert([Document("first", "", vectors=QUERY)])
        other.upsert(DOCUMENTS[:-1])
        other.optimize()
        path = a_segment(store.path)
        store.close()
        shutil.copy(a_segment(other.path), path)
        with closing(sqlite3.connect(Path(store.path) / "documents.db")) as connection, connection:
            (text,) = connection.execute("SELECT value FROM settings WHERE name = 'segments'").fetchone()
            (segment,) = json.loads(text)
            changed = json.dumps([{**segment, "size": path.stat().st_size, "documents": 999}])
            connection.execute("UPDATE settings SET value = ? WHERE name = 'segments'", (changed,))
    with PlaidStore(store.path, tiny) as again:
        with pytest.raises(StoreError, match="is another segment than was written under this name"):
            again.search(QUERY)
        assert again.optimize(rebuild=True)
        assert len(again.search(QUERY, **EXACT)) == 100


@pytest.mark.parametrize(
    "text",
    [
        "",
        "garbage",
        "{}",
        "7",
        "[7]",
        "[{}]",
        "[" * 100_000,
        '[{"file": "../documents.db", "size": 1, "first": 1, "last": 1, "documents": 1}]',
        '[{"file": 7, "size": 1, "first": 1, "last": 1, "documents": 1}]',
        '[{"file": "NAME", "size": "1", "first": 1, "last": 1, "documents": 1}]',
        '[{"file": "NAME", "size": 1, "first": 5, "last": 1, "documents": 1}]',
        '[{"file": "NAME", "size": 1, "first": 1, "last": 5, "documents": 9}]',
        '[{"file": "NAME", "size": 1, "first": 1, "last": 5, "documents": 5, "more": 1}]',
        '[{"file": "NAME", "size": 1, "first": 1, "last": 5, "documents": 5}, '
        '{"file": "NAME", "size": 1, "first": 5, "last": 9, "documents": 5}]',
        None,
        7,
    ],
)
def test_a_manifest_that_nobody_wrote(tiny: ColBERT, store: PlaidStore, text: object) -> None:
    hits = store.search(QUERY, **EXACT)
    value = text.replace("NAME", f"{'a' * 32}.safetensors") if isinstance(text, str) else text
    store.close()
    with closing(sqlite3.connect(Path(store.path) / "documents.db")) as connection, connection:
        connection.execute(
            "UPDATE settings SET value = ? WHERE name = 'segments'", (b"blob" if value is None else value,)
        )
    with PlaidStore(store.path, tiny) as store:
        for call in (lambda: store.search(QUERY), lambda: store.segments, store.optimize):
            with pytest.raises(StoreError, match="is damaged: its list of segments"):
                call()
        assert store.count() == 1000
        assert store.optimize(rebuild=True)
        assert store.search(QUERY, **EXACT) == hits


def test_a_manifest_that_leaves_documents_out(tiny: ColBERT, store: PlaidStore) -> None:
    store.upsert(documents(5000, 400))
    assert store.optimize()
    store.close()
    manifest = listed(store.path)
    assert len(manifest) == 2
    with closing(sqlite3.connect(Path(store.path) / "documents.db")) as connection, connection:
        connection.execute("UPDATE settings SET value = ? WHERE name = 'segments'", (json.dumps(manifest[1:]),))
    with PlaidStore(store.path, tiny) as store:
        with pytest.raises(StoreError, match="its segments leave out documents; optimize"):
            store.search(QUERY)
        assert store.optimize(rebuild=True)
        assert len(store.search(QUERY, 2000)) == 1400


def test_rows_that_are_not_as_they_were_written(tiny: ColBERT, store: PlaidStore) -> None:
    store.close()
    with closing(sqlite3.connect(Path(store.path) / "documents.db")) as connection, connection:
        connection.execute("UPDATE vectors SET data = zeroblob(length(data)) WHERE row % 2 = 0")
    with PlaidStore(store.path, tiny) as store:
        for call in (lambda: store.search(QUERY), lambda: store.search(QUERY, exact=True)):
            with pytest.raises(StoreError, match=r"the vectors of document \d+ are not as they were written"):
                call()
        with pytest.raises(StoreError, match="are not as they were written"):
            store.optimize(rebuild=True)
        assert len(files(store.path)) == 1


def back_up(source: Path, target: Path) -> None:
    with closing(sqlite3.connect(source)) as documents, closing(sqlite3.connect(target)) as copy:
        documents.backup(copy)


def test_an_older_copy_of_the_documents(store: PlaidStore, tmp_path: Path) -> None:
    """As a restored backup, without its segments."""
    database = Path(store.path) / "documents.db"
    back_up(database, tmp_path / "backup.db")
    store.upsert(documents(5000, 900))
    assert store.optimize()
    assert len(store.search(QUERY, 2000)) == 1900
    back_up(tmp_path / "backup.db", database)
    with pytest.raises(StoreError, match="is missing"):
        store.search(QUERY)
    assert store.optimize(rebuild=True)
    assert set(ids(store.search(QUERY, 2000))) == set(ids(DOCUMENTS))


def test_an_older_copy_with_the_same_segments(store: PlaidStore, tmp_path: Path) -> None:
    """It is opened once, not for every search."""
    back_up(Path(store.path) / "documents.db", tmp_path / "backup.db")
    store.delete(filter={"even": True})
    assert len(store.search(QUERY, 2000)) == 500
    back_up(tmp_path / "backup.db", Path(store.path) / "documents.db")
    assert set(ids(store.search(QUERY, 2000))) == set(ids(DOCUMENTS))
    known = store._segments.newest
    assert known.segments[0].alive is None
    store.search(QUERY)
    assert store._segments.newest is known


def test_an_older_copy_while_another_optimizes(
    store: PlaidStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was built is of other documents than there are now."""
    made = build.Builder._built
    back_up(Path(store.path) / "documents.db", tmp_path / "backup.db")
    store.upsert(documents(5000, 900))
    kept = files(store.path)

    def restored(self: Any, piece: Any, bar: Any) -> Any:
        segment = made(self, piece, bar)
        back_up(tmp_path / "backup.db", Path(store.path) / "documents.db")
        return segment

    monkeypatch.setattr(build.Builder, "_built", restored)
    with pytest.raises(StoreError, match="were replaced by another copy of them while the index was built; try again"):
        store.optimize()
    monkeypatch.setattr(build.Builder, "_built", made)
    assert files(store.path) == kept
    assert set(ids(store.search(QUERY, 2000))) == set(ids(DOCUMENTS))
    assert not store.optimize()
