"""`LocalStore`: the contract, in memory and on a file, and what only it does."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contract import StoreContract
from reference import best, ids, passes, random_documents, unit_rows

from chandelier import ArgumentError, ColBERT, Document, LocalStore, StoreError
from chandelier.store.local import held
from chandelier.store.local.memory import available

QUERY = unit_rows(np.random.default_rng(9), 8, 32)
ROW = np.eye(32, dtype=np.float32)[:1]


class TestInMemory(StoreContract):
    @pytest.fixture
    def raw(self, tiny: ColBERT) -> LocalStore:
        return LocalStore(tiny)


class TestOnFile(StoreContract):
    @pytest.fixture
    def raw(self, tiny: ColBERT, tmp_path: Path) -> LocalStore:
        return LocalStore(tiny, tmp_path / "store.db")


class TestHalfPrecision(StoreContract):
    datatype = "float16"
    tolerance = 5e-4

    @pytest.fixture
    def raw(self, tiny: ColBERT, tmp_path: Path) -> LocalStore:
        return LocalStore(tiny, tmp_path / "store.db", datatype="float16")


class TestAsynchronous(TestOnFile):
    asynchronous = True


class TestAsynchronousInMemory(TestInMemory):
    asynchronous = True


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, tiny: ColBERT, tmp_path: Path) -> Iterator[LocalStore]:
    with LocalStore(tiny, tmp_path / "store.db" if request.param == "file" else None) as store:
        yield store


# Arguments


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"model": "path/to/model"}, "model"),
        ({"model": ColBERT}, "model"),
        ({"path": 3}, "path"),
        ({"path": ""}, "path"),
        ({"path": "a\0b"}, "path"),
        ({"path": ":memory:"}, "path"),
        ({"datatype": "int8"}, "datatype"),
        ({"datatype": np.float16}, "datatype"),
        ({"pool_factor": 0}, "pool_factor"),
        ({"protected_tokens": -1}, "protected_tokens"),
        ({"memory_limit": 0}, "memory_limit"),
        ({"memory_limit": "1 GB"}, "memory_limit"),
    ],
)
def test_bad_arguments(tiny: ColBERT, options: dict[str, Any], argument: str) -> None:
    with pytest.raises(ArgumentError, match=f"{argument}: got") as caught:
        LocalStore(**{"model": tiny, **options})
    assert caught.value.argument == argument


def test_what_it_says_of_itself(tiny: ColBERT, tmp_path: Path) -> None:
    with LocalStore(tiny) as store:
        assert (store.path, store.datatype) == (None, "float32")
        assert repr(store) == f"LocalStore(path=None, model={tiny.name!r}, datatype='float32')"
    with LocalStore(tiny, tmp_path / "a.db", datatype="float16") as store:
        assert (store.path, store.datatype) == (str(tmp_path / "a.db"), "float16")


def test_pooling_is_the_models(tiny: ColBERT) -> None:
    text = "Bread needs flour, water, salt and a little time to rise."
    with LocalStore(tiny, pool_factor=2, protected_tokens=2) as store:
        store.upsert([Document("a", text)])
        (document,) = store.get(["a"], with_vectors=True)
        assert np.array_equal(document.vectors, tiny.encode_documents([text], pool_factor=2, protected_tokens=2)[0])


@pytest.mark.parametrize("call", ["upsert", "search", "get", "delete", "delete_all", "count", "iterate", "vacuum"])
def test_a_closed_store_says_so(store: LocalStore, call: str) -> None:
    store.upsert([Document("a", "text")])
    arguments = {"upsert": [[Document("b", "b")]], "search": ["text"], "get": [["a"]], "delete": [["a"]]}
    iterator = store.iterate()
    store.close()
    with pytest.raises(StoreError, match="is closed") as caught:
        getattr(store, call)(*arguments.get(call, []))
    assert caught.value.store == (store.path or "LocalStore in memory")
    with pytest.raises(StoreError, match="is closed"):
        next(iterator)


# Order


def test_of_equal_documents_the_one_stored_first_comes_first(store: LocalStore) -> None:
    names = [f"{i * 7919 % 1000}" for i in range(1000)]
    store.upsert([Document(name, "the same", vectors=ROW) for name in names])
    assert ids(store.search(QUERY, 1000)) == names
    store.upsert([Document(names[3], "the same", vectors=ROW)])
    assert ids(store.search(QUERY, 1000)) == [*names[:3], *names[4:], names[3]]
    assert ids(store.search(QUERY, 5, filter={"missing": {"$exists": False}})) == [*names[:3], *names[4:6]]
    assert ids(store.iterate()) == [*names[:3], *names[4:], names[3]]


def test_iterating_while_writing(store: LocalStore) -> None:
    """What is there when it begins comes once, as it is when its turn comes."""
    store.upsert([Document(f"{i}", "old", vectors=ROW) for i in range(600)])
    seen = []
    for document in store.iterate():
        seen.append((document.id, document.text))
        if document.id == "0":
            store.delete(["1", "599"])
            store.upsert([Document("2", "new", vectors=ROW), Document("598", "new", vectors=ROW)])
            store.upsert([Document("more", "new", vectors=ROW)])
    assert [id for id, _ in seen if id != "1"] == ["0", *(f"{i}" for i in range(2, 599))]
    assert dict(seen)["598"] == "new"


def test_storing_what_is_iterated(store: LocalStore) -> None:
    store.upsert([Document(f"{i}", "text", {"i": i}, ROW) for i in range(1300)])
    changed = (
        Document(each.id, each.text, {**each.metadata, "seen": True}, each.vectors)
        for each in store.iterate(with_vectors=True)
    )
    assert len(store.upsert(changed).stored) == store.count({"seen": True}) == store.count() == 1300


def test_an_error_of_the_stream_carries_the_report(store: LocalStore) -> None:
    def documents() -> Iterator[Document]:
        yield from random_documents(600, 32)
        raise OSError("the network is gone")

    with pytest.raises(OSError, match="the network is gone") as caught:
        store.upsert(documents())
    assert caught.value.report.stored == ids(store.iterate()) == [f"doc-{i}" for i in range(512)]  # type: ignore[attr-defined]


# Memory


def test_parts_are_few_and_exact(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of documents that come, go and are replaced one by one, with parts so small that there are many."""
    monkeypatch.setattr(held, "PART_BYTES", 40_000)
    rng = np.random.default_rng(1)
    pool = random_documents(400, 32, seed=2)
    there: dict[str, Document] = {}
    for step in range(300):
        document = pool[int(rng.integers(len(pool)))]
        if document.id in there and rng.random() < 0.5:
            store.delete([document.id])
            del there[document.id]
        else:
            store.upsert([document])
            there.pop(document.id, None)
            there[document.id] = document
        if step % 3 == 0:
            assert ids(store.search(QUERY, 12)) == [id for id, _ in best(QUERY, there.values(), 12, "float32")]
            wanted = [each for each in there.values() if passes(each.metadata, {"even": True})]
            hits = store.search(QUERY, 12, filter={"even": True})
            assert ids(hits) == [id for id, _ in best(QUERY, wanted, 12, "float32")]
    parts = store._held.newest.parts
    stored = sum(np.asarray(each.vectors).nbytes for each in there.values())
    assert 1 < len(parts) < 20
    assert all(part.nbytes <= 40_000 for part in parts)
    assert stored <= store._held.newest.nbytes < 2 * stored


