"""What other processes do to a store; they are real ones, and some of them are killed."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from functools import cache
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import numpy as np
import numpy.typing as npt
from reference import unit_rows

from chandelier import ColBERT, Document, LocalStore

BATCH = 500
CONTEXT = multiprocessing.get_context("fork")
"""A child begins at once, with the model and the documents that are there already."""


@cache
def rows(count: int) -> list[npt.NDArray[np.float32]]:
    """Two random rows for each of so many documents."""
    rng = np.random.default_rng(4)
    return [unit_rows(rng, 2, 32) for _ in range(count)]


def generation(number: int, count: int) -> list[Document]:
    """The same documents each time, but for the number of the generation in text and metadata."""
    text, metadata = f"generation {number}", {"generation": number}
    return [Document(f"{i}", text, metadata, vectors) for i, vectors in enumerate(rows(count))]


def start(work: Callable[..., None], *arguments: Any) -> tuple[BaseProcess, Connection]:
    """A process that does some work, and what it says meanwhile."""
    ours, theirs = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=work, args=(theirs, *arguments), daemon=True)
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
