"""Writers of a real Weaviate that meet, are stopped, or are refused: documents that are replaced are not lost."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from reference import ids, random_documents

from chandelier import ColBERT, Document
from chandelier.weaviate import WeaviateStore

if TYPE_CHECKING:
    from weaviate_server import WeaviateServer

DIM = 32
SMALL = {"ksim": 2, "dprojections": 8, "repetitions": 4}
GIVEN = random_documents(60, DIM)

Open = Callable[..., WeaviateStore]


def generation(name: str, count: int = 60) -> list[Document]:
    return [Document(each.id, name, {}, each.vectors) for each in random_documents(count, DIM)]


def check_whole(store: WeaviateStore, given: list[Document]) -> None:
    """Each is stored once, and found with its own rows."""
    assert sorted(ids(store.iterate())) == sorted(ids(given))
    assert store.count() == store.count({}) == len(given)
    assert store.verify().unindexed == []
    assert [hits[0].id for hits in store.search_many([each.vectors for each in given], 1)] == ids(given)


@pytest.mark.parametrize("muvera", [SMALL, None], ids=["muvera", "plain"])
def test_threads_that_write_the_same_documents(
    weaviate_server: WeaviateServer, weaviate_name: str, tiny: ColBERT, muvera: Any
) -> None:
    """The server counts some of them twice if it is left to itself."""
    with ExitStack() as stack:
        clients = [stack.enter_context(weaviate_server.connect()) for _ in range(6)]
        stores = [WeaviateStore(client, weaviate_name, tiny, muvera=muvera) for client in clients]
        some = GIVEN[:24]

        def write(number: int) -> None:
            rng = random.Random(number)
            for turn in range(20):
                chosen = rng.sample(some, rng.randint(1, 24))
                report = stores[number].upsert(Document(each.id, f"{turn}", {}, each.vectors) for each in chosen)
                assert report.failed == {}

        with ThreadPoolExecutor(6) as writers:
            list(writers.map(write, range(6)))
        stores[0].upsert(some)
        check_whole(stores[0], some)


def test_tasks_that_write_the_same_documents(
    weaviate_server: WeaviateServer, weaviate_name: str, tiny: ColBERT, open_weaviate: Open
) -> None:
    async def write() -> None:
        async with weaviate_server.connect_async() as client:
            store = WeaviateStore(client, weaviate_name, tiny, muvera=SMALL)
            for _ in range(5):
                await asyncio.gather(*(store.aupsert(generation(f"{number}")) for number in range(6)))

    asyncio.run(write())
    check_whole(open_weaviate(muvera=SMALL), GIVEN)


@pytest.mark.parametrize("is_async_client", [True, False], ids=["async", "sync"])
def test_a_replacement_that_is_cancelled_loses_nothing(
    weaviate_server: WeaviateServer, weaviate_name: str, tiny: ColBERT, open_weaviate: Open, is_async_client: bool
) -> None:
    rng = random.Random(0)
    whole = open_weaviate(muvera=SMALL)
    whole.upsert(GIVEN)

    async def replace(store: WeaviateStore, turn: int) -> None:
        task = asyncio.create_task(store.aupsert(generation(f"{turn}")))
        await asyncio.sleep(rng.uniform(0, 0.15))
        for _ in range(turn % 3 + 1):
            task.cancel()
            await asyncio.sleep(0)
        try:
            report = await task
        except asyncio.CancelledError as error:
            report = error.report
        assert report.failed == {}

    async def replace_often() -> None:
        if not is_async_client:
            for turn in range(12):
                await replace(whole, turn)
                assert whole.count() == 60, "what was deleted came back before the task ended"
            return
        async with weaviate_server.connect_async() as client:
            store = WeaviateStore(client, weaviate_name, tiny, muvera=SMALL)
            for turn in range(12):
                await replace(store, turn)
                assert await store.acount() == 60, "what was deleted came back before the task ended"

    asyncio.run(replace_often())
    check_whole(whole, GIVEN)


def test_a_stream_that_fails_loses_nothing(open_weaviate: Open) -> None:
    store = open_weaviate(muvera=SMALL)
    given = generation("old", 600)
    store.upsert(given)
    rng = random.Random(0)

    def stream() -> Iterator[Document]:
        for index, document in enumerate(generation("new", 600)):
            if index == 550:
                time.sleep(rng.uniform(0.05, 0.3))
                raise ZeroDivisionError
            yield document

    for _ in range(5):
        with pytest.raises(ZeroDivisionError):
            store.upsert(stream())
        assert store.count() == 600
    check_whole(store, given)


def test_a_replacement_that_is_refused_says_what_is_gone(open_weaviate: Open, weaviate_collection: Any) -> None:
    """The server turns read-only at some moment, perhaps between a deletion and what was to follow."""
    store = open_weaviate(muvera=SMALL)
    rng = random.Random(0)
    for turn in range(6):
        store.upsert(GIVEN)
        turned = threading.Timer(rng.uniform(0, 0.1), weaviate_collection.config.update_shards, ["READONLY"])
        turned.start()
        report = store.upsert(generation(f"{turn}"))
        turned.join()
        late = store.upsert(generation("late"))
        weaviate_collection.config.update_shards("READY")
        assert sorted([*report.stored, *report.failed]) == sorted(ids(GIVEN))
        assert late.stored == []
        assert sorted(late.failed) == sorted(ids(GIVEN))
        there = {each.id: each.text for each in store.iterate()}
        assert all(there[id] == f"{turn}" for id in report.stored)
        for id, reason in report.failed.items():
            assert ("the document that was stored before is deleted" in reason) == (id not in there), reason
