"""`QdrantStore` over the client's local mode, synchronous and asynchronous, and over the loopback: the contract."""

from __future__ import annotations

import asyncio
import copy
import os
import pickle
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from contract import Driven, StoreContract
from loopback import QdrantLoopback
from qdrant_client import AsyncQdrantClient, QdrantClient, models

from chandelier import ArgumentError, ColBERT, Document, MeanVector, StoreError
from chandelier.qdrant import Bm25, QdrantStore


class TestLocalMode(StoreContract):
    """Local mode keeps single precision, whatever it is told."""

    @pytest.fixture
    def raw(self, tiny: ColBERT) -> Iterator[QdrantStore]:
        client = QdrantClient(":memory:")
        yield QdrantStore(client, "notes", tiny)
        client.close()


class TestAsyncLocalMode(StoreContract):
    asynchronous = True

    @pytest.fixture
    def raw(self, tiny: ColBERT, loop: asyncio.AbstractEventLoop) -> Iterator[QdrantStore]:
        client = AsyncQdrantClient(":memory:")
        yield QdrantStore(client, "notes", tiny)
        loop.run_until_complete(client.close())


class TestRest(StoreContract):
    """Over HTTP, values go with the digits of half precision; with a prefetch, whose 200 candidates hold all."""

    datatype = "float16"
    tolerance = 5e-4

    @pytest.fixture
    def raw(self, tiny: ColBERT) -> Iterator[QdrantStore]:
        with QdrantLoopback() as server:
            client = server.connect()
            yield QdrantStore(client, "notes", tiny, prefetch=MeanVector(tiny.dim))
            client.close()

    test_a_thousand_random_documents = None  # more than its candidates


class TestGrpc(StoreContract):
    @pytest.fixture
    def raw(self, tiny: ColBERT) -> Iterator[QdrantStore]:
        with QdrantLoopback() as server:
            client = server.connect(grpc=True)
            yield QdrantStore(client, "notes", tiny, datatype="float32")
            client.close()


@pytest.mark.skipif("QDRANT_URL" not in os.environ, reason="no real server: set QDRANT_URL (and QDRANT_API_KEY)")
class TestServer(StoreContract):
    """A real server, whose engine rounds queries too."""

    datatype = query_datatype = "float16"
    tolerance = 5e-4
    grpc = prefetch = False

    @pytest.fixture
    def raw(self, tiny: ColBERT) -> Iterator[QdrantStore]:
        url, key = os.environ["QDRANT_URL"], os.environ.get("QDRANT_API_KEY")
        client = QdrantClient(url, api_key=key, prefer_grpc=self.grpc, timeout=60)
        name = f"chandelier-test-{uuid.uuid4()}"
        try:
            yield QdrantStore(client, name, tiny, prefetch=MeanVector(tiny.dim) if self.prefetch else None)
        finally:
            client.delete_collection(name)
            client.close()


class TestServerGrpc(TestServer):
    grpc = True


class TestServerPrefetched(TestServer):
    """With 200 candidates, which hold all documents of a test but one."""

    prefetch = True
    test_a_thousand_random_documents = None


@pytest.fixture
def client() -> Iterator[QdrantClient]:
    client = QdrantClient(":memory:")
    yield client
    client.close()


def test_local_mode_on_disk_comes_back(tiny: ColBERT, tmp_path: Path) -> None:
    """Not the whole contract: there every single point waits for the disk."""
    for _ in range(2):
        client = QdrantClient(path=str(tmp_path))
        store = QdrantStore(client, "notes", tiny, prefetch=MeanVector(tiny.dim))
        assert store.upsert([Document("a", "bread", {"n": [1, None]}), Document("b", "paris")]).stored == ["a", "b"]
        assert store.get(["a"]) == [Document("a", "bread", {"n": [1, None]})]
        assert {hit.id for hit in store.search("bread")} == {"a", "b"}
        client.close()
    client = QdrantClient(path=str(tmp_path))
    with pytest.raises(StoreError, match="was written with prefetch mean-32, and is opened with no prefetch"):
        QdrantStore(client, "notes", tiny)
    client.close()


