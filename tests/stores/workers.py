"""What other processes do to a store; they are real ones, and some of them are killed."""

from __future__ import annotations

import multiprocessing
import resource
from collections.abc import Callable
from functools import cache
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from reference import ids, random_documents, unit_rows

from chandelier import ColBERT, Document, LocalStore, StoreError

BATCH = 500
CONTEXT = multiprocessing.get_context("forkserver")
"""A child is forked from a process that has no threads: those of pytest's, gRPC's say, may hold what a child waits for,
and the child would hold open what those processes wait for that other tests started."""
CONTEXT.set_forkserver_preload(["numpy", "chandelier"])


@cache
def rows(count: int) -> list[npt.NDArray[np.float32]]:
    """Two random rows for each of so many documents."""
    rng = np.random.default_rng(4)
    return [unit_rows(rng, 2, 32) for _ in range(count)]


def generation(number: int, count: int) -> list[Document]:
    """The same documents each time, but for the number of the generation in text and metadata."""
    text, metadata = f"generation {number}", {"generation": number}
    return [Document(f"{i}", text, metadata, vectors) for i, vectors in enumerate(rows(count))]


def start(work: Callable[..., None], *arguments: Any, context: Any = CONTEXT) -> tuple[BaseProcess, Connection]:
    """A process that does some work of this file, and what it says meanwhile."""
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(theirs, *arguments))
    process.start()
    theirs.close()
    return process, ours


def said(pipe: Connection) -> list[Any]:
    """All that a process said until it ended."""
    messages = []
    try:
        while True:
            messages.append(pipe.recv())
    except EOFError:
        return messages


def fill(pipe: Connection, model: ColBERT, path: str, number: int, count: int, batch: int = BATCH) -> None:
    """Store a generation in batches, each in a call, and say of each that it is stored."""
    documents = generation(number, count)
    pipe.send("ready")
    with LocalStore(model, path) as store:
        for begin in range(0, count, batch):
            report = store.upsert(documents[begin : begin + batch])
            pipe.send(len(report.stored))


def store_one_by_one(pipe: Connection, model: ColBERT, path: str, name: str, count: int) -> None:
    """Store documents of its own, each in a call, and find each afterwards."""
    rng = np.random.default_rng(len(name))
    with LocalStore(model, path) as store:
        for i in range(count):
            rows = unit_rows(rng, 2, 32)
            store.upsert([Document(f"{name}-{i}", name, {"by": name}, rows)])
            (hit,) = store.search(rows, 1, filter={"by": name})
            pipe.send((hit.id, store.count({"by": name})))


def search(pipe: Connection, model: ColBERT, path: str, count: int) -> None:
    """Search while others write, and say what was found."""
    rows = unit_rows(np.random.default_rng(5), 4, 32)
    with LocalStore(model, path) as store:
        for _ in range(count):
            hits = store.search(rows, 1000)
            pipe.send((len(hits), len({hit.id for hit in hits}), {hit.text for hit in hits}))


def until_full(model: ColBERT, path: str, make_room: Callable[[], None]) -> tuple[str, list[str], list[str], list[str]]:
    """The error, what it reports as stored, what was there then, and what was there after there was room again."""
    query = unit_rows(np.random.default_rng(9), 8, 32)
    documents = [Document(f"{i}", "text", {"i": i}, np.repeat(query, 16, axis=0)) for i in range(3000)]
    with LocalStore(model, path) as store:
        store.upsert(documents[:10])
        with pytest.raises(StoreError) as caught:
            store.upsert(documents)
        there = ids(store.iterate())
        assert ids(store.search(query, 5000)) == there
        make_room()
        assert len(store.upsert(documents).stored) == store.count() == 3000
        assert store.delete(filter={"i": {"$gte": 20}}) == 2980
        store.vacuum()
        return str(caught.value), caught.value.report.stored, there, ids(store.iterate())


def under_a_limit(pipe: Connection, model: ColBERT, path: str) -> None:
    """The same in a process whose files may not grow, for a while."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (24 << 20, hard))
    pipe.send(until_full(model, path, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))))


def calls_after_a_fork(pipe: Connection, store: LocalStore) -> None:
    """What becomes of each call of a store that was opened before the fork, and of opening its file again."""
    rows = unit_rows(np.random.default_rng(5), 4, 32)
    calls: list[Callable[[], object]] = [
        lambda: store.upsert([Document("child", "text", vectors=rows)]),
        lambda: store.search(rows),
        lambda: store.get(["a"]),
        lambda: store.delete(["a"]),
        lambda: store.delete_all(),
        lambda: store.count(),
        lambda: store.iterate(),
        lambda: store.vacuum(),
        *([] if store.path is None else [lambda: LocalStore(store.model, store.path)]),
    ]
    for call in calls:
        try:
            pipe.send(str(call()))
        except StoreError as error:
            pipe.send(error)
    store.close()


def fork_an_open_store(pipe: Connection, model: ColBERT, path: str | None) -> None:
    """Fork while a store is open, and while another thread may hold its locks; pass on what the child said."""
    documents, rows = random_documents(50, 32), unit_rows(np.random.default_rng(5), 4, 32)
    with LocalStore(model, path) as store:
        store.upsert(documents)
        before = store.search(rows, 100)
        idle = list(store._database._idle)
        with store._held._lock, store._database._writer:
            child, errors = start(calls_after_a_fork, store, context=multiprocessing.get_context("fork"))
        pipe.send((store._database.name, said(errors)))
        child.join()
        assert child.exitcode == 0
        assert store._database._idle == idle
        assert store.search(rows, 100) == before
        assert store.upsert(documents).stored == ids(documents)
    pipe.send("all")
