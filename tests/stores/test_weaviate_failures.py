"""A real Weaviate that dies, stops or freezes: a typed error or full recovery, and a report that names every id."""

from __future__ import annotations

import asyncio
import json
import logging
import pickle
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from contract import Driven
from reference import ids, random_documents
from weaviate.classes.data import DataObject
from weaviate.classes.init import AdditionalConfig, GrpcConfig, Timeout

from chandelier import ColBERT, Document
from chandelier.exceptions import StoreError
from chandelier.weaviate import RepairError, WeaviateStore
from chandelier.weaviate.collection import Collection
from chandelier.weaviate.failures import is_passing
from chandelier.weaviate.terms import FILTER_TERMS

if TYPE_CHECKING:
    from weaviate_server import WeaviateServer

DIM = 32
SMALL = {"ksim": 2, "dprojections": 8, "repetitions": 4}
GOLDEN = Path(__file__).parents[1] / "goldens" / "a_bert_pylate" / "checkpoint"
NEW = {
    "additional_config": AdditionalConfig(
        grpc_config=GrpcConfig(channel_options=[("grpc.use_local_subchannel_pool", 1)])
    )
}
"""A client that does not share its connection, and how long to wait after it failed, with those of its process."""
IMPATIENT = AdditionalConfig(timeout=Timeout(init=1, insert=1))
"""A client that waits for a second while it writes, and for 30 while it reads."""


@pytest.fixture(scope="module")
def mortal(start_weaviate: type[WeaviateServer]) -> Iterator[WeaviateServer]:
    with start_weaviate() as server:
        yield server


@pytest.fixture
def server(mortal: WeaviateServer) -> Iterator[WeaviateServer]:
    """It may be killed."""
    yield mortal
    if not Path(f"/proc/{mortal.pid}").exists():
        mortal.restart()


@pytest.fixture(params=["sync", "async"])
def connect(request: pytest.FixtureRequest, server: WeaviateServer, tiny: ColBERT) -> Iterator[Callable[..., Driven]]:
    """Opens a store with its own client, over a collection of the test's own."""
    loop = asyncio.new_event_loop() if request.param == "async" else None
    name = f"Notes{uuid.uuid4().hex}"
    clients = []

    def connect(client: dict[str, Any] | None = None, **options: Any) -> Driven:
        if loop is None:
            clients.append(server.connect(**(client or {})))
        else:
            clients.append(server.connect_async(**(client or {})))
            loop.run_until_complete(clients[-1].connect())
        return Driven(WeaviateStore(clients[-1], name, tiny, **{"muvera": SMALL, **options}), loop)

    yield connect
    for client in clients:
        client.close() if loop is None else loop.run_until_complete(client.close())
    if loop is not None:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


def end(server: WeaviateServer, how: str) -> None:
    server.kill() if how == "kill" else server.terminate()


def opener(driven: Driven) -> Callable[..., Driven]:
    """Opens the collection again, with the same client."""
    store: WeaviateStore = driven.raw
    options = {"muvera": SMALL, "collection": store._given["collection"], "model": store.model}
    return lambda **more: Driven(WeaviateStore(store._client, **{**options, **more}), driven._loop)


def own_threads() -> int:
    """All but those of the event loop's pool, which may take another one for the next text that is encoded."""
    return sum(not each.name.startswith("asyncio_") for each in threading.enumerate())


