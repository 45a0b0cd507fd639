"""The file of a `LocalStore`: opened again, from elsewhere, by another model, without permissions, on a full disk."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from reference import best, ids, random_documents, unit_rows
from workers import said, start, under_a_limit, until_full

from chandelier import ColBERT, Document, LocalStore, StoreError
from chandelier.store.local import database

QUERY = unit_rows(np.random.default_rng(9), 8, 32)
DOCUMENTS = random_documents(60, 32)


@pytest.fixture
def path(tiny: ColBERT, tmp_path: Path) -> Path:
    """A closed store with documents."""
    with LocalStore(tiny, tmp_path / "store.db") as store:
        store.upsert(DOCUMENTS)
    return tmp_path / "store.db"


def changed(path: Path, *statements: str) -> Path:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)
    return path


def test_what_was_stored_is_there_again(tiny: ColBERT, path: Path) -> None:
    with LocalStore(tiny, path) as store:
        assert ids(store.iterate()) == ids(DOCUMENTS)
        hits = store.search(QUERY, 60, with_vectors=True)
        for hit in hits:
            assert np.array_equal(hit.vectors, DOCUMENTS[int(hit.id[4:])].vectors)
    assert not path.with_name("store.db-wal").exists(), "closing leaves one file"
    with LocalStore(tiny, str(path)) as store:
        assert store.search(QUERY, 60) == hits


def test_the_file_says_what_it_is(path: Path) -> None:
    begin = path.read_bytes()[:100]
    assert begin[68:72] == b"chnd"
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)


def test_what_is_acknowledged_is_on_the_disk(tiny: ColBERT, path: Path) -> None:
    """With less than FULL a write-ahead log loses the last transactions when the power fails. Of each connection."""
    with LocalStore(tiny, path) as store, store._database.reading() as one, store._database.writing() as other:
        for connection in (one, other):
            assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_the_datatype_is_the_files(tiny: ColBERT, tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with LocalStore(tiny, path, datatype="float16") as store:
        store.upsert(DOCUMENTS)
    for datatype in (None, "float16"):
        with LocalStore(tiny, path, datatype=datatype) as store:
            assert store.datatype == "float16"
            assert store.get(["doc-0"], with_vectors=True)[0].vectors.dtype == np.float16
    with pytest.raises(StoreError, match=r"store\.db: was made with datatype float16, and is opened with float32"):
        LocalStore(tiny, path, datatype="float32")


def test_another_model_is_refused(tiny: ColBERT, path: Path, open_model: Callable[[str], ColBERT]) -> None:
    other = open_model("b_bert_attend")
    with pytest.raises(StoreError) as caught:
        LocalStore(other, path)
    for name in (str(path), tiny.fingerprint, other.fingerprint, "a_bert_pylate", "b_bert_attend"):
        assert name in str(caught.value)
    assert caught.value.store == str(path)


def test_the_same_model_with_other_lengths_opens(path: Path, goldens: Path) -> None:
    model = ColBERT(goldens / "a_bert_pylate" / "checkpoint", query_length=8, document_length=20)
    with LocalStore(model, path) as store:
        assert store.count() == 60


@pytest.mark.parametrize(
    ("statements", "message"),
    [
        (["PRAGMA application_id = 7"], "is the SQLite database of another application"),
        (["PRAGMA user_version = 2"], "has layout 2, this chandelier knows 1; a newer version"),
        (["PRAGMA user_version = 0"], "is damaged: it has other tables"),
        (["DROP TABLE vectors"], "is damaged: it has other tables"),
        (["ALTER TABLE documents ADD COLUMN more TEXT"], "is damaged: it has other tables"),
        (["CREATE TRIGGER t AFTER INSERT ON documents BEGIN SELECT 1; END"], "is damaged: it has other tables"),
        (["DELETE FROM settings WHERE name = 'dim'"], "is damaged: its dim is missing"),
        (["UPDATE settings SET value = 'int8' WHERE name = 'datatype'"], "is damaged: its datatype"),
        (["UPDATE settings SET value = 31 WHERE name = 'dim'"], "was made with dim 31, and is opened with 32"),
    ],
)
def test_other_contents_are_refused_when_it_is_opened(
    tiny: ColBERT, path: Path, statements: list[str], message: str
) -> None:
    before = changed(path, *statements).read_bytes()
    with pytest.raises(StoreError) as caught:
        LocalStore(tiny, path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)
    assert path.read_bytes() == before, "what is refused is not touched"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE vectors SET data = zeroblob(length(data)) WHERE row = 5",
        "UPDATE vectors SET data = zeroblob(3) WHERE row = 5",
        "UPDATE vectors SET tokens = tokens + 1 WHERE row = 5",
        "UPDATE vectors SET data = (SELECT data FROM vectors WHERE row = 6), tokens = (SELECT tokens FROM vectors "
        "WHERE row = 6), checksum = (SELECT checksum FROM vectors WHERE row = 6) WHERE row = 5",
        "DELETE FROM vectors WHERE row = 5",
        "DELETE FROM documents WHERE row = 5",
        "UPDATE documents SET text = 'another' WHERE row = 5",
        "UPDATE documents SET id = 'another' WHERE row = 5",
        "UPDATE documents SET metadata = '{' WHERE row = 5",
        "UPDATE settings SET value = 'x' WHERE name = 'deletions'",
        "UPDATE settings SET value = value + 1 WHERE name = 'tokens'",
        "DELETE FROM sqlite_sequence",
        "UPDATE sqlite_sequence SET seq = seq - 1",
        "DELETE FROM history",
    ],
)
def test_contents_that_nobody_wrote_are_no_hits(tiny: ColBERT, path: Path, statement: str) -> None:
    with LocalStore(tiny, changed(path, statement)) as store:
        for _ in range(2):
            with pytest.raises(StoreError, match="is damaged"):
                store.search(QUERY, 60)


@pytest.mark.parametrize("content", [b"x", b"just some text\n" * 1000, b"SQLite format 3\0", b"\0" * 8192])
def test_what_is_no_database_is_refused_and_left_alone(tiny: ColBERT, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"notes\.txt: (file is not a database|is damaged)"):
        LocalStore(tiny, path)
    assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["notes.txt"]


def test_a_database_of_others_is_left_alone(tiny: ColBERT, tmp_path: Path) -> None:
    path = changed(tmp_path / "other.db", "CREATE TABLE documents (id)")
    before = path.read_bytes()
    with pytest.raises(StoreError, match="of another application"):
        LocalStore(tiny, path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["other.db"]


def test_an_empty_file_becomes_a_store(tiny: ColBERT, tmp_path: Path) -> None:
    (tmp_path / "empty.db").touch()
    with LocalStore(tiny, tmp_path / "empty.db") as store:
        assert store.upsert(DOCUMENTS).stored == ids(DOCUMENTS)


def test_paths_that_are_no_files(tiny: ColBERT, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such folder"):
        LocalStore(tiny, tmp_path / "missing" / "store.db")
    with pytest.raises(StoreError, match="is a folder"):
        LocalStore(tiny, tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StoreError, match="is no regular file"):
        LocalStore(tiny, tmp_path / "pipe")
    os.symlink("nowhere/store.db", tmp_path / "link")
    with pytest.raises(StoreError, match="unable to open database file"):
        LocalStore(tiny, tmp_path / "link")


@pytest.mark.parametrize("name", ["a?b=c#d%20.db", "ключ 🕯.db", "file:x?mode=memory", b"\xff\xfe.db", 'it\'s "quoted"'])
def test_any_name_of_a_file(tiny: ColBERT, tmp_path: Path, name: str | bytes) -> None:
    path = os.path.join(tmp_path, os.fsdecode(name))
    with LocalStore(tiny, path) as store:
        store.upsert([Document("a", "text")])
        assert os.path.getsize(path) > 0
    with LocalStore(tiny, path) as store:
        assert ids(store.iterate()) == ["a"]
    assert os.listdir(os.fsencode(tmp_path)) == [os.path.basename(os.fsencode(path))]


def test_a_change_of_the_working_directory(
    tiny: ColBERT, path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    with LocalStore(tiny, "store.db") as store, LocalStore(tiny, "store.db") as other:
        monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
        with store._database.reading(), store._database.reading():  # more than the one connection that is open
            assert store.count() == 60
        other.close()
        assert store.path == str(path)


def test_a_copy_that_sqlite_made(tiny: ColBERT, path: Path) -> None:
    """`VACUUM INTO` makes a backup while others write; it has no write-ahead log until it is opened."""
    copy = path.with_name("copy.db")
    with LocalStore(tiny, path) as store:
        changed(path, f"VACUUM INTO '{copy}'")
        with LocalStore(tiny, copy) as other:
            assert other.search(QUERY, 60) == store.search(QUERY, 60)
            assert changed_mode(copy) == "wal"
            other.upsert([Document("a", "text")])
        assert store.count() == 60


def changed_mode(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        return str(connection.execute("PRAGMA journal_mode").fetchone()[0])


def test_an_older_copy_put_in_its_place(tiny: ColBERT, path: Path) -> None:
    """As a restored backup: what was written over the file counts, not what is in memory."""
    backup = shutil.copy(path, path.with_name("backup.db"))
    with LocalStore(tiny, path) as store:
        store.upsert([Document("new", "text", vectors=QUERY)])
        assert store.search(QUERY, 1)[0].id == "new"
        with closing(sqlite3.connect(backup)) as source, closing(sqlite3.connect(path)) as target:
            source.backup(target)
        assert len(store.search(QUERY, 100)) == 60
        assert "new" not in ids(store.search(QUERY, 100))
        store.upsert([Document("newer", "text", vectors=QUERY)])
        assert store.search(QUERY, 1)[0].id == "newer"


@pytest.mark.parametrize("more", [5, 6, 9])
def test_an_older_copy_that_others_went_on_with(tiny: ColBERT, path: Path, more: int) -> None:
    """As many documents or more came after the copy, of the same lengths: it is not taken for what is in memory."""
    backup = shutil.copy(path, path.with_name("backup.db"))
    rows = unit_rows(np.random.default_rng(3), 28, 32).reshape(14, 2, 32)
    ours = [Document(f"a{i}", "", vectors=rows[i]) for i in range(5)]
    theirs = [Document(f"b{i}", "", vectors=rows[5 + i]) for i in range(more)]
    with LocalStore(tiny, path) as store:
        store.upsert(ours)
        assert store.search(rows[0], 1)[0].id == "a0"
        with closing(sqlite3.connect(backup)) as source, closing(sqlite3.connect(path)) as target:
            source.backup(target)
        with LocalStore(tiny, path) as other:
            other.upsert(theirs)
            expected = [id for id, _ in best(rows[5], [*DOCUMENTS, *theirs], 100, "float32")]
            assert ids(other.search(rows[5], 100)) == ids(store.search(rows[5], 100)) == expected
        store.upsert(ours)
        expected = [id for id, _ in best(rows[0], [*DOCUMENTS, *theirs, *ours], 100, "float32")]
        assert ids(store.search(rows[0], 100)) == expected


MOVED = r"store\.db: was moved, deleted or replaced; open it again"


@pytest.mark.parametrize("what", ["moved", "deleted", "replaced by itself", "replaced by another"])
def test_a_file_that_is_moved_away(tiny: ColBERT, path: Path, what: str) -> None:
    """Its connections would go on writing to a file that nobody finds."""
    backup = shutil.copy(path, path.with_name("backup.db"))
    with LocalStore(tiny, path.with_name("other.db")) as other:
        other.upsert([Document("other", "text")])
    with LocalStore(tiny, path) as store:
        store.search(QUERY)
        if what == "moved":
            path.rename(path.with_name("moved.db"))
        elif what == "deleted":
            path.unlink()
        else:
            os.replace(backup if what == "replaced by itself" else other.path, path)
        with pytest.raises(StoreError, match=MOVED) as caught:
            store.upsert([Document("new", "text")])
        assert caught.value.report.stored == []
        for call in (store.count, store.iterate, store.vacuum, lambda: store.search(QUERY), lambda: store.get(["new"])):
            with pytest.raises(StoreError, match=MOVED):
                call()


def test_another_store_written_over_it(tiny: ColBERT, path: Path) -> None:
    with LocalStore(tiny, path.with_name("other.db")) as other:
        other.upsert([Document("other", "text")])
    with LocalStore(tiny, path) as store:
        shutil.copyfile(other.path, path)
        with store._database.reading(), pytest.raises(StoreError, match="was replaced by another store"):
            store.count()


def test_an_old_sqlite_is_refused(tiny: ColBERT, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "OLDEST_SQLITE", (99, 0, 0))
    with pytest.raises(StoreError, match=r"got SQLite 3\..*, wanted 99\.0\.0 or newer"):
        LocalStore(tiny)


# Permissions

AS_NOBODY = """
import os, sys
import numpy as np
from chandelier import ColBERT, Document, LocalStore, StoreError

