"""QdrantStore against what only a server does: the pitfalls of multi-vectors in Qdrant, each with the way around it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from qdrant_client import grpc, models
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException

from chandelier import ArgumentError, ColBERT, MeanVector, Muvera, maxsim
from chandelier.exceptions import PartialUpsertError, StoreError
from chandelier.qdrant import Bm25, QdrantStore
from chandelier.qdrant.failures import Patience
from chandelier.qdrant.wire import upsert_message
from chandelier.store import Document, UpsertReport
from chandelier.store.points.engine import Point

sys.path.insert(0, str(Path(__file__).parent))  # pytest's importlib mode puts no folder on the path
from loopback import Fault, QdrantLoopback

DIM = 32
KINDS = ("rest", "grpc", "async rest", "async grpc")
GOLDEN = Path(__file__).parents[1] / "goldens" / "a_bert_pylate" / "checkpoint"


class Remote:
    """A store behind the real client: `remote.search(...)` is awaited where the client is asynchronous."""

    def __init__(
        self, server: QdrantLoopback, kind: str, model: ColBERT, client: dict[str, Any], **options: Any
    ) -> None:
        is_async, grpc = kind.startswith("async"), kind.endswith("grpc")
        self._loop = asyncio.new_event_loop() if is_async else None
        self._client = (server.connect_async if is_async else server.connect)(grpc=grpc, **client)
        try:
            self.store = QdrantStore(self._client, "notes", model, **options)
            if self._loop:
                self._loop.run_until_complete(self.store.aopen())
        except BaseException:
            self.close()
            raise

    def __getattr__(self, method: str) -> Callable[..., Any]:
        if self._loop is None:
            return getattr(self.store, method)
        name = "await_until_indexed" if method == "wait_until_indexed" else f"a{method}"
        return lambda *args, **options: self._loop.run_until_complete(getattr(self.store, name)(*args, **options))

    def client(self, method: str, *args: Any, **options: Any) -> Any:
        result = getattr(self._client, method)(*args, **options)
        return self._loop.run_until_complete(result) if self._loop else result

    def close(self) -> None:
        if self._loop is None:
            self._client.close()
        else:
            self._loop.run_until_complete(self._client.close())
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
            self._loop.close()


@pytest.fixture(scope="module")
def model() -> ColBERT:
    return ColBERT(GOLDEN)


@pytest.fixture
def server() -> Iterator[QdrantLoopback]:
    with QdrantLoopback() as server:
        yield server


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chandelier.qdrant.failures.FIRST_WAIT", 0.02)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def connect(server: QdrantLoopback, kind: str, model: ColBERT) -> Iterator[Callable[..., Remote]]:
    opened = []

    def connect(client: dict[str, Any] | None = None, **options: Any) -> Remote:
        opened.append(Remote(server, kind, model, client or {}, **options))
        return opened[-1]

    yield connect
    for remote in opened:
        remote.close()


def documents(count: int, tokens: int = 5, seed: int = 0) -> list[Document]:
    rows = np.random.default_rng(seed).normal(size=(count, tokens, DIM)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=2, keepdims=True)
    return [Document(f"doc-{i}", f"text {i}", {"n": i}, rows[i]) for i in range(count)]


def upserts(server: QdrantLoopback) -> list[Any]:
    return [call for call in server.calls if call.operation == "upsert"]


def eventually(ask: Callable[[], Any]) -> None:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        with contextlib.suppress(StoreError):
            return ask()
        time.sleep(0.1)
    raise AssertionError("the server does not answer")


def stored_ids(remote: Remote) -> list[str]:
    points, _ = remote.client("scroll", "notes", limit=10_000)
    return sorted(point.payload["doc_id"] for point in points)


# What is made and what is refused


def test_the_collection_is_made_for_maxsim(connect: Callable[..., Remote]) -> None:
    remote = connect(
        prefetch=Muvera(DIM, ksim=2, repetitions=4), payload_indexes={"lang": "keyword", "a b.c": "integer"}
    )
    info = remote.client("get_collection", "notes")
    rows, prefetch = info.config.params.vectors["colbert"], info.config.params.vectors["prefetch"]
    assert (rows.size, rows.distance, rows.datatype, rows.on_disk, rows.hnsw_config.m) == (
        DIM,
        "Dot",
        "float16",
        True,
        0,
    )
    assert rows.multivector_config.comparator == "max_sim"
    assert (prefetch.size, prefetch.distance, prefetch.datatype) == (4 * 4 * 16, "Dot", "float16")
    kinds = {name: index.data_type.value for name, index in info.payload_schema.items()}
    assert kinds == {"doc_id": "keyword", "metadata.lang": "keyword", 'metadata."a b".c': "integer"}


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"size": 64}, "size of 'colbert': got 64, wanted 32"),
        ({"distance": models.Distance.COSINE}, "distance of 'colbert': got 'Cosine', wanted 'Dot'"),
        ({"multivector_config": None}, "comparator of 'colbert': got None, wanted 'max_sim'"),
        ({"datatype": models.Datatype.UINT8}, "'uint8', which cannot hold signs"),
        ({}, "keeps no fingerprint"),
    ],
)
def test_a_collection_of_another_kind_is_refused(
    connect: Callable[..., Remote], server: QdrantLoopback, params: dict[str, Any], says: str
) -> None:
    comparator = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
    wanted = {"size": DIM, "distance": models.Distance.DOT, "multivector_config": comparator}
    with contextlib.closing(server.connect()) as client:
        client.create_collection("notes", vectors_config={"colbert": models.VectorParams(**{**wanted, **params})})
    with pytest.raises(StoreError, match=says):
        connect(adopt=bool(params))
    if not params:
        assert connect(adopt=True).upsert(documents(1)).stored == ["doc-0"]
        assert connect().count() == 1


def test_another_model_or_prefetch_is_refused(
    connect: Callable[..., Remote], server: QdrantLoopback, kind: str
) -> None:
    connect(prefetch=Muvera(DIM, ksim=2, repetitions=4))
    with pytest.raises(StoreError, match=r"was written with prefetch .*seed42.*, and is opened with prefetch .*seed7"):
        connect(prefetch=Muvera(DIM, ksim=2, repetitions=4, seed=7))
    with pytest.raises(StoreError, match="and is opened with no prefetch"):
        connect()
    other = ColBERT(GOLDEN, document_prefix="[Q] ")
    assert other.fingerprint != ColBERT(GOLDEN).fingerprint
    with pytest.raises(StoreError, match=f"was written with model .* opened with model {other.fingerprint}"):
        Remote(server, kind, other, {}, prefetch=Muvera(DIM, ksim=2, repetitions=4))


def test_an_index_of_another_kind_is_refused(connect: Callable[..., Remote]) -> None:
    connect(payload_indexes={"year": "integer"})
    with pytest.raises(StoreError, match=r"payload index of 'metadata.year': got 'integer', wanted 'keyword'"):
        connect(payload_indexes={"year": "keyword"})


def test_a_prefetch_that_qdrant_cannot_hold_is_refused(connect: Callable[..., Remote]) -> None:
    with pytest.raises(ArgumentError, match="got encodings of 81,920 values, wanted at most 65,535"):
        connect(prefetch=Muvera(DIM, ksim=7, dprojections=32, repetitions=20))


def test_an_old_server_is_refused(connect: Callable[..., Remote], server: QdrantLoopback) -> None:
    server.version = "1.15.4"
    with pytest.raises(StoreError, match=r"the server is Qdrant 1\.15\.4, wanted 1\.16 or newer"):
        connect()
    for version in ("x.y", "", "1", "unknown"):
        server.version = version
        with pytest.raises(StoreError, match=f"the server is Qdrant {version}, wanted"):
            connect()
    server.version = "2.0-dev"
    assert connect().count() == 0


def test_a_wrong_key_is_named(connect: Callable[..., Remote], server: QdrantLoopback) -> None:
    server.api_key = "secret"
    with pytest.raises(StoreError, match="Must provide an API key"):
        connect()


def test_an_answer_lost_while_the_collection_is_made(connect: Callable[..., Remote], server: QdrantLoopback) -> None:
    server.faults.append(Fault("create_collection", drop="after"))
    assert connect().count() == 0


def test_a_channel_that_was_closed_ends_an_upsert(connect: Callable[..., Remote]) -> None:
    """It refuses no document: none of the others would be taken either."""
    remote = connect()
    assert remote.count() == 0
    remote.client("close")
    with pytest.raises(StoreError, match="closed") as raised:
        remote.upsert(documents(4))
    assert not raised.value.report.failed


# Documents


def test_bad_vectors_do_not_reach_the_server(connect: Callable[..., Remote], server: QdrantLoopback) -> None:
    good = np.eye(DIM, dtype=np.float32)[:3]
    bad = {
        "ragged": [[1.0] * DIM, [1.0]],
        "nan": np.where(good > 0, np.nan, good),
        "narrow": np.eye(16),
        "flat": good[0],
        "long": good * 3,
        "padded": np.vstack([good, np.zeros((1, DIM))]),
    }
    report = connect().upsert(
        [Document(name, "", {}, rows) for name, rows in bad.items()] + [Document("good", "", {}, good)]
    )
    assert report.stored == ["good"]
    assert sorted(report.failed) == sorted(bad)
    assert "NaN" in report.failed["nan"]
    assert [call.points for call in upserts(server)] == [1]


def test_a_query_that_is_not_finite_is_refused_here(connect: Callable[..., Remote], server: QdrantLoopback) -> None:
    remote = connect()
    calls = len(server.calls)
    with pytest.raises(ArgumentError, match="NaN"):
        remote.search(np.full((2, DIM), np.nan))
    assert len(server.calls) == calls


def test_requests_are_bounded_by_bytes(connect: Callable[..., Remote], server: QdrantLoopback, kind: str) -> None:
    report = connect().upsert(documents(600, tokens=300))
    assert len(report.stored) == 600
    sizes = [call.size for call in upserts(server)]
    limit = {"rest": server.body_limit, "async rest": 3 << 20}.get(kind, 16 << 20)
    assert max(sizes) <= limit * 1.02
    assert sum(sizes) / len(sizes) > limit * 0.3, "many small requests where few would do"


def test_a_document_that_qdrant_cannot_hold_is_refused(connect: Callable[..., Remote]) -> None:
    huge = np.tile(np.eye(DIM, dtype=np.float32), (1024, 1))
    report = connect().upsert([Document("huge", "", {}, huge), Document("largest", "", {}, huge[:-1])])
    assert report.stored == ["largest"]
    assert "got 32,768 rows of 32, wanted at most 32,767" in report.failed["huge"]
    assert "pool" in report.failed["huge"]


def test_a_batch_that_is_refused_is_halved(connect: Callable[..., Remote], server: QdrantLoopback, kind: str) -> None:
    if "grpc" not in kind:
        server.body_limit = 40_000
    refused = Fault("upsert", status=400, message="Wrong input: a reason")
    server.faults += [refused] if "grpc" in kind else []
    report = connect().upsert(documents(100))
    assert len(report.stored) == 100
    assert not report.failed
    assert len(upserts(server)) > 2


def test_the_document_at_fault_is_found(connect: Callable[..., Remote], server: QdrantLoopback) -> None:
    """Strict mode limits the rows of a multi-vector: a limit that only the server knows."""
    strict = models.StrictModeConfig(
        enabled=True, multivector_config={"colbert": models.StrictModeMultivector(max_vectors=6)}
    )
    remote = connect(create_options={"strict_mode_config": strict})
    given = [*documents(20), Document("long", "", {}, np.eye(DIM, dtype=np.float32)[:7]), *documents(20, seed=1)[10:]]
    report = remote.upsert(given)
    assert list(report.failed) == ["long"]
    assert "limit of 6 vectors, but 7 were provided" in report.failed["long"]
    assert len(report.stored) == 20
    with pytest.raises(PartialUpsertError, match="refused 1") as raised:
        remote.upsert(given, raise_on_failure=True)
    assert list(raised.value.report.failed) == ["long"]


def test_halves_are_reported_as_they_end(connect: Callable[..., Remote], server: QdrantLoopback) -> None:
    """The first half is stored, the second is refused by a server that has had enough."""
    remote = connect(retries=0)
    server.faults += [
        Fault("upsert", status=400, message="Wrong input: a reason"),
        Fault("upsert"),
        Fault("upsert", status=403, message="Forbidden: no write access"),
    ]
    with pytest.raises(StoreError, match="no write access") as raised:
        remote.upsert(documents(8))
    assert raised.value.report.stored == stored_ids(remote) == [f"doc-{i}" for i in range(4)]


@pytest.mark.parametrize("drop", ["before", "middle", "after", "answer"])
def test_a_lost_connection_loses_and_doubles_nothing(
    connect: Callable[..., Remote], server: QdrantLoopback, drop: str
) -> None:
    remote = connect()
    server.faults += [Fault("upsert", drop=drop)] * 2
    assert len(remote.upsert(documents(50)).stored) == 50
    assert stored_ids(remote) == sorted(f"doc-{i}" for i in range(50))


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_failures_that_pass_are_tried_again(
    connect: Callable[..., Remote], server: QdrantLoopback, status: int
) -> None:
    remote = connect()
    server.faults += [Fault("upsert", status=status)] * 3
    assert len(remote.upsert(documents(5)).stored) == 5
    assert [call.outcome for call in upserts(server)] == [status] * 3 + [200]


def test_a_server_that_asks_to_wait_is_waited_for(connect: Callable[..., Remote], server: QdrantLoopback) -> None:
    remote = connect()
    server.faults.append(Fault("upsert", status=429, retry_after=1))
    started = time.monotonic()
    assert len(remote.upsert(documents(5)).stored) == 5
    assert time.monotonic() - started >= 1


def test_a_server_that_asks_to_wait_for_long_is_not(connect: Callable[..., Remote], server: QdrantLoopback) -> None:
    remote = connect()
    server.faults.append(Fault("upsert", status=429, retry_after=3600))
    with pytest.raises(StoreError, match="the server asks to wait 3,600 seconds"):
        remote.upsert(documents(5))
    assert len(upserts(server)) == 1


def test_long_waits_are_logged(
    connect: Callable[..., Remote],
    server: QdrantLoopback,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("chandelier.store.points.client_store.LONG_WAIT", 0.9)
    remote = connect()
    server.faults += [Fault("upsert", status=503), Fault("upsert", status=429, retry_after=1)]
    remote.upsert(documents(5))
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("chandelier", "WARNING")
    assert record.message.endswith("trying again in 1 seconds")


def test_waits_grow_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chandelier.qdrant.failures.FIRST_WAIT", 0.5)
    error = ResponseHandlingException(httpx.ConnectError("refused"))
    for tried, longest in enumerate([0.5, 1, 2, 4, 8, 16, 30, 30]):
        waits = [Patience(8).wait(error, tried) for _ in range(200)]
        assert longest / 2 <= min(waits) < 0.6 * longest < 0.9 * longest < max(waits) <= longest
    assert 15 <= Patience(5_000).wait(error, 4_000) <= 30, "a float is not doubled for ever"
    assert Patience(8).wait(error, 8) is None
    assert Patience(8).wait(ValueError("not that"), 0) is None
    assert Patience(8).wait(ResourceExhaustedResponse("", 0), 0) >= 0.25, "not at once, though it asks for nothing"


def test_what_will_not_pass_is_not_tried_again(connect: Callable[..., Remote], server: QdrantLoopback) -> None:
    remote = connect()
    server.faults.append(Fault("upsert", status=403, message="Forbidden: no write access"))
    with pytest.raises(StoreError, match="no write access"):
        remote.upsert(documents(5))
    assert len(upserts(server)) == 1


def test_a_timeout_is_tried_in_smaller_parts(connect: Callable[..., Remote], server: QdrantLoopback, kind: str) -> None:
    remote = connect(client={"timeout": 1})
    server.faults += [Fault("upsert", delay=1.6)] * 2
    assert len(remote.upsert(documents(8)).stored) == 8
    assert [call.points for call in upserts(server)] == [8, 8, 4, 4]


@pytest.mark.parametrize("kind", ["grpc", "async grpc"])
def test_a_write_over_grpc_has_a_deadline(
    connect: Callable[..., Remote], server: QdrantLoopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody gave one, and the request goes around the client, which would have."""
    monkeypatch.setattr("chandelier.qdrant.client.GRPC_SECONDS", 1)
    remote = connect(retries=0)
    server.faults += [Fault("upsert", delay=20)] * 3
    with pytest.raises(StoreError, match="no answer in time") as raised:
        remote.upsert(documents(4))
    assert raised.value.report == UpsertReport(unknown=[f"doc-{i}" for i in range(4)])
    assert [call.points for call in upserts(server)] == [4, 2, 1]