def test_the_asynchronous_half_over_a_synchronous_client(client: QdrantClient, tiny: ColBERT) -> None:
    store = QdrantStore(client, "notes", tiny)

    async def used() -> None:
        assert (await store.aupsert([Document("a", "bread"), Document("b", "paris")])).stored == ["a", "b"]
        hits = await store.asearch_many(["bread", "paris"], k=1)
        assert [[hit.id for hit in each] for each in hits] == [["a"], ["b"]]
        assert [document.id async for document in store.aiterate()] == [each.id for each in store.iterate()]
        assert await store.adelete(["a"]) == await store.acount() == 1
        with pytest.raises(ArgumentError, match="k: got 0"):
            await store.asearch("bread", 0)

    asyncio.run(used())


def test_words_and_vectors_find_candidates(client: QdrantClient, tiny: ColBERT) -> None:
    store = QdrantStore(client, "notes", tiny, prefetch=MeanVector(tiny.dim), sparse=Bm25())
    store.upsert(Document(f"{i}", f"some text {i}", {"even": i % 2 == 0}) for i in range(400))
    store.upsert(
        [Document("rare", "the zyzzyva is a weevil", {"even": True}), Document("odd", "zyzzyvas", {"even": False})]
    )
    for filter, expected in ((None, {"rare", "odd"}), ({"even": True}, {"rare"}), ({"even": {"$ne": True}}, {"odd"})):
        depth = 4 if filter is None else 2
        hits = store.search("zyzzyva", k=depth, depth=depth, filter=filter)
        assert expected <= {hit.id for hit in hits}, filter
        exact = {hit.id: hit.score for hit in store.search("zyzzyva", 500, filter=filter, exact=True)}
        assert all(hit.score == exact[hit.id] for hit in hits), "the score is MaxSim, whatever found the candidate"
    assert len(store.search(tiny.encode_queries(["zyzzyva"])[0], k=3)) == 3, "rows have no words, and need none"


def test_words_alone_find_candidates(client: QdrantClient, tiny: ColBERT) -> None:
    store = QdrantStore(client, "notes", tiny, sparse=Bm25())
    store.upsert([Document("a", "zyzzyva"), Document("b", "bread"), Document("c", "the zyzzyvas")])
    assert {hit.id for hit in store.search("zyzzyva")} == {"a", "c"}
    assert len(store.search("zyzzyva", exact=True)) == 3
    assert len(store.search(tiny.encode_queries(["zyzzyva"])[0])) == 3, "rows have no words: all are scored"


def test_recall_is_measured(client: QdrantClient, tiny: ColBERT) -> None:
    store = QdrantStore(client, "notes", tiny, prefetch=MeanVector(tiny.dim))
    store.upsert(Document(f"{i}", f"the {i}th text is about {'bread' if i % 3 else 'paris'}") for i in range(200))
    report = store.recall_probe([f"bread number {i}" for i in range(20)], k=5, depths=[5, 50, 200])
    recalls = [row.recall for row in report.rows]
    assert recalls == sorted(recalls)
    assert recalls[0] < recalls[-1] == 1.0
    assert (report.queries, report.documents, report.k, report.rows[0].size) == (20, 200, 5, tiny.dim)
    assert [row.depth for row in store.recall_probe(["bread"], k=5, depths=[5, 200, 300, 500]).rows] == [5, 200]
    with pytest.raises(ArgumentError, match="depth: got 3 with k=5"):
        store.recall_probe(["bread"], k=5, depths=[3])
    with pytest.raises(ArgumentError, match="queries: got none"):
        store.recall_probe([], k=5)


def test_recall_of_nothing_is_refused(client: QdrantClient, tiny: ColBERT) -> None:
    with pytest.raises(StoreError, match="has no prefetch to measure"):
        QdrantStore(client, "plain", tiny).recall_probe(["a"])
    with pytest.raises(StoreError, match="has no documents to find"):
        QdrantStore(client, "empty", tiny, prefetch=MeanVector(tiny.dim)).recall_probe(["a"])


