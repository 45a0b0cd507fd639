"""A process that is killed while it stores: what it was told is stored stays, nothing is doubled, it always opens."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import edge_workers
import numpy as np
import pytest
from edge_workers import COUNT, generation

from chandelier import ColBERT, Document
from chandelier.qdrant_edge import QdrantEdgeStore

KILLS = int(os.environ.get("EDGE_KILLS", "10"))
"""In each of the two tests; EDGE_KILLS=25 for the 50 in all that it was written for, which take two minutes."""

KilledAfter = Callable[[float, Path, int], int]


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    return generation(0)


@pytest.fixture(scope="module")
def killed_after(goldens: Path) -> Iterator[KilledAfter]:
    """Has a process store a generation and kills it; how many documents it was told are stored."""
    command = [sys.executable, edge_workers.__file__, str(goldens / "a_bert_pylate" / "checkpoint")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def killed_after(seconds: float, path: Path, number: int) -> int:
            process.stdin.write(json.dumps([seconds, str(path), number]) + "\n")
            process.stdin.flush()
            return int(process.stdout.readline())

        yield killed_after


@pytest.fixture(scope="module")
def seconds(tiny: ColBERT, documents: list[Document], tmp_path_factory: pytest.TempPathFactory) -> float:
    """How long it takes if nobody kills it, roughly."""
    begin = time.perf_counter()
    with QdrantEdgeStore(tmp_path_factory.mktemp("whole"), tiny) as store:
        store.upsert(documents)
    return time.perf_counter() - begin


def generations(store: QdrantEdgeStore, documents: list[Document]) -> dict[str, int]:
    """The generation of each id; all that is there is read on the way."""
    there = list(store.iterate(with_vectors=True))
    found = {each.id: each.metadata["generation"] for each in there}
    assert len(found) == len(there) == store.count(), "doubled"
    assert all(each.text == f"generation {found[each.id]}" for each in there)
    if there:
        rows = np.concatenate([documents[int(each.id)].vectors for each in there])
        assert np.array_equal(np.concatenate([each.vectors for each in there]), rows.astype(np.float16))
    return found


def finished(tiny: ColBERT, path: Path, number: int) -> None:
    """Stores all of it after all, and finds what is best of it."""
    documents = generation(number)
    with QdrantEdgeStore(path, tiny) as store:
        assert len(store.upsert(documents).stored) == COUNT
        assert generations(store, documents) == {each.id: number for each in documents}
        assert store.search(documents[17].vectors, 1)[0].id == "17"


def test_killed_while_filling_a_new_folder(
    tiny: ColBERT,
    documents: list[Document],
    tmp_path: Path,
    killed_after: KilledAfter,
    seconds: float,
    report: Callable[[str], None],
) -> None:
    rng = random.Random(1)
    cut_short = 0
    for turn in range(KILLS):
        path = tmp_path / f"{turn}"
        acknowledged = killed_after(rng.uniform(0, seconds), path, 1)
        with QdrantEdgeStore(path, tiny) as store:
            there = generations(store, documents)
        assert set(map(str, range(acknowledged))) <= set(there), "lost"
        cut_short += len(there) < COUNT
        if turn % 8 == 0:
            finished(tiny, path, 1)
    assert cut_short > KILLS // 4
    report(f"QdrantEdgeStore killed {KILLS} times while filling a new folder: {cut_short} in the middle, nothing lost")


def test_killed_while_replacing(
    tiny: ColBERT,
    documents: list[Document],
    tmp_path: Path,
    killed_after: KilledAfter,
    seconds: float,
    report: Callable[[str], None],
) -> None:
    path = tmp_path / "store"
    rng = random.Random(2)
    finished(tiny, path, 0)
    before = dict.fromkeys(map(str, range(COUNT)), 0)
    mixed = 0
    for turn in range(1, KILLS + 1):
        acknowledged = killed_after(rng.uniform(0, seconds), path, turn)
        with QdrantEdgeStore(path, tiny) as store:
            there = generations(store, documents)
        assert there.keys() == before.keys(), "lost"
        assert all(there[f"{i}"] == turn for i in range(acknowledged)), "lost"
        assert all(there[id] in (turn, before[id]) for id in there)
        mixed += len(set(there.values())) > 1
        before = there
    assert mixed > 0
    finished(tiny, path, KILLS + 1)
    report(f"QdrantEdgeStore killed {KILLS} times while replacing {COUNT:,} documents: nothing lost, nothing doubled")