def test_memory_of_what_was_deleted_is_given_back(store: LocalStore) -> None:
    """When it is half of a part; until then it waits."""
    store.upsert([Document(f"{i}", "", vectors=np.repeat(ROW, 8, axis=0)) for i in range(100)])
    store.search(QUERY)
    size = store._held.newest.nbytes
    for deleted, kept in ((40, 100), (60, 40), (90, 10)):
        store.delete([f"{i}" for i in range(deleted)])
        assert ids(store.search(QUERY, 100)) == [f"{i}" for i in range(deleted, 100)]
        assert store._held.newest.nbytes == size * kept // 100
    store.delete_all()
    assert store.search(QUERY) == []
    assert store._held.newest.nbytes == 0


def test_a_large_store_is_read_in_parts(tiny: ColBERT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    documents = [*random_documents(200, 32), Document("long", "", vectors=unit_rows(np.random.default_rng(0), 999, 32))]
    with LocalStore(tiny, tmp_path / "store.db") as store:
        store.upsert(documents)
        expected = store.search(QUERY, 30)
        assert len(store._held.newest.parts) == 1
    monkeypatch.setattr(held, "PART_BYTES", 10_000)
    with LocalStore(tiny, tmp_path / "store.db") as store:
        assert store.search(QUERY, 30) == expected
        assert len(store._held.newest.parts) > 10
        assert [len(part.vectors.data) for part in store._held.newest.parts if part.nbytes > 10_000] == [999]


def test_nothing_is_read_again_without_need(tiny: ColBERT, tmp_path: Path) -> None:
    with LocalStore(tiny, tmp_path / "store.db") as store:
        store.upsert(random_documents(100, 32))
        assert store._held.newest.parts == (), "memory is taken by the first search"
        store.search(QUERY)
        snapshot = store._held.newest
        store.search_many([QUERY, "text"], filter={"even": True})
        assert store._held.newest is snapshot
        store.upsert([Document("a", "text")])
        store.search(QUERY)
        assert store._held.newest.parts[0] is snapshot.parts[0]
        assert len(store._held.newest.parts) == 2


def test_the_memory_is_announced(
    tiny: ColBERT, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LocalStore(tiny, tmp_path / "store.db") as store:
        store.upsert([Document(f"{i}", "", vectors=np.repeat(ROW, 64, axis=0)) for i in range(256)])
        with caplog.at_level(logging.INFO, "chandelier"):
            store.search(QUERY)
    (record,) = caplog.records
    assert record.getMessage() == f"{store.path}: taking 2.0 MiB of memory for vectors"
    assert record.levelname == "INFO"
    caplog.clear()
    monkeypatch.setattr(held, "LOUD_BYTES", 1 << 20)
    with LocalStore(tiny, tmp_path / "store.db") as store:
        store.search(QUERY)
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_more_than_the_memory_limit_is_refused(tiny: ColBERT, tmp_path: Path) -> None:
    documents = [Document(f"{i}", "", vectors=np.repeat(ROW, 64, axis=0)) for i in range(256)]
    with LocalStore(tiny, tmp_path / "store.db") as store:
        store.upsert(documents)
    with LocalStore(tiny, tmp_path / "store.db", memory_limit=(2 << 20) - 1) as store:
        with pytest.raises(
            StoreError, match=r"take 2\.0 MiB of memory, 2\.0 MiB are allowed by memory_limit"
        ) as caught:
            store.search(QUERY)
        for way_out in ("float16", "pool_factor", "QdrantEdgeStore", "server"):
            assert way_out in str(caught.value)
        assert store.count() == len(list(store.iterate(with_vectors=True))) == 256, "what needs no memory works"
        store.delete(["0"])
        assert len(store.search(QUERY, 300)) == 255
    with LocalStore(tiny, tmp_path / "store.db", memory_limit=2 << 20) as store:
        assert len(store.search(QUERY, 300)) == 255


def test_an_upsert_beyond_the_memory_is_refused(tiny: ColBERT) -> None:
    """The portion that goes too far is not stored, those before it are, and the store goes on."""
    documents = [Document(f"{i}", "", vectors=np.repeat(ROW, 64, axis=0)) for i in range(1500)]
    with LocalStore(tiny, memory_limit=10 << 20) as store:
        with pytest.raises(StoreError, match=r"allowed by memory_limit") as caught:
            store.upsert(documents)
        report = caught.value.report
        assert report is not None
        assert report.stored == ids(documents[:1024])
        assert ids(store.search(QUERY, 2000)) == report.stored
        assert len(store.upsert(documents[:1280]).stored) == 1280
        assert store.count() == 1280


def test_more_than_the_system_has_is_refused(tiny: ColBERT, monkeypatch: pytest.MonkeyPatch) -> None:
    with LocalStore(tiny) as store:
        store.upsert([Document("a", "text", vectors=ROW)])
        monkeypatch.setattr(held, "available", lambda: 100)
        with pytest.raises(StoreError, match="are available"):
            store.search(QUERY)
        monkeypatch.setattr(held, "available", lambda: None)  # a system that does not say
        assert ids(store.search(QUERY)) == ["a"]
        monkeypatch.setattr(held, "available", lambda: 0)  # what is held is not taken again
        assert ids(store.search(QUERY)) == ["a"]


def test_the_memory_that_is_available(tmp_path: Path) -> None:
    def write(path: str, text: str) -> None:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)

    assert available(tmp_path) is None
    write("proc/meminfo", "MemTotal:  2000 kB\nMemFree:  10 kB\nMemAvailable:  1000 kB\n")
    assert available(tmp_path) == 1000 << 10
    write("proc/self/cgroup", "0::/box/inner\n")
    write("sys/fs/cgroup/box/inner/memory.max", "max\n")
    write("sys/fs/cgroup/box/inner/memory.current", "5000\n")
    assert available(tmp_path) == 1000 << 10
    write("sys/fs/cgroup/box/memory.max", "90000\n")
    write("sys/fs/cgroup/box/memory.current", "50000\n")
    write("sys/fs/cgroup/box/memory.stat", "anon 3\nfile 8000\ninactive_file 2000\nactive_file 1000\n")
    assert available(tmp_path) == 90000 - 50000 + 3000
    write("proc/self/cgroup", "4:cpu,memory:/old\n0::/\n")
    write("sys/fs/cgroup/memory/memory.limit_in_bytes", "70000\n")
    write("sys/fs/cgroup/memory/memory.usage_in_bytes", "80000\n")
    write("sys/fs/cgroup/memory/memory.stat", "inactive_file 7\ntotal_inactive_file 10500\ntotal_active_file 0\n")
    assert available(tmp_path) == 500
    assert (available() or 0) > 1 << 20


# Filters that are hard on SQLite


def test_deep_and_wide_filters(store: LocalStore) -> None:
    store.upsert([Document(f"{i}", "", {"i": i, "odd": i % 2}, ROW) for i in range(40)])
    deep: dict[str, Any] = {"i": 3}
    for level in range(30):
        deep = {"$or" if level % 2 else "$and": [{"i": {"$lt": 30}}, deep]}
    deep_not: dict[str, Any] = {"i": 3}
    for _ in range(60):
        deep_not = {"$not": deep_not}
    wide = {"$or": [{"i": i} for i in range(2, 4000)]}
    both = {"$and": [wide, {"$not": {"$and": [{"i": {"$ne": i}} for i in range(500)]}}, deep]}
    several = {"i": {"$in": list(range(5, 100_000))}, "odd": {"$nin": [0] * 1000}}
    for filter in (deep, deep_not, wide, both, several):
        assert store.count(filter) == sum(passes({"i": i, "odd": i % 2}, filter) for i in range(40))


def test_vacuum_gives_room_back(tiny: ColBERT, tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with LocalStore(tiny, path) as store:
        store.upsert([Document(f"{i}", "", vectors=np.repeat(ROW, 64, axis=0)) for i in range(1000)])
        store.delete([f"{i}" for i in range(900)])
        hits = store.search(QUERY, 200)
        assert ids(hits) == [f"{i}" for i in range(900, 1000)]
        store.vacuum()
        assert path.stat().st_size < 1_500_000
        assert (tmp_path / "store.db-wal").stat().st_size == 0
        assert store.search(QUERY, 200) == hits
        store.upsert([Document("new", "", vectors=ROW)])
        assert ids(store.search(QUERY, 200)) == [*ids(hits), "new"]


def test_a_text_of_few_characters_and_many_tokens_is_reported(open_model: Callable[[str], ColBERT]) -> None:
    """In bytes, one character has up to four tokens."""
    with LocalStore(open_model("h_modernbert_v5")) as store:
        given = [Document("few", "🌊" * 10), Document("many", "🌊" * 20), Document("blank", "the sea" + "\n" * 5000)]
        assert store.upsert(given).truncated == ["many"]
