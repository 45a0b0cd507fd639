"""What other processes do to a `PlaidStore`; they are real ones, and some of them are killed."""

from __future__ import annotations

import multiprocessing
import random
import resource
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from reference import ids, random_documents, unit_rows
from workers import said, start

from chandelier import ColBERT, Document, StoreError
from chandelier.plaid import PlaidStore, build

POOL = 400
"""Ids that a process changes at random."""

ROWS = 40
"""Of each document: so many that most of the time passes in calls, where it is to be killed."""


def version(number: int, revision: int) -> Document:
    """A document in one of its revisions, with rows that only this one has."""
    rows = unit_rows(np.random.default_rng((number, revision)), ROWS, 32)
    return Document(f"{number}", f"{number} in revision {revision}", {"revision": revision}, rows)


def change(pipe: Connection, model: ColBERT, path: str, seed: int, there: dict[int, int]) -> None:
    """Add, replace, delete and optimize in a random order; say before each call what it will do, and when it has.

    Args:
        pipe: Where to say so.
        model: The store's.
        path: The store's.
        seed: Of the order.
        there: The revision of each document that is there.
    """
    build.FEWEST = 1
    chance = random.Random(seed)
    there = dict(there)
    pipe.send("ready")
    with PlaidStore(path, model) as store:
        while True:
            kind = chance.choice(["upsert", "upsert", "upsert", "delete", "optimize", "optimize", "rebuild"])
            after = dict(there)
            if kind == "upsert":
                for number in chance.sample(range(POOL), chance.randint(1, 120)):
                    after[number] = after.get(number, 0) + 1 + chance.randrange(1000)
            elif kind == "delete":
                for number in chance.sample(sorted(there), min(len(there), chance.randint(1, 60))):
                    del after[number]
            pipe.send(after)
            if kind == "upsert":
                store.upsert(version(number, after[number]) for number in after if after[number] != there.get(number))
            elif kind == "delete":
                store.delete(f"{number}" for number in there if number not in after)
            else:
                store.optimize(rebuild=kind == "rebuild")
            pipe.send(True)
            there = after


def optimize(pipe: Connection, model: ColBERT, path: str, times: int) -> None:
    """Optimize again and again."""
    build.FEWEST = 1
    with PlaidStore(path, model) as store:
        for turn in range(times):
            pipe.send(store.optimize(rebuild=turn % 3 == 2))


def write(pipe: Connection, model: ColBERT, path: str, name: str, count: int) -> None:
    """Store documents of its own, each in a call, and find each afterwards; replace and delete some of them."""
    with PlaidStore(path, model) as store:
        for i in range(count):
            rows = unit_rows(np.random.default_rng((i, len(name))), 2, 32)
            store.upsert([Document(f"{name}-{i}", name, {"by": name}, rows)])
            (hit,) = store.search(rows, 1, filter={"by": name})
            gone = store.delete([f"{name}-{i}"]) if i % 5 == 4 else 0
            pipe.send((hit.id, gone, store.count({"by": name})))


def search(pipe: Connection, model: ColBERT, path: str, rows: npt.NDArray[Any], count: int) -> None:
    """Search while others write and optimize, and say what was found among the documents that nobody changes."""
    with PlaidStore(path, model) as store:
        for _ in range(count):
            pipe.send(ids(store.search(rows, 20, filter={"i": {"$gte": 0}}, depth=300)))


def fill_the_disk(pipe: Connection, model: ColBERT, path: str) -> None:
    """Optimize where files may not grow beyond the size that the documents have, and where they may again."""
    documents = random_documents(3000, 32)
    query = unit_rows(np.random.default_rng(9), 8, 32)
    with PlaidStore(path, model) as store:
        store.upsert(documents)
        store.optimize()
        store.upsert(documents[:600])
        before = store.search(query, 50, exact=True)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        with pytest.raises(StoreError) as caught:
            store.optimize(rebuild=True)
        same = store.segments == 1 and store.search(query, 50, exact=True) == before
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        pipe.send((str(caught.value), same, store.optimize(), store.search(query, 50, exact=True) == before))


def calls_after_a_fork(pipe: Connection, store: PlaidStore) -> None:
    """What becomes of each call of a store that was opened before the fork, and of opening its folder again."""
    rows = unit_rows(np.random.default_rng(5), 4, 32)
    calls = [
        lambda: store.search(rows),
        lambda: store.upsert([Document("child", "text", vectors=rows)]),
        lambda: store.optimize(),
        lambda: store.segments,
        lambda: PlaidStore(store.path, store.model),
    ]
    for call in calls:
        try:
            pipe.send(str(call()))
        except StoreError as error:
            pipe.send(error)
    store.close()


def fork_an_open_store(pipe: Connection, model: ColBERT, path: str) -> None:
    """Fork while a store is open, and while another thread may hold its locks; pass on what the child said."""
    rows = unit_rows(np.random.default_rng(5), 4, 32)
    with PlaidStore(path, model) as store:
        store.upsert(random_documents(300, 32))
        store.optimize()
        before = store.search(rows, 100)
        with store._segments._lock, store._held._lock:
            child, errors = start(calls_after_a_fork, store, context=multiprocessing.get_context("fork"))
        pipe.send(said(errors))
        child.join()
        pipe.send((child.exitcode, store.search(rows, 100) == before, store.optimize(rebuild=True)))