def test_the_timeout_is_passed_on(
    connect: Callable[..., Remote], server: QdrantLoopback, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = connect(timeout=7)
    given: dict[str, Any] = {}

    def note(name: str) -> None:
        method = getattr(remote._client, name)
        monkeypatch.setattr(
            remote._client, name, lambda **options: given.update({name: options.get("timeout")}) or method(**options)
        )

    names = {"query_batch_points", "retrieve", "count", "delete"} | ({"upsert"} if "grpc" not in kind else set())
    for name in names:
        note(name)
    remote.upsert(documents(3))
    remote.search("anything")
    remote.get(["doc-1"])
    remote.count()
    remote.delete(["doc-1"])
    assert given == dict.fromkeys(names, 7)


def test_a_dead_server_ends_an_upsert_with_a_report(connect: Callable[..., Remote], server: QdrantLoopback) -> None:
    remote = connect(retries=2)
    given = documents(1_100)

    def stream() -> Iterator[Document]:
        for index, document in enumerate(given):
            if index == 700:  # the first portion, of 512, has been sent by then
                while not [call for call in upserts(server) if call.outcome == 200]:
                    time.sleep(0.01)
                server.kill()
            yield document

    with pytest.raises(StoreError, match="notes") as raised:
        remote.upsert(stream())
    report: UpsertReport = raised.value.report
    server.start()
    eventually(lambda: remote.count())  # a gRPC channel that saw the server die is slow to try again
    assert report.stored == [f"doc-{i}" for i in range(len(report.stored))]
    assert len(remote.get(report.stored)) == len(report.stored)
    assert len(remote.upsert(given).stored) == 1_100
    assert len(stored_ids(remote)) == 1_100


@pytest.mark.parametrize("kind", ["rest", "grpc"])
def test_ctrl_c_does_not_wait_for_a_dead_server(
    connect: Callable[..., Remote], server: QdrantLoopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chandelier.qdrant.failures.FIRST_WAIT", 10.0)
    remote = connect()
    server.kill()
    started = time.monotonic()
    threading.Timer(1, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        remote.upsert(documents(5))
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("kind", ["rest", "grpc"])
@pytest.mark.parametrize("fault", [Fault("upsert", status=503), Fault("upsert", delay=0.5)])
def test_a_cancelled_write_is_over(
    connect: Callable[..., Remote], server: QdrantLoopback, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    """The thread of a synchronous client would go on, and write over what came after it."""
    monkeypatch.setattr("chandelier.qdrant.failures.FIRST_WAIT", 0.5)
    store = connect().store
    server.faults += [fault] * 2

    async def cancelled() -> int:
        old = asyncio.create_task(store.aupsert([Document("a", "old")]))
        while not upserts(server):
            await asyncio.sleep(0.01)
        old.cancel()
        with pytest.raises(asyncio.CancelledError):
            await old
        server.faults.clear()
        assert (await store.aupsert([Document("a", "new")])).stored == ["a"]
        calls = len(upserts(server))
        await asyncio.sleep(1)
        assert (await store.aget(["a"]))[0].text == "new"
        return len(upserts(server)) - calls

    assert asyncio.run(cancelled()) == 0


def test_every_write_is_waited_for(connect: Callable[..., Remote], server: QdrantLoopback) -> None:
    remote = connect()
    remote.upsert(documents(600))
    remote.delete(["doc-1"])
    assert all(call.wait for call in server.calls if call.operation in ("upsert", "delete"))


@pytest.mark.parametrize("shape", [(1, 1), (3, 31), (3, 32), (2, 128), (2, 5000), (500, 96)])
def test_rows_are_the_message_that_protobuf_would_make(shape: tuple[int, int]) -> None:
    rows = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    vector = rows.ravel()
    message = upsert_message("notes", [Point("", rows, vector, None, {})])
    vectors = message.points[0].vectors.vectors.vectors
    assert vectors["colbert"].multi_dense == grpc.MultiDenseVector(
        vectors=[grpc.DenseVector(data=row) for row in rows.tolist()]
    )
    assert vectors["prefetch"].dense == grpc.DenseVector(data=vector.tolist())
    assert (message.collection_name, message.wait) == ("notes", True)


# Words


def test_words_go_and_come_back(connect: Callable[..., Remote]) -> None:
    remote = connect(sparse=Bm25(), prefetch=MeanVector(DIM))
    texts = {"a": "the zyzzyva is a weevil, a zyzzyva", "b": "bread needs flour", "nothing": ""}
    remote.upsert([Document(id, text) for id, text in texts.items()])
    points, _ = remote.client("scroll", "notes", with_vectors=True)
    assert {point.payload["doc_id"] for point in points} == set(texts)
    for point in points:
        expected = Bm25().encode_document(texts[point.payload["doc_id"]])
        order, got = np.argsort(expected.indices), point.vector["bm25"]
        stored = dict(zip(got.indices, got.values, strict=True))
        assert sorted(stored) == expected.indices[order].tolist()
        assert [stored[index] for index in sorted(stored)] == pytest.approx(expected.values[order].tolist())


def test_words_find_candidates(connect: Callable[..., Remote]) -> None:
    remote = connect(sparse=Bm25())
    remote.upsert([Document("a", "zyzzyva"), Document("b", "bread"), Document("c", "the zyzzyvas")])
    assert {hit.id for hit in remote.search("zyzzyva")} == {"a", "c"}
    assert {hit.id for hit in remote.search("zyzzyva", exact=True)} == {"a", "b", "c"}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (None, "sparse vector 'bm25': got none, wanted one of that name"),
        (models.SparseVectorParams(), "modifier of 'bm25': got None, wanted 'idf'"),
    ],
)
def test_a_collection_without_words_is_refused(
    connect: Callable[..., Remote], server: QdrantLoopback, words: models.SparseVectorParams | None, says: str
) -> None:
    settings = kept(server, lambda: connect(sparse=Bm25()))
    make(server, settings, {}, None if words is None else {"bm25": words})
    with pytest.raises(StoreError, match=says):
        connect(sparse=Bm25())


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"size": 64}, "size of 'prefetch': got 64, wanted 32"),
        ({"distance": models.Distance.COSINE}, "distance of 'prefetch': got 'Cosine', wanted 'Dot'"),
        (None, r"vector 'prefetch': got only \['colbert'\]"),
    ],
)
def test_another_prefetch_vector_is_refused(
    connect: Callable[..., Remote], server: QdrantLoopback, params: dict[str, Any] | None, says: str
) -> None:
    """Of the same fingerprint, as a collection has that somebody made again by hand."""
    settings = kept(server, lambda: connect(prefetch=MeanVector(DIM)))
    wanted = {"size": DIM, "distance": models.Distance.DOT}
    make(server, settings, {} if params is None else {"prefetch": models.VectorParams(**{**wanted, **params})}, None)
    with pytest.raises(StoreError, match=says):
        connect(prefetch=MeanVector(DIM))


