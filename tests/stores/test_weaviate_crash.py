"""A server that is killed while documents come in, or a client: what a report calls stored is there, and is found."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import weaviate_log
import weaviate_workers
from weaviate.classes.data import DataObject
from weaviate.classes.init import AdditionalConfig, Timeout
from weaviate.config import GrpcConfig
from weaviate.exceptions import WeaviateBaseError
from weaviate_workers import MUVERA, generation

from chandelier import ColBERT, Document
from chandelier.exceptions import StoreError
from chandelier.weaviate import WeaviateStore

if TYPE_CHECKING:
    from weaviate_server import WeaviateServer

KILLS = int(os.environ.get("WEAVIATE_KILLS", "3"))
"""In each of the tests; WEAVIATE_KILLS=20 for what they were written for, which takes minutes."""

COUNT = max(1_500, 250 * KILLS)
SECONDS = COUNT / 1_250
"""A little less than it takes to store so many."""

pytestmark = pytest.mark.timeout(120 + 60 * KILLS)


@pytest.fixture
def server(start_weaviate: type[WeaviateServer]) -> Iterator[WeaviateServer]:
    with start_weaviate() as server:
        yield server


@pytest.fixture
def client(server: WeaviateServer) -> Iterator[Any]:
    """One that looks for the server twice a second; by default gRPC takes ten to find it again."""
    waits = [(f"grpc.{which}_reconnect_backoff_ms", 500) for which in ("initial", "min", "max")]
    config = AdditionalConfig(grpc_config=GrpcConfig(channel_options=waits))
    with server.connect(additional_config=config) as client:
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


@pytest.mark.parametrize("muvera", [MUVERA, None], ids=["muvera", "plain"])
def test_what_is_stored_is_found_after_a_crash(server: WeaviateServer, client: Any, tiny: ColBERT, muvera: Any) -> None:
    store = WeaviateStore(client, "Documents", tiny, muvera=muvera)
    documents = generation(0, 700)
    store.upsert(documents)
    server.kill()
    server.restart()
    check_whole(store, documents)


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
    impatient = WeaviateStore(client, "Documents", tiny, muvera=MUVERA, timeout=1)
    store = WeaviateStore(client, "Documents", tiny, muvera=MUVERA)
    before: Set[str] = set()
    cut_short = 0
    for turn in range(KILLS):
        documents = generation(turn, COUNT)
        with ThreadPoolExecutor(1) as killer:
            killer.submit(lambda: (time.sleep(rng.uniform(0, SECONDS)), server.kill()))
            try:
                stored = impatient.upsert(documents)
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
        # What was under way is stored again before all is found: the graph may lead to a part of it, and not on.
        assert store.upsert(documents[int(id)] for id in stored.unknown).stored == [*stored.unknown]
        assert lost(store, documents[: len(taken)][-700:]) == [], "stored, and not indexed"
        before = there.keys() | stored.unknown
    assert cut_short > KILLS // 4
    documents = generation(KILLS, COUNT)
    assert len(store.upsert(documents).stored) == COUNT
    check_whole(store, documents)
    ended = f"the upsert ended {cut_short} times"
    report(f"WeaviateStore, the server killed {KILLS} times and {ended}: 0 lost, 0 not indexed")


def test_the_client_is_killed(
    server: WeaviateServer, client: Any, tiny: ColBERT, goldens: Path, report: Callable[[str], None]
) -> None:
    rng = random.Random(3)
    store = WeaviateStore(client, "Documents", tiny, muvera=MUVERA)
    command = [sys.executable, weaviate_workers.__file__, str(goldens / "a_bert_pylate" / "checkpoint")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        for turn in range(KILLS):
            documents = generation(turn, COUNT)
            job = [rng.uniform(0, SECONDS), [server.http_port, server.grpc_port], "Documents", turn, COUNT]
            process.stdin.write(json.dumps(job) + "\n")
            process.stdin.flush()
            acknowledged = int(process.stdout.readline())
            there = {each.id: each.metadata["generation"] for each in store.iterate()}
            assert all(there[f"{i}"] == turn for i in range(acknowledged)), "lost"
            assert lost(store, documents[max(0, acknowledged - 700) : acknowledged]) == []
    documents = generation(KILLS, COUNT)
    assert len(store.upsert(documents).stored) == COUNT
    check_whole(store, documents)
    report(f"WeaviateStore, the client killed {KILLS} times: 0 lost")


@pytest.mark.parametrize("way_out", ["upsert", "verify"])
def test_what_leads_nowhere_is_replaced(server: WeaviateServer, client: Any, tiny: ColBERT, way_out: str) -> None:
    """The server dies when the upper levels of its graph lead to a document, and the lowest one does not lead on."""
    store = WeaviateStore(client, "Documents", tiny, muvera=MUVERA)
    documents = generation(0, 1_000)
    store.upsert(documents[:300])
    for i in range(300, 1_000):
        store.upsert([documents[i]])
        log = weaviate_log.last_insertion(server.folder)
        if log.level > 0:
            break
    server.kill()
    os.truncate(log.path, log.before_lowest)
    server.restart()
    cut_off = lost(store, documents[: i + 1])
    assert len(cut_off) > 1
    neighbours = [each for each in documents[:i] if each.id in cut_off]
    if way_out == "upsert":
        store.upsert([documents[i]])
    else:
        store.upsert(neighbours[::2])  # they join it
        found = store.verify(repair=True)
        assert found.unindexed
        assert (found.repaired, found.failed, found.removed) == (found.unindexed, {}, [])
    check_whole(store, documents[: i + 1])
    assert store.verify().unindexed == []


@pytest.mark.parametrize("muvera", [MUVERA, None], ids=["muvera", "plain"])
def test_what_is_stored_and_not_found_is_found_and_repaired(
    server: WeaviateServer, client: Any, tiny: ColBERT, muvera: Any, report: Callable[[str], None]
) -> None:
    """A request whose caller goes away leaves such objects, as a crash does: the server stops in the middle of it."""
    store = WeaviateStore(client, "Documents", tiny, muvera=muvera)
    documents = generation(0, 200)
    assert len(store.upsert(documents).stored) == 200
    assert store.verify().unindexed == []
    given = [
        DataObject(properties=each.properties, uuid=each.uuid, vector=each.vector)
        for each in client.collections.use("Documents").iterator(include_vector=True)
        if int(each.properties["doc_id"]) % 4
    ]
    damaged: list[str] = []
    for seconds in np.geomspace(0.02, 2, 12):
        store.delete(each.properties["doc_id"] for each in given)
        config = AdditionalConfig(timeout=Timeout(insert=float(seconds)))
        with server.connect(additional_config=config) as hasty, suppress(WeaviateBaseError):
            hasty.collections.use("Documents").data.insert_many(given)
        time.sleep(1)  # the server is not done when the caller is gone
        there = {each.id for each in store.iterate()}
        damaged = [id for id in lost(store, documents) if id in there]
        if damaged:
            break
    assert 0 < len(damaged) <= len(given)
    found = store.verify()
    assert found.checked == len(there)
    assert sorted(found.unindexed) == sorted(damaged)
    repaired = store.verify(repair=True)
    assert sorted(repaired.repaired) == sorted(damaged)
    assert (repaired.failed, repaired.removed) == ({}, [])
    assert store.verify().unindexed == []
    check_whole(store, [each for each in documents if each.id in there])
    report(f"WeaviateStore.verify mended {len(damaged):,} of {len(there):,} documents, which were in no index")