model = ColBERT(sys.argv[2])
query = np.load(sys.argv[3])
with LocalStore(model) as store:  # so that all is imported: nobody may not read Python's own files
    store.upsert([Document("a", "text", {"even": True})])
    store.search(query, filter={"even": True})
if os.getuid() == 0:
    os.setgroups([])
    os.setuid(65534)
try:
    with LocalStore(model, sys.argv[1]) as store:
        print(len(store.search(query, 100)), store.count({"even": True}))
        try:
            store.upsert([Document("a", "text")])
        except StoreError as error:
            print(error.report.stored, error)
except StoreError as error:
    print(error)
"""


def as_nobody(path: Path, model: ColBERT) -> list[str]:
    """What somebody sees who may not write: root may, whatever the permissions."""
    query = path.with_name("query.npy")
    np.save(query, QUERY)
    for folder in [*path.parents][:4]:  # pytest's own; one more where it runs in several processes
        folder.chmod(folder.stat().st_mode | 0o055)
    arguments = [sys.executable, "-c", AS_NOBODY, str(path), model.name, str(query)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_file_that_cannot_be_written(tiny: ColBERT, path: Path) -> None:
    path.chmod(0o444)
    path.parent.chmod(0o777)
    found, refused = as_nobody(path, tiny)
    assert found == "60 30"
    assert refused.startswith(f"[] {path}: attempt to write a readonly database: the file or its folder cannot")


def test_a_folder_that_cannot_be_written(tiny: ColBERT, path: Path) -> None:
    path.chmod(0o444)
    path.parent.chmod(0o555)
    found, refused = as_nobody(path, tiny)
    assert found == "60 30"
    assert refused.startswith(f"[] {path}: attempt to write a readonly database")
    assert sorted(os.listdir(path.parent)) == ["query.npy", "store.db"]


def test_a_file_that_cannot_be_read(tiny: ColBERT, path: Path) -> None:
    path.chmod(0o000)
    assert as_nobody(path, tiny) == [
        f"{path}: unable to open database file: look at the permissions of the file and of its folder"
    ]


# A full disk


def check(answer: tuple[str, list[str], list[str], list[str]], path: Path) -> str:
    message, reported, there, at_the_end = answer
    assert message.startswith(f"{path}: ")
    assert 0 < len(reported) < 3000
    assert len(reported) % 512 == 0
    assert sorted(there) == sorted({*reported, *(f"{i}" for i in range(10))}), "old state intact"
    assert at_the_end == [f"{i}" for i in range(20)]
    return message


def test_a_file_that_may_not_grow(tiny: ColBERT, tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    process, pipe = start(under_a_limit, tiny, str(path))
    (answer,) = said(pipe)
    process.join()
    check(answer, path)
    with LocalStore(tiny, path) as store:
        assert store.count() == 20


def test_a_full_disk(tiny: ColBERT, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256m", "tmpfs", str(disk)]
    if os.getuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root mounts a small disk")
    try:
        (disk / "ballast").write_bytes(bytes(208 << 20))
        answer = until_full(tiny, str(disk / "store.db"), (disk / "ballast").unlink)
        assert "database or disk is full: make room" in check(answer, disk / "store.db")
    finally:
        subprocess.run(["umount", str(disk)], check=True)