def kept(server: QdrantLoopback, open: Callable[[], Any]) -> dict[str, Any]:
    """What a store keeps with its collection, which is deleted again."""
    open()
    with contextlib.closing(server.connect()) as client:
        metadata = client.get_collection("notes").config.metadata
        client.delete_collection("notes")
    return metadata


def make(server: QdrantLoopback, metadata: dict[str, Any], vectors: dict[str, Any], words: Any) -> None:
    """The collection, with other vectors beside the rows."""
    comparator = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
    rows = models.VectorParams(size=DIM, distance=models.Distance.DOT, multivector_config=comparator)
    with contextlib.closing(server.connect()) as client:
        client.create_collection("notes", {"colbert": rows, **vectors}, sparse_vectors_config=words, metadata=metadata)


# Identity


def test_ids_may_be_any_text_and_are_never_doubled(connect: Callable[..., Remote]) -> None:
    remote = connect()
    ids = ["doc-1", "-1", "", "7", "ünï", "a" * 1000, "x/y?z", "\x00", "550e8400-e29b-41d4-a716-446655440000"]
    given = [Document(id, f"text of {index}") for index, id in enumerate(ids)]
    assert remote.upsert(given).stored == ids
    assert remote.upsert(given).stored == ids
    assert remote.count() == len(ids)
    assert [document.id for document in remote.get(reversed(ids))] == ids[::-1]


