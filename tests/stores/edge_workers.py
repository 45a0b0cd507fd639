"""A process that others are forked from, each with all modules loaded, to store documents until they are killed.

It is run as a script, and opens no store itself: the engine does not survive a fork.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time

import numpy as np

from chandelier import ColBERT, Document
from chandelier.qdrant_edge import QdrantEdgeStore

COUNT, BATCH, DIM = 10_000, 250, 32


def generation(number: int) -> list[Document]:
    """The same documents each time, but for the number of the generation in text and metadata."""
    rows = np.random.default_rng(4).standard_normal((COUNT, 2, DIM)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=2, keepdims=True)
    return [Document(f"{i}", f"generation {number}", {"generation": number}, vectors) for i, vectors in enumerate(rows)]


def fill(model: ColBERT, path: str, number: int, pipe: int) -> None:
    """Store a generation in batches, and say of each that it is stored."""
    documents = generation(number)
    with QdrantEdgeStore(path, model) as store:
        for begin in range(0, COUNT, BATCH):
            assert len(store.upsert(documents[begin : begin + BATCH]).stored) == BATCH
            os.write(pipe, b".")


def killed_after(seconds: float, model: ColBERT, path: str, number: int) -> int:
    """How many documents a process was told are stored before it was killed."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            fill(model, path, number, theirs)
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
        seconds, path, number = json.loads(line)
        print(killed_after(seconds, model, path, number), flush=True)


if __name__ == "__main__":
    main()