def is_whole(store: Driven, given: list[Document]) -> None:
    """Each is stored once, and found with its own rows."""
    assert sorted(ids(store.iterate())) == sorted(ids(given))
    assert store.count() == len(given)
    assert store.verify().unindexed == []
    some = given[:: max(1, len(given) // 50)]
    assert [hits[0].id for hits in store.search_many([each.vectors for each in some], 1)] == ids(some)


# Death


@pytest.mark.parametrize(
    ("said", "passes"),
    [
        ("explorer: get class: vector search: tried to browse non-existing index for Notes", True),
        ("import into non-existing index for Notes", True),
        ("could not find class Notes in schema", False),
    ],
)
def test_what_a_server_says_before_a_collection_is_open(said: str, passes: bool) -> None:
    """As 1.39.0 says it (`adapters/repos/db`), for a moment after it has started and answers already."""
    assert is_passing(said) is passes


WAYS = pytest.mark.parametrize(("connect", "how"), [("sync", "kill"), ("async", "terminate")], indirect=["connect"])


@WAYS
def test_a_server_that_dies_before(connect: Callable[..., Driven], server: WeaviateServer, how: str) -> None:
    store = connect(timeout=0.7)
    given = random_documents(100, DIM)
    store.upsert(given[:10])
    end(server, how)
    for call in (store.count, lambda: store.search("text"), lambda: store.get(ids(given)), store.wait_until_indexed):
        began, threads = time.monotonic(), own_threads()
        with pytest.raises(StoreError, match=r"(?i)connect.*; is the server running\?$"):
            call()
        assert time.monotonic() - began < 3, "the client alone tries for 63 seconds"
        assert own_threads() <= threads, "nothing is left behind that still asks"
    began = time.monotonic()
    with pytest.raises(StoreError, match="is the server running") as caught:
        store.upsert(given)
    assert time.monotonic() - began < 4
    report = caught.value.report
    assert (report.stored, report.failed, report.unknown) == ([], {}, ids(given))
    server.restart()
    patient = connect(NEW, timeout=30)
    assert patient.count() == 10, "what was acknowledged is there"
    assert patient.upsert(given).stored == ids(given)
    is_whole(patient, given)


def test_a_server_that_dies_in_the_middle_of_a_repair(
    connect: Callable[..., Driven], server: WeaviateServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has deleted, and not stored again, is in the error, with its rows."""
    store = connect(NEW, timeout=1)
    given = random_documents(20, DIM)
    store.upsert(given)
    with server.connect(**NEW) as client:
        stored = client.collections.use(store.raw._given["collection"])
        (hidden,) = [each for each in stored.iterator(include_vector=True) if each.properties["doc_id"] == "doc-7"]
        bare = {**hidden.properties, FILTER_TERMS: []}
        stored.data.insert_many([DataObject(properties=bare, uuid=hidden.uuid, vector=hidden.vector)])
    assert store.verify().unindexed == ["doc-7"]
    insert = Collection.insert

    def insert_into_the_dead(collection: Collection, objects: Any) -> Any:
        if Path(f"/proc/{server.pid}").exists():
            server.kill()
        return insert(collection, objects)

    monkeypatch.setattr(Collection, "insert", insert_into_the_dead)
    with pytest.raises(RepairError, match="is the server running") as caught:
        store.verify(repair=True)
    monkeypatch.undo()
    for error in (caught.value, pickle.loads(pickle.dumps(caught.value))):
        assert str(error.verification) == "checked 20, stored but not indexed 1, removed 1"
        (removed,) = error.verification.removed
        assert removed == given[7]
        np.testing.assert_array_equal(removed.vectors, np.asarray(given[7].vectors, np.float32))
    server.restart()
    patient = connect(NEW, timeout=30)
    assert sorted(ids(patient.iterate())) == sorted(ids(given[:7] + given[8:]))
    assert patient.upsert(caught.value.verification.removed).stored == ["doc-7"]
    is_whole(patient, given)


@WAYS
def test_a_server_that_dies_and_comes_back_during_an_upsert(
    connect: Callable[..., Driven], server: WeaviateServer, how: str
) -> None:
    store = connect(timeout=60)
    given = random_documents(1_500, DIM)

    def restart() -> None:
        end(server, how)
        server.restart()

    thread = threading.Thread(target=restart)

    def stream() -> Iterator[Document]:
        for index, document in enumerate(given):
            if index == 1_200:  # two portions of 512 are, or are being, sent by then
                thread.start()
            yield document

    report = store.upsert(stream())
    thread.join()
    assert (report.stored, report.failed) == (ids(given), {})
    is_whole(store, given)


@pytest.mark.parametrize("connect", ["sync"], indirect=True)
def test_a_server_that_dies_for_good_during_an_upsert(connect: Callable[..., Driven], server: WeaviateServer) -> None:
    store = connect(timeout=0.7)
    given = random_documents(1_500, DIM)

    def stream() -> Iterator[Document]:
        for index, document in enumerate(given):
            if index == 1_200:
                time.sleep(0.5)
                server.kill()
            yield document

    with pytest.raises(StoreError, match="is the server running") as caught:
        store.upsert(stream())
    report = caught.value.report
    assert report.failed == {}
    taken = {*report.stored, *report.unknown}
    assert set(ids(given[:1_200])) <= taken <= set(ids(given))
    assert not set(report.stored) & set(report.unknown)
    server.restart()
    patient = connect(NEW, timeout=30)
    assert len(patient.get(report.stored)) == len(report.stored)
    assert patient.upsert(given).stored == ids(given)
    is_whole(patient, given)


@pytest.mark.parametrize("connect", ["async"], indirect=True)
def test_a_read_waits_out_a_restart(connect: Callable[..., Driven], server: WeaviateServer) -> None:
    store = connect(timeout=30)
    given = random_documents(20, DIM)
    store.upsert(given)
    server.kill()
    thread = threading.Thread(target=server.restart)
    thread.start()
    assert len(store.search(given[0].vectors, 20)) == 20
    thread.join()
    is_whole(store, given)


def test_a_server_that_is_not_there_at_the_first_contact(
    connect: Callable[..., Driven], server: WeaviateServer
) -> None:
    again = opener(connect())
    server.kill()
    began = time.monotonic()
    with pytest.raises(StoreError, match=r"(refused|attempts failed); is the server running\?$"):
        again().count()
    assert 2 < time.monotonic() - began < 7, "it may be about to start"


# Frost


def reads(store: Driven) -> list[Callable[[], Any]]:
    fifty = [f"doc-{i}" for i in range(50)]
    return [
        store.count,
        lambda: store.search("text"),
        lambda: store.search("text", exact=True),
        lambda: store.hybrid_search("text"),
        lambda: store.get(fifty),
        lambda: store.get(fifty, with_vectors=True),
        lambda: list(store.iterate(with_vectors=True)),
        lambda: store.wait_until_indexed(30),
        store.verify,
    ]


def test_a_server_that_freezes(connect: Callable[..., Driven], server: WeaviateServer) -> None:
    store = connect({"additional_config": IMPATIENT}, timeout=0.5)
    given = random_documents(100, DIM)
    store.upsert(given[:60])
    again = opener(store)
    server.freeze()
    try:
        deletions = [lambda: store.delete(["doc-0"]), lambda: store.delete(filter={"even": True}), store.delete_all]
        for call in (*reads(store), *deletions, lambda: again(timeout=0.5).count()):
            began = time.monotonic()
            with pytest.raises(StoreError, match="no answer in time"):
                call()
            assert time.monotonic() - began < 3
        began = time.monotonic()
        with pytest.raises(StoreError, match="no answer in time") as caught:
            store.upsert(given)
        assert time.monotonic() - began < 3, "it asks what is there first"
        assert caught.value.report.unknown == ids(given)
    finally:
        server.thaw()
    patient = connect(NEW, timeout=30)
    assert patient.upsert(given).stored == ids(given)
    is_whole(patient, given)


def test_a_server_that_freezes_during_an_upsert(connect: Callable[..., Driven], server: WeaviateServer) -> None:
    """A write is waited for as long as the client does: its `Timeout(insert=1)`."""
    store = connect({"additional_config": IMPATIENT}, timeout=1)
    given = random_documents(1_500, DIM)

    def stream() -> Iterator[Document]:
        for index, document in enumerate(given):
            if index == 600:
                server.freeze()
            yield document

    began = time.monotonic()
    try:
        with pytest.raises(StoreError, match="no answer in time") as caught:
            store.upsert(stream())
        assert time.monotonic() - began < 8
    finally:
        server.thaw()
    report = caught.value.report
    assert report.failed == {}
    assert set(ids(given[:600])) <= {*report.stored, *report.unknown}
    patient = connect(NEW, timeout=30)
    assert len(patient.get(report.stored)) == len(report.stored)
    assert patient.upsert(given).stored == ids(given)
    is_whole(patient, given)


# Ctrl-C and cancellation


def test_ctrl_c_in_the_middle(server: WeaviateServer, tiny: ColBERT) -> None:
    script = """
import json, sys, weaviate
sys.path.insert(0, sys.argv[5])
from reference import random_documents
from chandelier import ColBERT
from chandelier.weaviate import RepairError, WeaviateStore
from chandelier.weaviate.collection import Collection
from chandelier.weaviate.failures import is_passing
from chandelier.weaviate.terms import FILTER_TERMS
http, grpc, model, name = sys.argv[1:5]
with weaviate.connect_to_local(host="127.0.0.1", port=int(http), grpc_port=int(grpc), skip_init_checks=True) as client:
    store = WeaviateStore(client, name, ColBERT(model), muvera=True)
    def stream():
        for index, document in enumerate(random_documents(5_000, 32)):
            if index == 700:
                print("go", flush=True)
            yield document
    try:
        store.upsert(stream())
    except KeyboardInterrupt as error:
        print(json.dumps([error.report.stored, error.report.unknown]), flush=True)
"""
    name = f"Notes{uuid.uuid4().hex}"
    folder = str(Path(__file__).parent)
    arguments = [str(server.http_port), str(server.grpc_port), str(GOLDEN), name, folder]
    with subprocess.Popen([sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "go\n"
        process.send_signal(signal.SIGINT)
        stored, unknown = json.loads(process.stdout.readline())
        assert process.wait() == 0
    assert len(stored) + len(unknown) < 5_000
    with server.connect() as client:
        store = WeaviateStore(client, name, tiny, muvera=True)
        assert len(store.get(stored)) == len(stored)
        assert set(ids(store.iterate())) <= {*stored, *unknown}
        assert store.verify().unindexed == []


def test_a_cancelled_write_is_over(server: WeaviateServer, tiny: ColBERT) -> None:
    """What is cancelled writes nothing over what comes after it."""
    name = f"Notes{uuid.uuid4().hex}"

    async def cancelled() -> None:
        async with server.connect_async() as client:
            store = WeaviateStore(client, name, tiny, muvera=SMALL)
            old = [Document(each.id, "old", {}, each.vectors) for each in random_documents(1_200, DIM)]
            new = [Document(each.id, "new", {}, each.vectors) for each in old[:40]]
            task = asyncio.create_task(store.aupsert(old))
            while not await store.acount():
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError) as caught:
                await task
            report = caught.value.report
            assert not report.failed
            assert len(await store.aget(report.stored)) == len(report.stored)
            assert (await store.aupsert(new)).stored == ids(new)
            await asyncio.sleep(1)
            assert {each.text for each in await store.aget(ids(new))} == {"new"}
            assert (await store.averify()).unindexed == []

    asyncio.run(cancelled())


# Access


def test_a_key_that_does_not_open_any_more(start_weaviate: type[WeaviateServer], tiny: ColBERT) -> None:
    with start_weaviate(api_key="correct horse") as server, server.connect() as client:
        store = WeaviateStore(client, "Notes", tiny, muvera=SMALL)
        given = random_documents(3, DIM)
        store.upsert(given)
        server._settings["AUTHENTICATION_APIKEY_ALLOWED_KEYS"] = "another horse"
        server.restart()
        began = time.monotonic()
        for call in (*reads(Driven(store, None)), store.delete_all, lambda: WeaviateStore(client, "Notes", tiny)):
            with pytest.raises(StoreError, match=r"(?i)401|unauth|invalid api key"):
                call()
        with pytest.raises(StoreError, match=r"(?i)unauth|invalid api key") as caught:
            store.upsert(given)
        assert caught.value.report.unknown == ids(given)
        assert time.monotonic() - began < 20, "that does not pass by itself"


# What is logged


def test_the_log_of_the_client_has_no_vectors(
    weaviate_client: Any, weaviate_name: str, weaviate_collection: Any, tiny: ColBERT, caplog: pytest.LogCaptureFixture
) -> None:
    store = WeaviateStore(weaviate_client, weaviate_name, tiny, muvera=SMALL)
    weaviate_collection.config.update_shards("READONLY")
    try:
        with caplog.at_level(logging.DEBUG, "weaviate-client"):
            assert len(store.upsert(random_documents(20, DIM)).failed) == 20
        assert "Failed to send" in caplog.text
        assert len(caplog.text) < 2_000
        caplog.clear()
        rows = {"colbert": np.eye(2, DIM).tolist()}
        with caplog.at_level(logging.DEBUG, "weaviate-client"):
            weaviate_collection.data.insert_many([DataObject(properties={"text": "theirs"}, vector=rows)] * 2)
        assert "theirs" in caplog.text, "the user's own use of the client logs as before"
        assert "1.0, 0.0, 0.0" in caplog.text
    finally:
        weaviate_collection.config.update_shards("READY")
