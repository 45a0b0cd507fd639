"""A process that is killed while it changes and optimizes a `PlaidStore`: nothing is lost, and nothing comes back."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest
from plaid_workers import POOL, ROWS, change, version
from workers import said, start

from chandelier import ColBERT
from chandelier.plaid import PlaidStore, build

KILLS = 50


def killed_after(
    seconds: float, model: ColBERT, path: Path, seed: int, there: dict[int, int]
) -> tuple[dict[int, int], dict[int, int]]:
    """Starts a process and kills it; what the last call that returned had left, and what the next would leave."""
    process, pipe = start(change, model, str(path), seed, there)
    assert pipe.recv() == "ready"
    time.sleep(seconds)
    process.kill()
    process.join()
    before = after = there
    for message in said(pipe):
        if message is True:
            before = after
        else:
            after = message
    return before, after


def check(store: PlaidStore, before: dict[int, int], after: dict[int, int]) -> dict[int, int]:
    """Nothing lost, doubled or back; every document is found, by its rows, of all and through the index."""
    documents = list(store.iterate())
    there = {int(each.id): each.metadata["revision"] for each in documents}
    assert len(there) == len(documents) == store.count(), "doubled"
    for number in range(POOL):
        assert there.get(number) in (before.get(number), after.get(number)), "lost, or back"
    assert all(each.text == f"{each.id} in revision {there[int(each.id)]}" for each in documents)
    queries = [version(number, revision).vectors for number, revision in there.items()]
    for options in ({"exact": True}, {"depth": 40}):
        found = store.search_many(queries, 1, **options)
        assert [int(hit.id) for (hit,) in found] == list(there), options
        assert all(hit.score == pytest.approx(ROWS, abs=1e-3 * ROWS) for (hit,) in found), "an older revision"
    gone = [version(number, before[number]).vectors for number in before if number not in there]
    for hits in store.search_many(gone, POOL + 1, depth=POOL + 1):
        assert len(hits) == len(there)
    return there


def test_killed_at_any_moment(
    tiny: ColBERT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, report: pytest.FixtureRequest
) -> None:
    monkeypatch.setattr(build, "FEWEST", 1)
    path = tmp_path / "store"
    chance = random.Random(1)
    there: dict[int, int] = {}
    in_a_call = in_optimize = left_over = 0
    for turn in range(KILLS):
        before, after = killed_after(chance.uniform(0, 0.6), tiny, path, turn, there)
        in_a_call += before is not after
        in_optimize += before is not after and before == after
        with PlaidStore(path, tiny) as store:
            files = set(os.listdir(path / "segments")) if (path / "segments").exists() else set()
            left_over += len(files) > store.segments
            there = check(store, before, after)
            if turn % 5 == 4:  # the others go on with what the kill has left
                store.optimize()
                assert len(os.listdir(path / "segments")) == store.segments
                assert check(store, there, there) == there
    assert in_a_call > KILLS // 2
    assert in_optimize > KILLS // 10
    assert there
    report(
        f"PlaidStore killed {KILLS} times, {in_a_call} of them in a call ({in_optimize} in optimize), {left_over} with "
        "files left over: nothing lost, doubled or back"
    )