def test_sizes_are_estimated(client: QdrantClient, tiny: ColBERT) -> None:
    store = QdrantStore(client, "notes", tiny, prefetch=MeanVector(tiny.dim))
    estimate = store.size_estimate(1_000_000, 150.5)
    assert estimate.rows == 1_000_000 * 150.5 * tiny.dim * 2
    assert estimate.prefetch == 1_000_000 * tiny.dim * 2
    assert str(estimate) == "rows 9.63 GB on disk, prefetch 0.06 GB in memory"
    held = QdrantStore(client, "held", tiny, on_disk=False).size_estimate(1_000_000, 150.5)
    assert str(held) == "rows 9.63 GB in memory"


def test_the_engines_own_filter(client: QdrantClient, tiny: ColBERT) -> None:
    store = QdrantStore(client, "notes", tiny)
    store.upsert([Document("a", "bread", {"n": 1}), Document("b", "bread", {"n": 2})])
    own = models.Filter(must=[models.FieldCondition(key="metadata.n", match=models.MatchValue(value=2))])
    assert [hit.id for hit in store.search("bread", filter=own)] == ["b"]
    assert store.count(own) == 1
    with pytest.raises(ArgumentError, match="filter: got str, wanted a mapping in our dialect"):
        store.search("bread", filter="n = 2")


@pytest.mark.parametrize("filter", [{}, {"a": {"$nin": []}}, {"$or": [{"a": 1}, {"$not": {"a": {"$in": []}}}]}])
def test_what_everything_passes_deletes_nothing(client: QdrantClient, tiny: ColBERT, filter: dict[str, object]) -> None:
    store = QdrantStore(client, "notes", tiny)
    store.upsert([Document("a", "bread", {"a": 1}), Document("b", "bread")])
    with pytest.raises(ArgumentError, match=r"which everything passes; use delete_all\(\)"):
        store.delete(filter=filter)
    assert store.count() == store.count(filter) == 2
    assert store.delete(filter={"a": {"$nin": [1]}}) == 1


def test_an_alias_keeps_the_ids(client: QdrantClient, tiny: ColBERT) -> None:
    QdrantStore(client, "notes", tiny).upsert([Document("a", "bread")])
    alias = models.CreateAlias(collection_name="notes", alias_name="current")
    client.update_collection_aliases([models.CreateAliasOperation(create_alias=alias)])
    store = QdrantStore(client, "current", tiny)
    store.upsert([Document("a", "bread again")])
    assert store.count() == 1


def test_much_in_local_mode_is_warned_of(client: QdrantClient, tiny: ColBERT) -> None:
    store = QdrantStore(client, "notes", tiny)
    points = [models.PointStruct(id=i, vector={}, payload={}) for i in range(20_001)]
    with pytest.warns(UserWarning, match="not recommended for collections with more than 20,000"):
        client.upsert("notes", points)
    with pytest.warns(UserWarning, match="20,001 points in qdrant-client's local mode"):
        QdrantStore(client, "notes", tiny)
    assert store.count() == 0


def test_a_folder_of_edge_is_refused(tiny: ColBERT, tmp_path: Path) -> None:
    (tmp_path / "edge_config.json").write_text("{}", encoding="ascii")
    client = QdrantClient(path=str(tmp_path))
    with pytest.raises(StoreError, match="is a folder of Qdrant Edge"):
        QdrantStore(client, "notes", tiny)
    client.close()


def test_the_wrong_half_is_refused(tiny: ColBERT) -> None:
    client = AsyncQdrantClient(":memory:")
    store = QdrantStore(client, "notes", tiny)
    with pytest.raises(StoreError, match=r"asynchronous \(AsyncQdrantClient\); await asearch"):
        store.search("bread")
    asyncio.run(client.close())


def test_a_closed_client_is_named(client: QdrantClient, tiny: ColBERT) -> None:
    store = QdrantStore(client, "notes", tiny)
    client.close()
    with pytest.raises(StoreError, match="closed"):
        store.search("bread")


