"""A server that is killed while documents come in, or a client: what a report calls stored is there, and is found."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import weaviate_workers
from weaviate_workers import MUVERA, generation

from chandelier import ColBERT, Document
from chandelier.exceptions import StoreError
from chandelier.weaviate import WeaviateStore

if TYPE_CHECKING:
    from weaviate_server import WeaviateServer

KILLS = int(os.environ.get("WEAVIATE_KILLS", "4"))
"""In each of the tests; WEAVIATE_KILLS=20 for what they were written for, which takes minutes."""

COUNT = 5_000

pytestmark = pytest.mark.timeout(120 + 60 * KILLS)


@pytest.fixture
def server(start_weaviate: type[WeaviateServer]) -> Iterator[WeaviateServer]:
    with start_weaviate() as server:
        yield server


@pytest.fixture
def client(server: WeaviateServer) -> Iterator[Any]:
    with server.connect() as client:
        yield client


def lost(store: WeaviateStore, documents: Sequence[Document]) -> list[str]:
    """The ids of those that their own vectors do not find: at no depth, since an approximate index may miss one."""

    def missed(documents: Sequence[Document], depth: int) -> list[Document]:
        answers = store.search_many([each.vectors for each in documents], 1, depth=depth)
        found = [bool(hits) and hits[0].id == each.id for each, hits in zip(documents, answers, strict=True)]
        return [each for each, is_found in zip(documents, found, strict=True) if not is_found]

    return [each.id for each in missed(missed(missed(documents, 32), 512), 10_000)]


def check_whole(store: WeaviateStore, documents: Sequence[Document]) -> None:
    """Asserts that all are there once, as they were given, for every way to find them."""
    there = list(store.iterate(with_vectors=True))
    assert len({each.id for each in there}) == len(there), "doubled"
    assert sorted(each.id for each in there) == sorted(each.id for each in documents), "lost"
    given = {each.id: each for each in documents}
    for each in there:
        assert (each.text, each.metadata) == (given[each.id].text, given[each.id].metadata)
        assert np.array_equal(each.vectors, given[each.id].vectors)
    assert store.count() == store.count(documents[0].metadata) == len(documents)
    assert lost(store, documents) == [], "stored, and not indexed"


@pytest.mark.parametrize(("muvera", "count"), [(MUVERA, COUNT), (None, 1_000)], ids=["muvera", "plain"])
def test_the_server_is_killed_and_the_store_waits_for_it(
    server: WeaviateServer, client: Any, tiny: ColBERT, report: Callable[[str], None], muvera: Any, count: int
) -> None:
    rng = random.Random(1)
    moments = set(rng.sample(range(count), KILLS))
    documents = generation(0, count)

    def kill(delay: float) -> None:
        time.sleep(delay)
        server.kill()
        server.restart()

    with ThreadPoolExecutor(1) as killer:

        def stream() -> Iterator[Document]:
            for i, document in enumerate(documents):
                if i in moments:
                    killer.submit(kill, rng.uniform(0, 0.7))
                yield document

        store = WeaviateStore(client, "Documents", tiny, muvera=muvera)
        stored = store.upsert(stream())
    assert stored.stored == [each.id for each in documents]
    check_whole(store, documents)
    report(f"WeaviateStore, the server killed {KILLS} times while {count:,} documents came in: 0 lost, 0 not indexed")


def test_the_server_is_killed_and_the_upsert_ends(
    server: WeaviateServer, client: Any, tiny: ColBERT, report: Callable[[str], None]
) -> None:
    rng = random.Random(2)
    store = WeaviateStore(client, "Documents", tiny, muvera=MUVERA, timeout=1)
    before: set[str] = set()
    cut_short = 0
    for turn in range(KILLS):
        documents = generation(turn, COUNT)
        with ThreadPoolExecutor(1) as killer:
            killer.submit(lambda: (time.sleep(rng.uniform(0, 4)), server.kill()))
            try:
                stored = store.upsert(documents)
            except StoreError as error:
                stored = error.report
                cut_short += 1
        server.restart()
        taken = {*stored.stored, *stored.unknown}
        assert stored.failed == {}
        assert taken == {each.id for each in documents[: len(taken)]}
        there = {each.id: each.metadata["generation"] for each in store.iterate()}
        assert all(there[id] == turn for id in stored.stored), "lost"
        assert before - taken <= there.keys(), "lost"
        assert lost(store, [documents[int(id)] for id in stored.stored[-700:]]) == [], "stored, and not indexed"
        before = there.keys() | taken
    assert cut_short > KILLS // 4
    documents = generation(KILLS, COUNT)
    assert len(store.upsert(documents).stored) == COUNT
    check_whole(store, documents)
    report(f"WeaviateStore, the server killed {KILLS} times and the upsert ended {cut_short} times: 0 lost")


def test_the_client_is_killed(
    server: WeaviateServer, client: Any, tiny: ColBERT, goldens: Path, report: Callable[[str], None]
) -> None:
    rng = random.Random(3)
    store = WeaviateStore(client, "Documents", tiny, muvera=MUVERA)
    command = [sys.executable, weaviate_workers.__file__, str(goldens / "a_bert_pylate" / "checkpoint")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        for turn in range(KILLS):
            documents = generation(turn, COUNT)
            job = [rng.uniform(0, 4), [server.http_port, server.grpc_port], "Documents", turn, COUNT]
            process.stdin.write(json.dumps(job) + "\n")
            process.stdin.flush()
            acknowledged = int(process.stdout.readline())
            there = {each.id: each.metadata["generation"] for each in store.iterate()}
            assert all(there[f"{i}"] == turn for i in range(acknowledged)), "lost"
            assert lost(store, documents[max(0, acknowledged - 700) : acknowledged]) == [], "stored, and not indexed"
    documents = generation(KILLS, COUNT)
    assert len(store.upsert(documents).stored) == COUNT
    check_whole(store, documents)
    report(f"WeaviateStore, the client killed {KILLS} times: 0 lost")


@pytest.mark.parametrize("muvera", [MUVERA, None], ids=["muvera", "plain"])
def test_what_a_crash_left_is_found_and_repaired(
    server: WeaviateServer, client: Any, tiny: ColBERT, muvera: Any, report: Callable[[str], None]
) -> None:
    rng = random.Random(4)
    documents = generation(0, 1_000)
    unindexed = 0
    for turn in range(KILLS):
        store = WeaviateStore(client, f"Documents{turn}", tiny, muvera=muvera, timeout=1)
        with ThreadPoolExecutor(1) as killer:
            killer.submit(lambda: (time.sleep(rng.uniform(0, 1)), server.kill()))
            with suppress(StoreError):
                store.upsert(documents)
        server.restart()
        there = {str(each.uuid) for each in client.collections.use(f"Documents{turn}").iterator()}
        found = store.verify()
        damaged = lost(store, documents)
        assert len(documents) - len(damaged) + len(found.unindexed) == len(there)
        assert set(found.unindexed) <= set(damaged)
        unindexed += len(found.unindexed)
        repaired = store.verify(repair=True)
        assert sorted(repaired.repaired) == sorted(found.unindexed)
        assert repaired.failed == {}
        assert store.verify().unindexed == []
        assert store.count() == len(there)
        assert set(lost(store, documents)) == set(damaged) - set(repaired.repaired)
    assert unindexed > 0
    report(
        f"WeaviateStore.verify found {unindexed:,} documents that a crash had kept out of the index, and mended them"
    )
