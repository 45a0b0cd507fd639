"""A process that is killed while it stores: what was acknowledged stays, nothing is there twice, the file opens."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from workers import BATCH, fill, generation, rows, said, start

from chandelier import ColBERT, LocalStore
from chandelier.store.intake import PORTION_DOCUMENTS

COUNT = 10_000
KILLS = 25
"""In each of the two tests: 50 in all."""


def batch(turn: int) -> tuple[int, int]:
    """How many documents a call stores and how many a transaction: every other turn is one call of several portions."""
    return (COUNT, PORTION_DOCUMENTS) if turn % 2 else (BATCH, BATCH)


def killed_after(seconds: float, model: ColBERT, path: Path, number: int, batch: int) -> int:
    """Starts a process that stores a generation and kills it; how many documents it was told are stored."""
    process, pipe = start(fill, model, str(path), number, COUNT, batch)
    assert pipe.recv() == "ready"
    time.sleep(seconds)
    process.kill()
    process.join()
    return sum(said(pipe))


@pytest.fixture(scope="module")
def seconds(tiny: ColBERT, tmp_path_factory: pytest.TempPathFactory) -> float:
    """How long it takes at least if nobody kills it; other work on the machine only makes it longer."""

    def timed(batch: int) -> float:
        path = tmp_path_factory.mktemp("whole") / "store.db"
        process, pipe = start(fill, tiny, str(path), 0, COUNT, batch)
        assert pipe.recv() == "ready"
        begin = time.perf_counter()
        assert sum(said(pipe)) == COUNT
        process.join()
        return time.perf_counter() - begin

    return min(timed(batch) for batch in (BATCH, COUNT, BATCH, COUNT))


def generations(store: LocalStore) -> dict[str, int]:
    """The generation of each id; all that is there is read on the way, and compared with its checksums."""
    store.search(rows(1)[0], 1)
    documents = list(store.iterate())
    found = {each.id: each.metadata["generation"] for each in documents}
    assert len(found) == len(documents) == store.count(), "doubled"
    assert all(each.text == f"generation {found[each.id]}" for each in documents)
    return found


def finished(tiny: ColBERT, path: Path, number: int) -> None:
    """Stores all of it after all, and finds what a store finds that was never interrupted."""
    documents = generation(number, COUNT)
    query = documents[17].vectors
    with LocalStore(tiny, path) as store, LocalStore(tiny) as never_interrupted:
        assert len(store.upsert(documents).stored) == COUNT
        assert generations(store) == {each.id: number for each in documents}
        never_interrupted.upsert(documents)
        assert store.search(query, 20) == never_interrupted.search(query, 20)


def test_killed_while_filling_a_new_file(
    tiny: ColBERT, tmp_path: Path, seconds: float, report: pytest.FixtureRequest
) -> None:
    rng = random.Random(1)
    cut_short = in_a_call = 0
    for turn in range(KILLS):
        path = tmp_path / f"{turn}.db"
        call, portion = batch(turn)
        acknowledged = killed_after(rng.uniform(0, seconds), tiny, path, 1, call)
        with LocalStore(tiny, path) as store:
            there = generations(store)
        assert set(map(str, range(acknowledged))) <= set(there), "lost"
        assert there.keys() == set(map(str, range(len(there)))), "the first ones"
        assert len(there) == COUNT or len(there) % portion == 0, "a portion is stored whole or not at all"
        cut_short += len(there) < COUNT
        in_a_call += call == COUNT and 0 < len(there) < COUNT
        if turn % 5 == 0:
            finished(tiny, path, 1)
    assert cut_short > KILLS // 2
    assert in_a_call > 0
    report(f"LocalStore killed {KILLS} times while filling a new file: {cut_short} times in the middle, nothing lost")


def test_killed_while_replacing(tiny: ColBERT, tmp_path: Path, seconds: float, report: pytest.FixtureRequest) -> None:
    path = tmp_path / "store.db"
    rng = random.Random(2)
    finished(tiny, path, 0)
    before = dict.fromkeys(map(str, range(COUNT)), 0)
    mixed = in_a_call = 0
    for turn in range(1, KILLS + 1):
        call, portion = batch(turn)
        acknowledged = killed_after(rng.uniform(0, seconds), tiny, path, turn, call)
        with LocalStore(tiny, path) as store:
            there = generations(store)
        assert there.keys() == before.keys(), "lost"
        assert all(there[f"{i}"] == turn for i in range(acknowledged)), "lost"
        assert all(there[id] in (turn, before[id]) for id in there)
        replaced = sum(number == turn for number in there.values())
        assert all(there[f"{i}"] == turn for i in range(replaced)), "the first ones"
        assert replaced == COUNT or replaced % portion == 0, "a portion is stored whole or not at all"
        mixed += 0 < replaced < COUNT
        in_a_call += call == COUNT and 0 < replaced < COUNT
        before = there
    assert mixed > 0
    assert in_a_call > 0
    finished(tiny, path, KILLS + 1)
    report(f"LocalStore killed {KILLS} times while replacing 10,000 documents: nothing lost, nothing doubled")