def test_everything_after_close_is_an_error(client: QdrantClient, tiny: ColBERT) -> None:
    with QdrantStore(client, "notes", tiny) as store:
        store.upsert([Document("a", "a"), Document("b", "b")])
        iterator = store.iterate()
    calls = [
        lambda: store.upsert([Document("a", "a")]),
        lambda: store.search("a"),
        lambda: store.get(["a"]),
        lambda: store.delete(["a"]),
        lambda: store.delete_all(),
        lambda: store.count(),
        lambda: next(iterator),
        lambda: store.wait_until_indexed(),
        lambda: asyncio.run(store.asearch("a")),
    ]
    for call in calls:
        with pytest.raises(StoreError, match="the store is closed"):
            call()
    store.close()
    assert QdrantStore(client, "notes", tiny).count() == 2, "the client is its owner's"


def test_after_aclose_too(tiny: ColBERT) -> None:
    async def closed() -> None:
        client = AsyncQdrantClient(":memory:")
        async with QdrantStore(client, "notes", tiny) as store:
            assert await store.acount() == 0
        with pytest.raises(StoreError, match="the store is closed"):
            await store.acount()
        await client.close()

    asyncio.run(closed())


def test_the_model_is_known_and_the_store_stays_where_it_is(client: QdrantClient, tiny: ColBERT) -> None:
    store = QdrantStore(client, "notes", tiny)
    assert store.model is tiny
    for move in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(StoreError, match=r"cannot be pickled or copied: .*; make a store where it is used"):
            move(store)


def test_a_collection_that_went_away_ends_an_upsert(client: QdrantClient, tiny: ColBERT) -> None:
    store = QdrantStore(client, "notes", tiny)
    client.delete_collection("notes")
    with pytest.raises(StoreError, match="not found") as raised:
        store.upsert([Document("a", "bread"), Document("b", "paris")])
    assert not raised.value.report.failed


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"datatype": "uint8"}, "datatype: got 'uint8'"),
        ({"prefetch": MeanVector(31)}, "prefetch: got an encoder of rows of 31, wanted 32"),
        ({"prefetch": MeanVector}, "prefetch: got <class"),
        ({"sparse": "bm25"}, "sparse: got 'bm25', wanted Bm25"),
        ({"payload_indexes": {"a": "number"}}, r"payload_indexes\['a'\]: got 'number', wanted one of keyword"),
        ({"payload_indexes": {"a..b": "keyword"}}, "payload_indexes: got the field 'a..b'"),
        ({"payload_indexes": ["a"]}, "payload_indexes: got list"),
        ({"create_options": {"vectors_config": {}}}, "create_options: got 'vectors_config', which the store decides"),
        ({"create_options": {"shard_numbers": 2}}, "create_options: got 'shard_numbers', wanted some of shard_number,"),
        ({"retries": -1}, "retries: got -1"),
        ({"pool_factor": 0}, "pool_factor: got 0"),
    ],
)
def test_bad_options(client: QdrantClient, tiny: ColBERT, options: dict[str, object], says: str) -> None:
    with pytest.raises(ArgumentError, match=says):
        QdrantStore(client, "notes", tiny, **options)
    assert not client.collection_exists("notes")


def test_what_is_no_client_or_model(client: QdrantClient, tiny: ColBERT) -> None:
    with pytest.raises(ArgumentError, match="client: got str, wanted a QdrantClient"):
        QdrantStore("localhost", "notes", tiny)
    with pytest.raises(ArgumentError, match="collection: got ''"):
        QdrantStore(client, "", tiny)
    with pytest.raises(ArgumentError, match="model: got 'path'"):
        QdrantStore(client, "notes", "path")


def test_pooled_documents_are_smaller(client: QdrantClient, tiny: ColBERT) -> None:
    store = QdrantStore(client, "notes", tiny, pool_factor=2)
    text = "The bakery opens at six and sells bread until noon."
    store.upsert([Document("a", text)])
    rows = store.get(["a"], with_vectors=True)[0].vectors
    assert len(rows) == len(tiny.encode_documents([text], pool_factor=2)[0]) < len(tiny.encode_documents([text])[0])


def test_the_driver_of_the_contract(client: QdrantClient, tiny: ColBERT) -> None:
    loop = asyncio.new_event_loop()
    assert Driven(QdrantStore(client, "notes", tiny), loop).count() == 0
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
