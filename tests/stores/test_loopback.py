"""The loopback answers the real clients as a real server was seen to answer them."""

from __future__ import annotations

import asyncio
import inspect
import re
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from qdrant_client import models
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse
from qdrant_client.local.local_collection import LocalCollection

sys.path.insert(0, str(Path(__file__).parent))  # pytest's importlib mode puts no folder on the path
from loopback import Fault, QdrantLoopback

DIM = 8
STATUSES = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 404: "NOT_FOUND", 409: "ALREADY_EXISTS"}
STATUSES |= {413: "RESOURCE_EXHAUSTED", 422: "INVALID_ARGUMENT", 500: "INTERNAL", 503: "UNAVAILABLE"}


class Client:
    """A real client, synchronous or not: `client("count", "docs")` gives what its method gives in the end."""

    def __init__(self, server: QdrantLoopback, kind: str, **options: Any) -> None:
        self.grpc = kind.endswith("grpc")
        self.loop = asyncio.new_event_loop() if kind.startswith("async") else None
        connect = server.connect_async if self.loop else server.connect
        self.real = connect(grpc=self.grpc, **options)

    def __call__(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return self.finish(getattr(self.real, method)(*args, **kwargs))

    def finish(self, result: Any) -> Any:
        return self.loop.run_until_complete(result) if inspect.isawaitable(result) else result

    def close(self) -> None:
        self("close")
        if self.loop:
            self.loop.close()

    def refused(self, method: str, *args: Any, **kwargs: Any) -> tuple[int | str, str]:
        """How a call was refused: the status (its name in gRPC) and the server's words."""
        with pytest.raises((UnexpectedResponse, grpc.RpcError)) as caught:
            self(method, *args, **kwargs)
        error = caught.value
        if not isinstance(error, UnexpectedResponse):
            return error.code().name, error.details()
        kind = error.headers["content-type"]
        return error.status_code, error.structured()["status"]["error"] if "json" in kind else error.content.decode()

    def status(self, http: int) -> int | str:
        """What this client sees of an HTTP status."""
        return STATUSES[http] if self.grpc else http


@pytest.fixture
def server() -> Iterator[QdrantLoopback]:
    with QdrantLoopback() as server:
        yield server


KINDS = ["rest", "grpc", "async-rest", "async-grpc"]


@pytest.fixture
def connect(server: QdrantLoopback, request: pytest.FixtureRequest) -> Callable[..., Client]:
    """Opens clients, and closes them in the end."""

    def open_client(kind: str, **options: Any) -> Client:
        client = Client(server, kind, **options)
        request.addfinalizer(client.close)
        return client

    return open_client


@pytest.fixture(params=KINDS)
def client(connect: Callable[..., Client], request: pytest.FixtureRequest) -> Client:
    return connect(request.param)


def matrix(rows: int, seed: int = 0, dim: int = DIM) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal((rows, dim), np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def multivector(dim: int = DIM, **more: Any) -> models.VectorParams:
    return models.VectorParams(
        size=dim,
        distance=models.Distance.DOT,
        datatype=models.Datatype.FLOAT16,
        on_disk=True,
        hnsw_config=models.HnswConfigDiff(m=0),
        multivector_config=models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM),
        **more,
    )


def create(client: Client, dim: int = DIM, **more: Any) -> None:
    vectors = {"colbert": multivector(dim), "prefetch": models.VectorParams(size=dim, distance=models.Distance.DOT)}
    sparse = {"bm25": models.SparseVectorParams(modifier=models.Modifier.IDF)}
    client("create_collection", "docs", vectors, sparse_vectors_config=sparse, **more)


def point(id_: int | str, rows: int = 3, **payload: Any) -> models.PointStruct:
    seed = id_ if isinstance(id_, int) else 0
    vectors = {"colbert": matrix(rows, seed), "prefetch": matrix(1, seed)[0]}
    return models.PointStruct(id=id_, vector=vectors, payload=payload)


def only(vector: Any, id_: int = 1) -> models.PointStruct:
    """A point with a multivector that pydantic does not check."""
    return models.PointStruct.model_construct(id=id_, vector={"colbert": vector}, payload={})


def is_(key: str, value: Any) -> models.Filter:
    return models.Filter(must=[models.FieldCondition(key=key, match=models.MatchValue(value=value))])


def eventually(what: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not what():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)


# What works


def test_a_collection_lives_as_on_a_server(client: Client) -> None:
    assert not client("collection_exists", "docs")
    create(client, metadata={"fingerprint": "blake3:1"})
    assert client("collection_exists", "docs")
    assert [each.name for each in client("get_collections").collections] == ["docs"]
    client("update_collection", "docs", metadata={"seed": 42}, hnsw_config=models.HnswConfigDiff(ef_construct=64))
    info = client("get_collection", "docs")
    assert info.config.metadata == {"fingerprint": "blake3:1", "seed": 42}
    assert (info.config.hnsw_config.m, info.config.hnsw_config.ef_construct) == (16, 64)
    assert client("delete_collection", "docs") is True
    assert client("delete_collection", "docs") is False
    assert not client("collection_exists", "docs")


def test_the_information_gives_back_what_was_created(client: Client, server: QdrantLoopback) -> None:
    create(client)
    client("create_payload_index", "docs", "lang", models.PayloadSchemaType.KEYWORD)
    client("create_payload_index", "docs", "year", models.IntegerIndexParams(type="integer", lookup=False, range=True))
    client("upsert", "docs", [point(1, lang="en"), point(2)])
    info = client("get_collection", "docs")
    assert (info.status, info.optimizer_status.value) == (models.CollectionStatus.GREEN, "ok")
    assert (info.points_count, info.indexed_vectors_count) == (2, 0)
    assert info.config.params.vectors["colbert"] == multivector()
    assert info.config.params.sparse_vectors["bm25"].modifier is models.Modifier.IDF
    lang, year = info.payload_schema["lang"], info.payload_schema["year"]
    assert (lang.data_type, lang.params, lang.points) == (models.PayloadSchemaType.KEYWORD, None, 1)
    assert (year.data_type, year.params.range, year.points) == (models.PayloadSchemaType.INTEGER, True, 0)
    client("delete_payload_index", "docs", "lang")
    server.statuses.append(models.CollectionStatus.YELLOW)
    info = client("get_collection", "docs")
    assert (info.status, list(info.payload_schema)) == (models.CollectionStatus.YELLOW, ["year"])
    assert client("get_collection", "docs").status is models.CollectionStatus.GREEN


def test_points_are_written_read_and_deleted(client: Client) -> None:
    create(client)
    payload = {"title": "Ω", "deep": {"list": [1, None, "x"]}, "large": 2**53 + 1}
    client("upsert", "docs", [point(1, **payload), point(2, lang="en"), point(3, lang="de")])
    (found,) = client("retrieve", "docs", [1], with_vectors=True)
    assert found.payload == payload
    np.testing.assert_array_equal(found.vector["colbert"], matrix(3, 1).astype(np.float16))  # the datatype it has
    np.testing.assert_array_equal(found.vector["prefetch"], matrix(1, 1)[0])
    assert client("count", "docs", is_("lang", "en")).count == 1
    first, offset = client("scroll", "docs", limit=2, with_payload=["lang"])
    rest, end = client("scroll", "docs", limit=2, offset=offset)
    assert [each.id for each in first + rest] == [1, 2, 3]
    assert end is None
    client("set_payload", "docs", {"seen": True}, points=[2])
    client("update_vectors", "docs", [models.PointVectors(id=2, vector={"colbert": matrix(5, 9)})])
    (found,) = client("retrieve", "docs", [2], with_vectors=["colbert"])
    assert (found.payload, len(found.vector["colbert"])) == ({"lang": "en", "seen": True}, 5)
    client("delete", "docs", [1])
    client("delete", "docs", models.FilterSelector(filter=is_("lang", "de")))
    assert [each.id for each in client("scroll", "docs")[0]] == [2]


def test_an_upsert_replaces_the_point_with_all_its_vectors(client: Client) -> None:
    create(client)
    client("upsert", "docs", [point(1)])
    client("upsert", "docs", [models.PointStruct(id=1, vector={"prefetch": matrix(1)[0]}, payload={})])
    (found,) = client("retrieve", "docs", [1], with_vectors=True)
    assert set(found.vector) == {"prefetch"}


def test_points_come_as_a_batch_too(client: Client, server: QdrantLoopback) -> None:
    create(client)
    vectors = {"colbert": [matrix(3, 1).tolist(), matrix(2, 2).tolist()]}
    client("upsert", "docs", models.Batch(ids=[1, 2], vectors=vectors, payloads=[{"a": 1}, {}]))
    found = client("retrieve", "docs", [1, 2], with_vectors=True)
    assert [(each.payload, len(each.vector["colbert"])) for each in found] == [({"a": 1}, 3), ({}, 2)]
    assert server.calls[1].points == 2


def test_queries_are_exact_maxsim_and_filters_reach_the_prefetch(client: Client) -> None:
    create(client)
    client("upsert", "docs", [point(id_, 4, lang=("en", "de")[id_ % 2]) for id_ in range(40)])
    query = matrix(5, 99)
    scores = [(query @ matrix(4, id_).astype(np.float16).T).max(1).sum() for id_ in range(40)]
    best = np.argsort(scores)[::-1]
    hits = client("query_points", "docs", query, using="colbert", limit=10).points
    assert [hit.id for hit in hits] == best[:10].tolist()
    np.testing.assert_allclose([hit.score for hit in hits], np.sort(scores)[::-1][:10], rtol=1e-6)
    assert hits[0].payload == {"lang": ("en", "de")[best[0] % 2]}
    prefetch = models.Prefetch(query=matrix(1, 7)[0], using="prefetch", limit=5)
    how = {"using": "colbert", "prefetch": prefetch, "query_filter": is_("lang", "en"), "limit": 10}
    hits = client("query_points", "docs", query, **how).points
    assert len(hits) == 5
    assert {hit.payload["lang"] for hit in hits} == {"en"}
    asked = [models.QueryRequest(query=query, using="colbert", limit=limit) for limit in (1, 3)]
    assert [len(each.points) for each in client("query_batch_points", "docs", asked)] == [1, 3]


def test_hybrid_queries_fuse_and_rank_again(client: Client) -> None:
    create(client)
    points = [point(id_, 4, lang="en") for id_ in range(20)]
    for each in points:
        each.vector["bm25"] = models.SparseVector(indices=[each.id % 5], values=[1.0])
    client("upsert", "docs", points)
    client("upsert", "docs", [models.PointStruct(id=99, vector={}, payload={"lang": "en"})])  # somebody else's
    sparse = models.Prefetch(query=models.SparseVector(indices=[3], values=[1.0]), using="bm25", limit=10)
    dense = models.Prefetch(query=matrix(1, 7)[0], using="prefetch", limit=4)
    fused = models.Prefetch(prefetch=[sparse, dense], query=models.FusionQuery(fusion=models.Fusion.RRF), limit=6)
    params = models.SearchParams(exact=True, hnsw_ef=64)
    query = matrix(5, 99)
    how = {"using": "colbert", "prefetch": fused, "query_filter": is_("lang", "en"), "search_params": params}
    hits = client("query_points", "docs", query, **how).points
    assert len(hits) == 6
    assert len({hit.id for hit in hits} & {3, 8, 13, 18}) >= 2
    scores = [(query @ matrix(4, hit.id).astype(np.float16).T).max(1).sum() for hit in hits]
    np.testing.assert_allclose([hit.score for hit in hits], scores, rtol=1e-6)
    assert len(client("query_points", "docs", query, using="colbert", limit=100).points) == 20
    without = models.Filter(must_not=[models.HasVectorCondition(has_vector="colbert")])
    assert [each.id for each in client("scroll", "docs", scroll_filter=without)[0]] == [99]


def test_an_upsert_can_spare_what_is_there(client: Client) -> None:
    create(client)
    client("upsert", "docs", [point(1, old=True)])
    client("upsert", "docs", [point(1), point(2)], update_mode=models.UpdateMode.INSERT_ONLY)
    client("upsert", "docs", [point(1), point(3)], update_filter=is_("old", False))
    assert [(each.id, each.payload) for each in client("scroll", "docs")[0]] == [(1, {"old": True}), (2, {}), (3, {})]


def test_who_does_not_wait_is_only_acknowledged(client: Client, server: QdrantLoopback) -> None:
    create(client)
    assert client("upsert", "docs", [point(1)], wait=True).status is models.UpdateStatus.COMPLETED
    assert client("upsert", "docs", [point(2)], wait=False).status is models.UpdateStatus.ACKNOWLEDGED
    assert [call.wait for call in server.calls[1:]] == [True, False]


def test_calls_are_counted_in_points_and_bytes(client: Client, server: QdrantLoopback) -> None:
    create(client)
    client("upsert", "docs", [point(id_, 10) for id_ in range(7)])
    created, upsert = server.calls
    assert (created.operation, upsert.operation, upsert.collection) == ("create_collection", "upsert", "docs")
    assert (upsert.points, upsert.outcome, upsert.protocol) == (7, 200, "grpc" if client.grpc else "rest")
    floats = 7 * 11 * DIM
    assert 4 * floats < upsert.size < (6 if client.grpc else 25) * floats


def test_a_server_does_not_warn_of_many_points(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LocalCollection, "LARGE_DATA_THRESHOLD", 10)  # what stands behind it would
    create(client)
    client("upsert", "docs", [point(id_) for id_ in range(20)])
    assert client("count", "docs").count == 20


def test_many_clients_write_at_once(server: QdrantLoopback, connect: Callable[..., Client]) -> None:
    clients = [connect(kind) for kind in ("rest", "grpc") * 4]
    create(clients[0])
    writers = [
        threading.Thread(target=client, args=("upsert", "docs", [point(100 * number + id_) for id_ in range(20)]))
        for number, client in enumerate(clients)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert clients[0]("count", "docs").count == 8 * 20


def test_it_says_its_version_and_that_it_is_ready(client: Client, server: QdrantLoopback) -> None:
    assert client("info").version == "1.19.0"
    assert httpx.get(f"http://127.0.0.1:{server.rest_port}/readyz").text == "all shards are ready"
    server.kill()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{server.rest_port}/readyz")


def test_a_client_is_warned_of_another_version(recwarn: pytest.WarningsRecorder) -> None:
    warnings.simplefilter("always")
    with QdrantLoopback(version="1.9.0") as server:
        client = server.connect(check_compatibility=True)
        eventually(lambda: len(recwarn) > 0)  # the client asks in a thread
        client.close()
    assert "incompatible with server version 1.9.0" in str(recwarn.pop(UserWarning).message)


# What is refused

SHAPES = [  # vector, HTTP status, words
    ([], 422, "dense vector must not be empty"),
    ([[0.0] * DIM, [0.0] * (DIM - 1)], 422, "all vectors must have the same dimension, found vector with dimension 7"),
    ([[0.0] * DIM, []], 422, "all vectors must be non-empty"),
    ([[0.0] * 4], 400, "Wrong input: Vector dimension error: expected dim: 8, got 4 for vector 'colbert'"),
]


@pytest.mark.parametrize(("vector", "status", "words"), SHAPES, ids=["empty", "ragged", "empty row", "dim"])
def test_one_wrong_shape_refuses_the_whole_batch(client: Client, vector: Any, status: int, words: str) -> None:
    create(client)
    told = client.refused("upsert", "docs", [point(1), only(vector, 2), point(3)])
    assert told[0] == client.status(status)
    assert words in told[1]
    assert client("count", "docs").count == 0


def test_a_single_vector_becomes_one_row(client: Client) -> None:
    create(client)
    client("upsert", "docs", [only(matrix(1)[0].tolist())])
    (found,) = client("retrieve", "docs", [1], with_vectors=True)
    assert np.shape(found.vector["colbert"]) == (1, DIM)


def test_names_ids_and_limits_are_checked(client: Client) -> None:
    create(client)
    client("upsert", "docs", [point(1)])
    bad = client.status(400)
    unknown = "Wrong input: Not existing vector name error: nope"
    assert client.refused("query_points", "docs", matrix(2), using="nope") == (bad, unknown)
    named = models.PointStruct(id=1, vector={"nope": [1.0]}, payload={})
    assert client.refused("upsert", "docs", [named]) == (bad, unknown)
    status, words = client.refused("upsert", "docs", [point("doc-1")])
    assert (status, "value doc-1 is not a valid point ID" in words) == (bad, True)
    for method, args in (("query_points", (matrix(2), "colbert")), ("scroll", ())):
        status, words = client.refused(method, "docs", *args, limit=0)
        assert (status, "value 0 invalid, must be 1 or larger" in words) == (client.status(422), True)
    missing = models.PointVectors(id=7, vector={"colbert": matrix(2)})
    assert client.refused("update_vectors", "docs", [missing])[0] == client.status(404)


def test_unknown_collections_are_not_found(client: Client) -> None:
    told = (client.status(404), "Not found: Collection `docs` doesn't exist!")
    for method, *args in (
        ("get_collection",),
        ("upsert", [point(1)]),
        ("query_points", matrix(2), "colbert"),
        ("retrieve", [1]),
        ("count",),
        ("scroll",),
        ("delete", [1]),
        ("create_payload_index", "lang", models.PayloadSchemaType.KEYWORD),
    ):
        assert client.refused(method, "docs", *args) == told


def test_what_exists_or_is_too_large_is_not_created(client: Client) -> None:
    create(client)
    told = client.refused("create_collection", "docs", {"colbert": multivector()})
    assert told == (client.status(409), "Wrong input: Collection `docs` already exists!")
    large = models.VectorParams(size=81_920, distance=models.Distance.DOT)
    assert client.refused("create_collection", "large", {"fde": large})[0] == client.status(422)
    turbo = models.VectorParams(size=8, distance=models.Distance.DOT, datatype=models.Datatype.TURBO8)
    assert client.refused("create_collection", "turbo", {"fde": turbo})[0] == client.status(400)


def test_nan_is_refused_over_rest(connect: Callable[..., Client]) -> None:
    client = connect("rest")
    create(client)
    broken = matrix(3)
    broken[1, 2] = np.nan
    variant = "Format error in JSON body: data did not match any variant of untagged enum VectorStruct"
    assert client.refused("upsert", "docs", [only(broken.tolist())]) == (400, variant)
    broken[1, 2] = np.inf
    assert client.refused("upsert", "docs", [only(broken.tolist())]) == (400, variant)
    assert client.refused("query_points", "docs", broken, using="colbert")[0] == 400
    assert client("count", "docs").count == 0


@pytest.mark.parametrize("kind", ["grpc", "async-grpc"])
def test_nan_is_stored_over_grpc(server: QdrantLoopback, connect: Callable[..., Client], kind: str) -> None:
    client = connect(kind)
    create(client)
    broken = matrix(3)
    broken[1, 2], broken[2, 0] = np.nan, np.inf
    client("upsert", "docs", [only(broken.tolist()), point(2)])
    (found,) = client("retrieve", "docs", [1], with_vectors=True)
    np.testing.assert_array_equal(found.vector["colbert"], broken.astype(np.float16))
    hits = client("query_points", "docs", broken, using="colbert").points
    assert [hit.score for hit in hits] == [-np.inf, -np.inf]
    asked = {"ids": [1], "with_vector": ["colbert"]}
    told = httpx.post(f"http://127.0.0.1:{server.rest_port}/collections/docs/points", json=asked).json()
    assert told["result"][0]["vector"]["colbert"][1][2] is None  # JSON has no NaN


def test_a_rest_body_has_at_most_32_mib(server: QdrantLoopback, connect: Callable[..., Client]) -> None:
    rest, rpc = connect("rest"), connect("grpc")
    create(rest, 128)
    values = matrix(300, 0, 128).tolist()
    points = [only(values, id_) for id_ in range(64)]
    status, words = rest.refused("upsert", "docs", points)
    refused = server.calls[-1]
    limit = "is larger than allowed (limit: 33554432 bytes)."
    assert (status, words) == (400, f"JSON payload ({refused.size} bytes) {limit}")
    assert refused.size > 33_554_432
    assert rest("count", "docs").count == 0
    rpc("upsert", "docs", points)  # gRPC has no limit
    assert rest("count", "docs").count == 64


@pytest.mark.parametrize("kind", ["rest", "grpc"])
def test_a_multivector_has_less_than_a_mebifloat(connect: Callable[..., Client], kind: str) -> None:
    client = connect(kind)
    create(client, 128)
    row = [0.5] * 128
    status, words = client.refused("upsert", "docs", [only([row] * 8192)])
    assert status == client.status(422)
    assert "Total size of all vectors (1048576) must be less than 1048576" in words
    client("upsert", "docs", [only([row] * 8191)])
    assert client("count", "docs").count == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore:Api key is used with an insecure connection")
def test_who_has_no_key_stays_out(kind: str) -> None:
    missing = "Must provide an API key or an Authorization bearer token"
    with QdrantLoopback(api_key="secret") as server:
        for key, told in ((None, missing), ("wrong", "Invalid API key or JWT")):
            with closing(Client(server, kind, api_key=key)) as client:
                assert client.refused("get_collections") == (client.status(401), told)
                assert client("info").version == "1.19.0"  # this needs none
        with closing(Client(server, kind, api_key="secret")) as client:
            create(client)
            client("upsert", "docs", [point(1)])
            assert client("count", "docs").count == 1


def test_strict_mode_refuses_by_its_settings(client: Client) -> None:
    strict = models.StrictModeConfig(
        enabled=True,
        unindexed_filtering_retrieve=False,
        unindexed_filtering_update=False,
        upsert_max_batchsize=10,
        max_query_limit=100,
        multivector_config={"colbert": models.StrictModeMultivector(max_vectors=50)},
    )
    create(client, strict_mode_config=strict)
    bad = client.status(400)
    missing = 'Index required but not found for "lang" of one of the following types: [keyword]. Help: '
    missing = f"Bad request: {missing}Create an index for this key or use a different filter."
    nested = models.Filter(should=[models.Filter(must_not=is_("lang", "en").must)])
    assert client.refused("count", "docs", is_("lang", "en")) == (bad, missing)
    assert client.refused("query_points", "docs", matrix(2), "colbert", query_filter=nested) == (bad, missing)
    inner = models.Prefetch(query=matrix(1)[0], using="prefetch", filter=is_("lang", "en"))
    assert client.refused("query_points", "docs", matrix(2), "colbert", prefetch=inner) == (bad, missing)
    assert client.refused("delete", "docs", models.FilterSelector(filter=is_("lang", "en"))) == (bad, missing)
    client("create_payload_index", "docs", "lang", models.PayloadSchemaType.INTEGER)
    assert client.refused("count", "docs", is_("lang", "en")) == (bad, missing)
    client("create_payload_index", "docs", "lang", models.PayloadSchemaType.KEYWORD)
    assert client("count", "docs", is_("lang", "en")).count == 0
    status, words = client.refused("upsert", "docs", [point(id_) for id_ in range(11)])
    assert (status, 'Limit exceeded 11 > 10 for "upsert limit"' in words) == (bad, True)
    status, words = client.refused("upsert", "docs", [point(1, 60)])
    assert (status, "Multivector 'colbert' has a limit of 50 vectors, but 60 were provided!" in words) == (bad, True)
    status, words = client.refused("scroll", "docs", limit=101)
    assert (status, 'Limit exceeded 101 > 100 for "limit"' in words) == (bad, True)
    assert client("get_collection", "docs").config.strict_mode_config.upsert_max_batchsize == 10
    client("update_collection", "docs", strict_mode_config=models.StrictModeConfig(enabled=False))
    client("upsert", "docs", [point(id_, 60) for id_ in range(11)])


# What goes wrong


@pytest.mark.parametrize("status", [413, 500, 503])
def test_a_fault_answers_with_its_status_once(client: Client, server: QdrantLoopback, status: int) -> None:
    create(client)
    server.faults.append(Fault("upsert", status=status, message="too bad"))
    assert client("count", "docs").count == 0  # it is for another operation
    assert client.refused("upsert", "docs", [point(1)]) == (client.status(status), "too bad")
    assert client("count", "docs").count == 0
    client("upsert", "docs", [point(1)])
    assert [call.outcome for call in server.calls] == [200, 200, status, 200, 200]


def test_faults_are_taken_in_their_order(client: Client, server: QdrantLoopback) -> None:
    create(client)
    server.faults += [Fault("upsert", status=500), Fault(status=503), Fault("upsert", status=413)]
    seen = [client.refused("upsert", "docs", [point(1)])[0] for _ in range(3)]
    assert seen == [client.status(status) for status in (500, 503, 413)]
    assert server.faults == []


def test_a_limited_client_is_told_when_to_come_back(client: Client, server: QdrantLoopback) -> None:
    create(client)
    server.faults.append(Fault("upsert", status=429, retry_after=7))
    with pytest.raises(ResourceExhaustedResponse, match="Rate limiting exceeded") as caught:
        client("upsert", "docs", [point(1)])
    assert caught.value.retry_after_s == 7
    server.faults.append(Fault("upsert", status=429))
    with pytest.raises((UnexpectedResponse, grpc.RpcError)) as caught:  # without the header it is another error
        client("upsert", "docs", [point(1)])
    told = caught.value.code().name if client.grpc else caught.value.status_code
    assert told == ("RESOURCE_EXHAUSTED" if client.grpc else 429)
    assert client("count", "docs").count == 0


@pytest.mark.parametrize(("drop", "stored"), [("before", 0), ("middle", 3), ("after", 6), ("answer", 6)])
def test_a_lost_connection_leaves_what_was_applied(
    client: Client, server: QdrantLoopback, drop: Any, stored: int
) -> None:
    create(client)
    server.faults.append(Fault("upsert", drop=drop))
    with pytest.raises((ResponseHandlingException, grpc.RpcError)) as caught:
        client("upsert", "docs", [point(id_) for id_ in range(6)])
    if client.grpc:
        assert (caught.value.code().name, caught.value.details()) == ("UNAVAILABLE", "Stream removed")
    elif drop != "before":  # then it is the send that fails, if it has not ended yet
        begun = "incomplete message body|without sending complete message body"
        assert bool(re.search(begun, str(caught.value.source))) is (drop == "answer")
    assert client("count", "docs").count == stored
    assert server.calls[1].outcome == "dropped"
    client("upsert", "docs", [point(id_) for id_ in range(6)])
    assert client("count", "docs").count == 6


@pytest.mark.parametrize("slow", ["delay", "stall"])
@pytest.mark.parametrize("kind", KINDS)
def test_who_gives_up_may_still_be_served(
    connect: Callable[..., Client], server: QdrantLoopback, kind: str, slow: str
) -> None:
    client = connect(kind, timeout=1)
    create(client)
    server.faults.append(Fault("upsert", **{slow: 1.3}))
    with pytest.raises((ResponseHandlingException, grpc.RpcError)) as caught:
        client("upsert", "docs", [point(1)])
    if client.grpc:
        assert caught.value.code().name == "DEADLINE_EXCEEDED"
    else:
        assert type(caught.value.source).__name__ == "ReadTimeout"
    assert client("count", "docs").count == (slow == "stall")
    eventually(lambda: client("count", "docs").count == 1)


def test_a_dead_server_comes_back_with_its_data(client: Client, server: QdrantLoopback) -> None:
    create(client)
    client("upsert", "docs", [point(1)])
    ports = server.rest_port, server.grpc_port
    server.kill()
    with pytest.raises((ResponseHandlingException, grpc.RpcError)) as caught:
        client("count", "docs")
    if client.grpc:
        assert caught.value.code().name == "UNAVAILABLE"
    else:
        assert type(caught.value.source).__name__ == "ConnectError"
    server.start()
    assert (server.rest_port, server.grpc_port) == ports

    def is_back() -> bool:
        try:
            return client("count", "docs").count == 1
        except grpc.RpcError:  # a channel that saw the death may fail some more
            return False

    eventually(is_back)


def test_death_cuts_what_is_under_way(server: QdrantLoopback, client: Client) -> None:
    create(client)
    server.faults.append(Fault("upsert", delay=60))
    killer = threading.Thread(target=lambda: (eventually(lambda: len(server.calls) > 1), server.kill()))
    killer.start()
    start = time.monotonic()
    with pytest.raises((ResponseHandlingException, grpc.RpcError)) as caught:
        client("upsert", "docs", [point(1)])
    killer.join()
    assert time.monotonic() - start < 10
    if client.grpc:
        assert caught.value.code().name == "UNAVAILABLE"
    server.start()
    fresh = server.connect()
    assert fresh.count("docs").count == 0
    fresh.close()


# The loopback's own honesty


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("get_aliases", {}),
        ("facet", {"collection_name": "docs", "key": "lang"}),
        ("create_collection", {"collection_name": "new", "vectors_config": {"a": multivector()}, "shard_number": 2}),
    ],
)
def test_a_request_that_is_not_played_fails_the_test(kind: str, method: str, arguments: dict[str, Any]) -> None:
    def use() -> None:
        with QdrantLoopback() as server, closing(Client(server, kind)) as client:
            client.refused(method, **arguments)

    with pytest.raises(RuntimeError, match=r"the loopback failed: .* is not played"):
        use()


def test_nothing_is_left_behind() -> None:
    def ours() -> list[threading.Thread]:
        names = ("loopback", "process_request_thread")
        return [thread for thread in threading.enumerate() if any(name in thread.name for name in names)]

    with QdrantLoopback() as server:
        for kind in KINDS:
            with closing(Client(server, kind)) as client:
                assert not client("collection_exists", "docs")
        assert ours()
        idle = httpx.Client()
        assert idle.get(f"http://127.0.0.1:{server.rest_port}/healthz").is_success
        server.faults.append(Fault(delay=60))
        with closing(server.connect(timeout=1)) as client, pytest.raises(ResponseHandlingException):
            client.get_collections()
    assert not ours()
    idle.close()
    for port in (server.rest_port, server.grpc_port):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