def test_a_replaced_document_keeps_all_its_vectors(connect: Callable[..., Remote]) -> None:
    remote = connect(prefetch=MeanVector(DIM))
    remote.upsert(documents(3))
    remote.upsert([Document("doc-1", "new", {"n": 1})])
    (point,) = [
        point for point in remote.client("scroll", "notes", with_vectors=True)[0] if point.payload["doc_id"] == "doc-1"
    ]
    assert sorted(point.vector) == ["colbert", "prefetch"]
    assert [hit.id for hit in remote.search("new", k=1)] == ["doc-1"]


# Search


def test_scores_are_maxsim_within_float16(connect: Callable[..., Remote]) -> None:
    given = documents(300)
    remote = connect(prefetch=MeanVector(DIM))
    remote.upsert(given)
    query = np.asarray(documents(1, tokens=8, seed=9)[0].vectors)
    exact = maxsim(query, [np.asarray(document.vectors) for document in given])
    best = np.argsort(-exact)[:10]
    for hits in (remote.search(query, exact=True), remote.search(query, depth=300)):
        assert [hit.id for hit in hits] == [f"doc-{i}" for i in best]
        assert np.allclose([hit.score for hit in hits], exact[best], atol=2e-3)


def test_scores_are_asked_for_exactly(
    connect: Callable[..., Remote], server: QdrantLoopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server with quantized rows, or a graph over them, would use those; candidates it may find as it likes."""
    remote = connect(prefetch=MeanVector(DIM))
    remote.upsert(documents(3))
    asked: list[models.QueryRequest] = []
    query_points = server._engine.query_points
    monkeypatch.setattr(
        server._engine, "query_points", lambda name, body: asked.append(body) or query_points(name, body)
    )
    remote.search("anything")
    remote.search("anything", exact=True)
    assert [request.params.exact for request in asked] == [True, True]
    assert [leaf.params for leaf in asked[0].prefetch] == [None]


def test_filters_reach_the_prefetch(connect: Callable[..., Remote]) -> None:
    remote = connect(prefetch=MeanVector(DIM), payload_indexes={"n": "integer"})
    remote.upsert(documents(200))
    hits = remote.search("anything", k=5, depth=5, filter={"n": {"$gte": 190}})
    assert len(hits) == 5
    assert all(hit.metadata["n"] >= 190 for hit in hits)


def test_several_queries_are_one_request(connect: Callable[..., Remote], server: QdrantLoopback) -> None:
    remote = connect(prefetch=MeanVector(DIM))
    remote.upsert(documents(20))
    calls = len(server.calls)
    assert [len(hits) for hits in remote.search_many(["a", "b", "c"], k=2)] == [2, 2, 2]
    assert [(call.operation, call.points) for call in server.calls[calls:]] == [("query_batch_points", 3)]


def test_many_queries_are_several_requests(connect: Callable[..., Remote], server: QdrantLoopback, kind: str) -> None:
    remote = connect(prefetch=MeanVector(DIM))
    given = documents(20)
    remote.upsert(given)
    short = [np.asarray(given[i % 20].vectors) for i in range(450)]
    long = [np.tile(rows, (60, 1)) for rows in short[:30]]
    calls = len(server.calls)
    answers = remote.search_many([*short, *long], k=1)
    assert [hits[0].id for hits in answers] == [f"doc-{i % 20}" for i in [*range(450), *range(30)]]
    sent = server.calls[calls:]
    assert [call.points for call in sent[:2]] == [200, 200]
    assert sum(call.points for call in sent) == 480
    assert max(call.size for call in sent) < (2.1e6 if kind == "async rest" else 4.2e6)


def test_strict_mode_wants_declared_fields(connect: Callable[..., Remote]) -> None:
    strict = models.StrictModeConfig(enabled=True, unindexed_filtering_retrieve=False, unindexed_filtering_update=False)
    options = {"create_options": {"strict_mode_config": strict}}
    remote = connect(payload_indexes={"lang": "keyword", "n": "integer"}, **options)
    remote.upsert([Document(str(i), f"text {i}", {"lang": "en", "n": i, "other": 1}) for i in range(5)])
    assert len(remote.search("text", filter={"lang": "en", "n": {"$in": [1, 2]}})) == 2
    assert remote.count({"n": 3}) == 1
    assert remote.count() == 5
    with pytest.raises(StoreError, match=r'Index required but not found for .?"metadata.other'):
        remote.search("text", filter={"other": 1})


def test_points_of_others_are_left_alone(connect: Callable[..., Remote]) -> None:
    remote = connect(prefetch=MeanVector(DIM))
    remote.upsert(documents(3))
    other = [
        models.PointStruct(id=1, vector={}, payload={"theirs": True}),
        models.PointStruct(id=2, vector={"prefetch": [0.1] * DIM}, payload={}),
    ]
    remote.client("upsert", "notes", other)
    assert {hit.id for hit in remote.search("anything")} == {"doc-0", "doc-1", "doc-2"}
    assert remote.count() == 3
    assert remote.count({"n": {"$exists": False}}) == 0
    assert remote.delete_all() == 3
    assert remote.client("count", "notes").count == 2


def test_a_search_waits_out_a_restart(connect: Callable[..., Remote], server: QdrantLoopback) -> None:
    remote = connect()
    remote.upsert(documents(3))
    server.faults += [Fault("query_batch_points", status=503), Fault("query_batch_points", drop="before")]
    assert len(remote.search("anything")) == 3


def test_waiting_for_the_index(connect: Callable[..., Remote], server: QdrantLoopback) -> None:
    remote = connect()
    server.statuses.extend([models.CollectionStatus.YELLOW] * 2)
    remote.wait_until_indexed(timeout=10)
    server.statuses.extend([models.CollectionStatus.YELLOW] * 20)
    with pytest.raises(StoreError, match=r"not indexed within 0\.3 seconds"):
        remote.wait_until_indexed(timeout=0.3)
    for timeout in ("60", None, -1, float("nan"), True):
        with pytest.raises(ArgumentError, match=r"timeout: got .*, wanted seconds"):
            remote.wait_until_indexed(timeout=timeout)


def test_an_optimizer_that_failed_is_not_waited_for(
    connect: Callable[..., Remote], server: QdrantLoopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = connect()
    get_collection = server._engine.get_collection

    def failed(name: str, body: None) -> models.CollectionInfo:
        status = models.OptimizersStatusOneOf1(error="no space left")
        return get_collection(name, body).model_copy(update={"optimizer_status": status})

    monkeypatch.setattr(server._engine, "get_collection", failed)
    with pytest.raises(StoreError, match=r"the optimizer failed: .*no space left"):
        remote.wait_until_indexed(timeout=10)


@pytest.mark.parametrize("kind", ["async rest", "async grpc"])
def test_the_event_loop_goes_on(connect: Callable[..., Remote], server: QdrantLoopback) -> None:
    remote = connect()

    async def watch() -> float:
        longest, last = 0.0, time.monotonic()
        work = asyncio.gather(remote.store.aupsert(documents(600, tokens=50)), remote.store.asearch("anything"))
        while not work.done():
            await asyncio.sleep(0.005)
            now = time.monotonic()
            longest, last = max(longest, now - last), now
        await work
        return longest

    longest = []
    for _ in range(3):  # another process may have held the cores
        server.faults += [Fault("upsert", delay=0.5), Fault("query_batch_points", stall=0.5)]
        longest.append(remote._loop.run_until_complete(watch()))
        if longest[-1] < 0.4:
            break
    assert min(longest) < 0.4
