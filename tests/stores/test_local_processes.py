"""One `LocalStore` in many threads, one file in many processes, forks and pickles."""

from __future__ import annotations

import asyncio
import copy
import os
import pickle
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from reference import best, ids, random_documents, unit_rows
from workers import fill, fork_an_open_store, generation, said, search, start, store_one_by_one

from chandelier import ArgumentError, ColBERT, Document, LocalStore, StoreError

QUERY = unit_rows(np.random.default_rng(9), 8, 32)


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, tiny: ColBERT, tmp_path: Path) -> LocalStore:
    with LocalStore(tiny, tmp_path / "store.db" if request.param == "file" else None) as store:
        yield store


def test_threads_search_while_others_write(store: LocalStore) -> None:
    """Each search sees whole portions: of a generation that replaces another, all or nothing."""
    store.upsert(generation(0, 300))
    done = threading.Event()

    def searching() -> int:
        searches = 0
        while not done.is_set() or not searches:
            hits = store.search(QUERY, 1000)
            assert len(hits) == len({hit.id for hit in hits}) == 300
            assert len({hit.text for hit in hits}) == 1, "half of a portion was seen"
            assert store.count({"generation": {"$gte": 0}}) == 300
            searches += 1
        return searches

    def writing(first: int) -> None:
        for number in range(first, first + 8):
            assert len(store.upsert(generation(number, 300)).stored) == 300

    with ThreadPoolExecutor(6) as pool:
        readers = [pool.submit(searching) for _ in range(4)]
        writers = [pool.submit(writing, first) for first in (1, 101)]
        for writer in writers:
            writer.result()
        done.set()
        assert all(reader.result() for reader in readers)


def test_tasks_search_while_others_write(store: LocalStore) -> None:
    async def all_at_once() -> None:
        await asyncio.gather(*(store.aupsert(random_documents(40, 32, seed)) for seed in range(5)))
        answers = await asyncio.gather(*(store.asearch(QUERY, 40) for _ in range(20)))
        assert all(len(hits) == 40 for hits in answers)
        assert await store.acount() == 40

    asyncio.run(all_at_once())


def test_a_cancelled_upsert_writes_nothing_more(store: LocalStore) -> None:
    """When the cancelled call has returned, what is stored next is not overwritten by what it had left."""
    old, new = generation(0, 3000), generation(1, 3000)
    taken = []

    async def cancelled() -> None:
        begun = asyncio.Event()
        loop = asyncio.get_running_loop()

        def stream() -> Iterator[Document]:
            for document in old:
                taken.append(document)
                if len(taken) == 600:
                    loop.call_soon_threadsafe(begun.set)
                    time.sleep(0.05)
                yield document

        task = asyncio.create_task(store.aupsert(stream()))
        await begun.wait()
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        there = store.count()
        await store.aupsert(new[:1500])
        await asyncio.sleep(0.3)
        assert there == 512
        assert len(taken) < 3000
        assert store.count({"generation": 0}) == 0
        assert await store.acount() == 1500

    asyncio.run(cancelled())


def test_aupsert_refuses_what_upsert_refuses(store: LocalStore) -> None:
    for documents in (7, "ab", {"a": 1}, Document("a", "text"), ["a"]):
        with pytest.raises(ArgumentError, match="documents"):
            asyncio.run(store.aupsert(documents))  # type: ignore[arg-type]


