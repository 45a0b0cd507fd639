"""A process that others are forked from, each with all modules loaded, to store documents until they are killed.

It is run as a script, and opens no client itself: gRPC does not survive a fork.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time

import numpy as np
import weaviate

from chandelier import ColBERT, Document
from chandelier.weaviate import WeaviateStore

BATCH, DIM = 250, 32
MUVERA = {"ksim": 3, "dprojections": 8, "repetitions": 8}


def generation(number: int, count: int) -> list[Document]:
    """The same documents each time, but for the number of the generation in text and metadata."""
    rows = np.random.default_rng(4).standard_normal((count, 2, DIM)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=2, keepdims=True)
    return [Document(f"{i}", f"generation {number}", {"generation": number}, vectors) for i, vectors in enumerate(rows)]


def fill(model: ColBERT, ports: tuple[int, int], collection: str, number: int, count: int, pipe: int) -> None:
    """Store a generation in batches, and say of each that it is stored."""
    documents = generation(number, count)
    with weaviate.connect_to_local("127.0.0.1", *ports, skip_init_checks=True) as client:
        store = WeaviateStore(client, collection, model, muvera=MUVERA)
        for begin in range(0, count, BATCH):
            assert len(store.upsert(documents[begin : begin + BATCH]).stored) == BATCH
            os.write(pipe, b".")


def killed_after(seconds: float, model: ColBERT, *job: object) -> int:
    """How many documents a process was told are stored before it was killed."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            fill(model, *job, theirs)
            status = 0
        finally:
            os._exit(status)
    os.close(theirs)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL), "it failed of itself"
    with os.fdopen(ours, "rb") as pipe:
        return BATCH * len(pipe.read())


def main() -> None:
    model = ColBERT(sys.argv[1])
    for line in sys.stdin:
        seconds, *job = json.loads(line)
        print(killed_after(seconds, model, *job), flush=True)


if __name__ == "__main__":
    main()