def test_aiterate_leaves_the_event_loop_alone(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither its query nor its pages run there; a page of documents is one hop."""
    store.upsert(generation(0, 100))
    threads: list[int] = []
    reading = store._database.reading

    def watched() -> object:
        threads.append(threading.get_ident())
        return reading()

    hops: list[object] = []
    to_thread = asyncio.to_thread

    def counted(*arguments: object, **options: object) -> object:
        hops.append(arguments)
        return to_thread(*arguments, **options)

    async def read() -> list[Document]:
        monkeypatch.setattr(store._database, "reading", watched)
        monkeypatch.setattr(asyncio, "to_thread", counted)
        return [document async for document in store.aiterate()]

    assert ids(asyncio.run(read())) == [f"{i}" for i in range(100)]
    assert threads
    assert threading.get_ident() not in threads
    assert len(hops) < 10


def test_a_writer_is_found_by_a_store_that_has_searched(tiny: ColBERT, tmp_path: Path) -> None:
    documents = random_documents(60, 32)
    with LocalStore(tiny, tmp_path / "store.db") as one, LocalStore(tiny, tmp_path / "store.db") as other:
        assert one.search(QUERY) == other.search(QUERY) == []
        for begin in range(0, 60, 10):
            one.upsert(documents[begin : begin + 10])
            expected = best(QUERY, documents[: begin + 10], 10, "float32")
            assert ids(other.search(QUERY)) == ids(one.search(QUERY)) == [id for id, _ in expected]
        other.delete([expected[0][0]])
        assert one.search(QUERY)[0].id == expected[1][0]
        other.vacuum()
        other.delete_all()
        assert one.search(QUERY) == []


def test_processes_write_and_read_at_once(tiny: ColBERT, tmp_path: Path) -> None:
    """They also make the file at once: nobody was there before."""
    path = str(tmp_path / "store.db")
    writers = [start(store_one_by_one, tiny, path, "w" * number, 30) for number in range(1, 4)]
    fillers = [start(fill, tiny, path, number, 1000) for number in (1, 2)]
    readers = [start(search, tiny, path, 15) for _ in range(2)]
    for number, (process, pipe) in enumerate(writers, 1):
        name = "w" * number
        assert said(pipe) == [(f"{name}-{i}", i + 1) for i in range(30)]
        process.join()
        assert process.exitcode == 0
    for process, pipe in fillers:
        assert said(pipe) == ["ready", 500, 500]
        process.join()
    for process, pipe in readers:
        answers = said(pipe)
        assert len(answers) == 15
        assert all(found == different for found, different, _ in answers)
        process.join()
        assert process.exitcode == 0
    with LocalStore(tiny, path) as store:
        assert store.count() == 90 + 1000
        assert len(store.search(QUERY, 2000)) == 90 + 1000


def test_many_processes_make_one_file(tiny: ColBERT, tmp_path: Path) -> None:
    for turn in range(5):
        path = str(tmp_path / f"{turn}.db")
        processes = [start(fill, tiny, path, number, 10) for number in range(6)]
        for process, pipe in processes:
            assert said(pipe) == ["ready", 10]
            process.join()
        with LocalStore(tiny, path) as store:
            assert store.count() == 10


def test_another_process_that_writes_too_long(tiny: ColBERT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chandelier.store.local.database.PATIENCE_SECONDS", 0.2)
    with LocalStore(tiny, tmp_path / "store.db") as store, LocalStore(tiny, tmp_path / "store.db") as other:
        store.upsert([Document("a", "text")])
        with other._database.writing():
            with pytest.raises(StoreError, match=r"store\.db: database is locked: another process") as caught:
                store.upsert([Document("b", "text")])
            assert caught.value.report.stored == []
            assert ids(store.search("text")) == ["a"]
        assert store.upsert([Document("b", "text")]).stored == ["b"]


def test_ctrl_c_while_waiting_for_another_writer(tiny: ColBERT, tmp_path: Path) -> None:
    """It is raised as the transaction has begun, which must not stay open: the file would be locked for good."""
    path = tmp_path / "store.db"
    with (
        LocalStore(tiny, path) as store,
        closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other,
    ):
        store.upsert([Document("a", "text")])
        other.execute("BEGIN IMMEDIATE")
        interrupt = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
        timers = [interrupt, threading.Timer(0.4, other.rollback)]
        for timer in timers:
            timer.start()
        with pytest.raises(KeyboardInterrupt):
            store.upsert([Document("b", "text")])
        for timer in timers:
            timer.join()
        assert not any(connection.in_transaction for connection in store._database._idle)
        other.execute("BEGIN IMMEDIATE")
        other.rollback()
        assert store.upsert([Document("c", "text")]).stored == ["c"]
        assert ids(store.iterate()) == ["a", "c"]


@pytest.mark.parametrize("file", ["store.db", None])
def test_a_store_does_not_cross_a_fork(tiny: ColBERT, tmp_path: Path, file: str | None) -> None:
    """SQLite takes the parent's locks for the child's: acknowledged documents were lost, and children hung."""
    process, pipe = start(fork_an_open_store, tiny, file and str(tmp_path / file))
    (name, errors), all_the_rest = said(pipe)
    process.join()
    assert (all_the_rest, process.exitcode) == ("all", 0)
    assert all(isinstance(error, StoreError) and error.store == name for error in errors)
    for error in errors[:8]:
        assert "was opened before a fork; open it in the process that uses it, and start workers by spawn" in str(error)
    if file is not None:
        (error,) = errors[8:]
        assert "is open in the process that this one was forked from; start workers by spawn" in str(error)


def test_a_forked_child_opens_what_was_closed_before(tiny: ColBERT, tmp_path: Path) -> None:
    with LocalStore(tiny, tmp_path / "store.db") as store:
        store.upsert([Document("a", "text")])
    process, pipe = start(fill, tiny, store.path, 1, 10)
    assert said(pipe) == ["ready", 10]
    process.join()
    with LocalStore(tiny, tmp_path / "store.db") as store:
        assert store.count() == 11


@pytest.mark.parametrize("again", [lambda store: pickle.loads(pickle.dumps(store)), copy.copy, copy.deepcopy])
def test_a_pickle_opens_the_file_again(tiny: ColBERT, tmp_path: Path, again: object) -> None:
    path = tmp_path / "store.db"
    with LocalStore(tiny, path, datatype="float16", pool_factor=2, memory_limit=10**6) as store:
        store.upsert([Document("a", "Bread needs flour, water and salt.")])
        with again(store) as other:  # type: ignore[operator]
            assert other.search("bread") == store.search("bread")
            assert (other.path, other.datatype) == (str(path), "float16")
            assert (other._encoding.pooling, other._memory_limit) == ((2, 1), 10**6)
            other.upsert([Document("b", "text")])
        assert store.count() == 2


def test_a_store_in_memory_is_not_pickled(tiny: ColBERT) -> None:
    with LocalStore(tiny) as store, pytest.raises(StoreError, match="cannot be pickled; give it a path"):
        pickle.dumps(store)


def test_connections_are_few(store: LocalStore) -> None:
    store.upsert([Document("a", "text")])
    files = "/proc/self/fd"
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda _: store.count(), range(500)))
    assert len(store._database._idle) <= 8
    if store.path is not None:
        store.close()
        opened = [os.readlink(f"{files}/{fd}") for fd in os.listdir(files) if os.path.exists(f"{files}/{fd}")]
        assert not any(name.startswith(store.path) for name in opened)
