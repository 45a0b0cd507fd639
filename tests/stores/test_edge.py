"""`QdrantEdgeStore`: the contract, and what it promises beyond."""

from __future__ import annotations

import asyncio
import copy
import pickle
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import qdrant_edge as edge
from contract import AWKWARD, FILTERS, TEXTS, StoreContract
from reference import best, ids, maxsim64, passes, random_documents, unit_rows

from chandelier import ArgumentError, ColBERT, Document, MeanVector, Muvera, ShapeError, StoreError
from chandelier.qdrant_edge import Bm25, QdrantEdgeStore
from chandelier.store.points.engine import Point, SparseVector
from chandelier.store.points.steps import Call


class TestEdge(StoreContract):
    @pytest.fixture
    def raw(self, tiny: ColBERT, tmp_path: Path) -> QdrantEdgeStore:
        return QdrantEdgeStore(tmp_path / "store", tiny, datatype="float32")


class TestHalfPrecision(StoreContract):
    datatype = query_datatype = "float16"
    tolerance = 5e-4

    @pytest.fixture
    def raw(self, tiny: ColBERT, tmp_path: Path) -> QdrantEdgeStore:
        return QdrantEdgeStore(tmp_path / "store", tiny)


class TestPrefetched(TestHalfPrecision):
    """With all that a store can have: two ways to candidates, which hold all documents, and an index."""

    @pytest.fixture
    def raw(self, tiny: ColBERT, tmp_path: Path) -> QdrantEdgeStore:
        indexes = {"a": "keyword", "even": "bool", "length": "integer"}
        options: dict[str, Any] = dict(prefetch=MeanVector(tiny.dim), sparse=Bm25(), payload_indexes=indexes)
        return QdrantEdgeStore(tmp_path / "store", tiny, **options)

    test_a_thousand_random_documents = None  # 200 candidates of them; see test_more_candidates_find_more


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


# Candidates


@pytest.mark.parametrize("prefetch", [MeanVector(32), Muvera(32, ksim=3, dprojections=8, repetitions=10)])
def test_more_candidates_find_more(tiny: ColBERT, path: Path, prefetch: Any) -> None:
    documents = random_documents(1000, 32)
    rng = np.random.default_rng(5)
    queries = [unit_rows(rng, 8, 32) for _ in range(20)]
    with QdrantEdgeStore(path, tiny, prefetch=prefetch, datatype="float32") as store:
        store.upsert(documents)
        expected = [[id for id, _ in best(query, documents, 10, "float32")] for query in queries]
        assert [ids(hits) for hits in store.search_many(queries, exact=True)] == expected
        assert [ids(hits) for hits in store.search_many(queries, depth=1000)] == expected
        measured = store.recall_probe(queries, 10, [10, 100, 1000])
        shares = [each.recall for each in measured.rows]
        assert shares == sorted(shares)
        assert shares[0] < 1.0 == shares[-1]
        for query, hits in zip(queries, store.search_many(queries, depth=10), strict=True):
            for hit in hits:  # MaxSim, however they were found
                rows = documents[int(hit.id[4:])].vectors
                assert hit.score == pytest.approx(maxsim64(query, rows, "float32"), abs=1e-4)


def quantized(layout: Any) -> edge.EdgeConfig:
    """The rows with a graph over them, and one bit of each value beside them, which searches prefer."""
    vectors = {
        "colbert": edge.EdgeVectorParams(
            size=layout.dim,
            distance=edge.Distance.Dot,
            multivector_config=edge.MultiVectorConfig(edge.MultiVectorComparator.MaxSim),
            quantization_config=edge.BinaryQuantizationConfig(memory=edge.Memory.Cached),
            hnsw_config=edge.HnswIndexConfig(m=0, ef_construct=100, full_scan_threshold=10_000),
        ),
        "prefetch": edge.EdgeVectorParams(size=32, distance=edge.Distance.Dot),
    }
    return edge.EdgeConfig(vectors=vectors)


def test_scores_are_maxsim_over_quantized_rows(tiny: ColBERT, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a collection was made with; a server reads the same parameters as this engine."""
    monkeypatch.setattr("chandelier.qdrant_edge.shard._config", quantized)
    documents = random_documents(1000, 32)
    queries = [unit_rows(np.random.default_rng(seed), 8, 32) for seed in range(5)]
    with QdrantEdgeStore(path, tiny, prefetch=MeanVector(32), datatype="float32") as store:
        store.upsert(documents)
        store.optimize()
        for options in ({"exact": True}, {"depth": 1000}):
            for query, hits in zip(queries, store.search_many(queries, 10, **options), strict=True):
                expected = best(query, documents, 10, "float32")
                assert ids(hits) == [id for id, _ in expected]
                assert [hit.score for hit in hits] == pytest.approx([score for _, score in expected], abs=1e-4)


def test_words_find_what_rows_do_not(tiny: ColBERT, path: Path) -> None:
    """A document whose rows are far from the query is a candidate for its words alone."""
    rng = np.random.default_rng(6)
    others = [Document(f"{i}", f"text {i}", vectors=unit_rows(rng, 4, 32)) for i in range(300)]
    query = "zyzzyva"
    away = -tiny.encode_queries([query])[0]
    document = Document("words", "Of the zyzzyva.", vectors=away)
    with QdrantEdgeStore(path, tiny, prefetch=MeanVector(32), sparse=Bm25()) as store:
        store.upsert([*others, document])
        assert "words" in ids(store.search(query, 10, depth=10))
        assert "words" not in ids(store.search(tiny.encode_queries([query])[0], 10, depth=10))


def test_filters_reach_the_candidates(tiny: ColBERT, path: Path) -> None:
    documents = random_documents(1000, 32)
    query = unit_rows(np.random.default_rng(7), 4, 32)
    last = [id for id, _ in best(query, documents, 1000, "float16")][-5:]
    chosen = {"i": {"$in": [int(id[4:]) for id in last]}}
    with QdrantEdgeStore(path, tiny, prefetch=MeanVector(32)) as store:
        store.upsert(documents)
        assert set(ids(store.search(query, 5, depth=5, filter=chosen))) == set(last)


class GivenVectors(MeanVector):
    """A prefetch encoder of the user's that does not give what it says."""

    def __init__(self, dim: int, gives: Any) -> None:
        super().__init__(dim)
        object.__setattr__(self, "gives", gives)

    def encode_documents(self, documents: Any) -> Any:
        return self.gives


class GivenWords(Bm25):
    """The same of words."""

    gives: Any = ()

    def encode_document(self, text: str) -> SparseVector:
        return SparseVector(*self.gives)


@pytest.mark.parametrize(
    "gives",
    [
        np.ones((1, 31)),
        np.ones((2, 32)),
        np.ones(32),
        np.full((1, 32), np.nan),
        np.full((1, 32), np.inf),
        "words",
        None,
    ],
)
def test_a_prefetch_encoder_that_errs(tiny: ColBERT, path: Path, gives: Any) -> None:
    with QdrantEdgeStore(path, tiny, prefetch=GivenVectors(32, gives)) as store:
        with pytest.raises((ArgumentError, ShapeError), match="prefetch: "):
            store.upsert([Document("a", "bread")])
        assert store.count() == 0


@pytest.mark.parametrize(
    ("indices", "values"), [([1, 2], [1.0]), ([1], [np.nan]), ([1], [np.inf]), ([[1]], [[1.0]]), ([], [1.0])]
)
def test_a_sparse_encoder_that_errs(
    tiny: ColBERT, path: Path, indices: Any, values: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many words as weights: otherwise the engine panics, then and whenever it reads what it had begun to write."""
    monkeypatch.setattr(GivenWords, "gives", (np.array(indices, np.uint32), np.array(values, np.float32)))
    with QdrantEdgeStore(path, tiny, sparse=GivenWords()) as store:
        with pytest.raises(ArgumentError, match="sparse: got indices"):
            store.upsert([Document("a", "bread")])
        assert store.count() == 0


# Filters


@pytest.mark.parametrize("kind", ["keyword", "float", "bool", "text", "uuid", "geo"])
@pytest.mark.parametrize("declared", ["at once", "later"])
def test_filters_under_an_index(tiny: ColBERT, path: Path, kind: str, declared: str) -> None:
    """An index changes nothing but the time, also for values that are not of its kind."""
    rows = np.eye(32, dtype=np.float32)[:1]
    documents = [Document(id, id, metadata, rows) for id, metadata in AWKWARD.items()]
    if declared == "later":
        with QdrantEdgeStore(path, tiny) as store:
            store.upsert(documents)
    with QdrantEdgeStore(path, tiny, payload_indexes={"a": kind, '"c.d"': kind, "a.b": kind}) as store:
        store.upsert(documents)
        for filter in FILTERS:
            expected = {id for id, metadata in AWKWARD.items() if passes(metadata, filter)}
            assert set(ids(store.iterate(filter=filter))) == expected, filter
            assert store.count(filter) == len(expected), filter


def test_indexes_stay(tiny: ColBERT, path: Path) -> None:
    QdrantEdgeStore(path, tiny, payload_indexes={"year": "integer"}).close()
    with pytest.raises(StoreError, match=r"payload index of 'metadata\.year': got 'integer', wanted 'keyword'"):
        QdrantEdgeStore(path, tiny, payload_indexes={"year": "keyword"})
    with QdrantEdgeStore(path, tiny, payload_indexes={"lang": "keyword"}) as store:
        store.upsert([Document("a", "a", {"year": 2020, "lang": "en"})])
        assert store.count({"year": 2020, "lang": "en"}) == 1


@pytest.mark.parametrize("indexes", [{"year": "int"}, {"year": None}, {"a..b": "keyword"}, {1: "keyword"}, ["year"]])
def test_bad_indexes(tiny: ColBERT, path: Path, indexes: Any) -> None:
    with pytest.raises(ArgumentError, match="payload_indexes"):
        QdrantEdgeStore(path, tiny, payload_indexes=indexes)


def test_the_engines_own_filters(tiny: ColBERT, path: Path) -> None:
    with QdrantEdgeStore(path, tiny) as store:
        store.upsert([Document(id, text, {"length": len(text)}) for id, text in TEXTS.items()])
        short = edge.Filter(must=[edge.FieldCondition(key="metadata.length", range=edge.RangeFloat(lt=50))])
        assert store.count(short) == 1
        assert ids(store.search("bread", filter=short)) == ids(store.iterate(filter=short)) == ["paris"]
        assert store.delete(filter=short) == 1
        with pytest.raises(ArgumentError, match=r"filter: got FieldCondition, wanted a mapping .* qdrant_edge\.Filter"):
            store.search("bread", filter=short.must[0])


# What comes from elsewhere


def test_points_of_others_are_left_alone(tiny: ColBERT, path: Path) -> None:
    """Such as have neither our vectors nor our payload."""
    with QdrantEdgeStore(path, tiny) as store:
        store.upsert([Document("a", "bread")])
        shard = store._engine._live()
        shard.update(edge.UpdateOperation.upsert_points([edge.Point(7, {}, {"a": 1}), edge.Point(8, {}, None)]))
        assert ids(store.search("bread")) == ids(store.iterate()) == ["a"]
        assert (store.count(), store.delete_all()) == (1, 1)
        assert shard.count(edge.CountRequest()) == 2


@pytest.mark.parametrize("size", [1_048_575 // 32 + 1, 40_000])
def test_a_document_beyond_the_servers_limit_is_refused(tiny: ColBERT, path: Path, size: int) -> None:
    """The engine would take it; then the folder could not become a collection of a server."""
    rows = np.tile(np.eye(32, dtype=np.float32)[:1], (size, 1))
    with QdrantEdgeStore(path, tiny) as store:
        report = store.upsert(
            [Document("large", "", vectors=rows), Document("fits", "", vectors=rows[: 1_048_575 // 32])]
        )
        assert report.stored == ["fits"]
        assert f"got {size:,} rows of 32, wanted at most 32,767" in report.failed["large"]


# Panics


def test_a_panic_is_an_error(tiny: ColBERT, path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A row without values makes the engine panic; the store's own checks keep such rows from it."""
    with QdrantEdgeStore(path, tiny) as store:
        store.upsert([Document("a", "bread")])
        bad = Point("00000000-0000-0000-0000-000000000001", np.zeros((1, 0), np.float32), None, None, {})
        with pytest.raises(StoreError, match=r"the engine stopped in the middle: .*; close it and open it again"):
            store._run(store._engine.upsert([bad]))
        assert "panicked" in capfd.readouterr().err
        assert ids(store.search("bread")) == ["a"]
    with QdrantEdgeStore(path, tiny) as store:
        assert ids(store.search("bread")) == ["a"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_interrupts_are_not_errors_of_the_store(tiny: ColBERT, path: Path, error: type[BaseException]) -> None:
    def interrupted() -> None:
        raise error

    with QdrantEdgeStore(path, tiny) as store, pytest.raises(error):
        store._ask(Call(interrupted))


# Indexes, room, threads


def test_optimize_keeps_everything(tiny: ColBERT, path: Path) -> None:
    """More than 10 MB of prefetch vectors: the engine builds a graph over them, and none over the rows."""
    prefetch = Muvera(32, ksim=5, dprojections=16, repetitions=20)
    documents = random_documents(1200, 32)
    query = unit_rows(np.random.default_rng(8), 8, 32)
    with QdrantEdgeStore(path, tiny, prefetch=prefetch) as store:
        store.upsert(documents)
        store.delete(filter={"i": {"$gte": 600}})
        store.upsert(documents)
        exact = store.search(query, exact=True)
        assert store.optimize()
        assert not store.optimize()
        store.wait_until_indexed()
        assert store._engine._live().info().indexed_vectors_count > 0
        assert store.search(query, exact=True) == exact
        assert len(set(ids(store.search(query, depth=1000))) & set(ids(exact))) >= 9
        assert store.count() == 1200


def test_the_log_does_not_grow_with_the_upsert(tiny: ColBERT, path: Path) -> None:
    rows = np.tile(np.eye(32, dtype=np.float32), (64, 1))
    with QdrantEdgeStore(path, tiny) as store:
        store.upsert(Document(f"{i}", "", vectors=rows) for i in range(600))  # 196 MB in the engine's log
        log = sum(file.stat().st_blocks * 512 for file in (path / "shard" / "wal").iterdir())
    assert log < 150e6


def test_optimize_gives_back_the_room_of_what_was_deleted(tiny: ColBERT, path: Path) -> None:
    def used() -> int:
        return sum(file.stat().st_blocks * 512 for file in (path / "shard" / "segments").rglob("*") if file.is_file())

    rows = np.tile(np.eye(32, dtype=np.float32), (4, 1))
    with QdrantEdgeStore(path, tiny) as store:
        store.upsert(Document(f"{i}", "", vectors=rows) for i in range(1200))
        before = used()
        store.delete(f"{i}" for i in range(1000))
        assert store.optimize()
        assert used() < 0.5 * before
        assert store.count() == 200


def test_threads(tiny: ColBERT, path: Path) -> None:
    documents = random_documents(400, 32)
    failures: list[BaseException] = []

    def guarded(work: Any) -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    with QdrantEdgeStore(path, tiny) as store:

        def write(part: int) -> None:
            for start in range(part * 100, part * 100 + 100, 10):
                store.upsert(documents[start : start + 10])

        def read() -> None:
            for _ in range(20):
                hits = store.search(documents[0].vectors, 400)
                assert len(set(ids(hits))) == len(hits)

        works = [*((lambda part=part: write(part)) for part in range(4)), read, read]
        threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        assert store.count() == 400


def test_the_asynchronous_half(tiny: ColBERT, path: Path) -> None:
    async def used() -> None:
        async with QdrantEdgeStore(path, tiny) as store:
            assert (await store.aupsert([Document("a", "bread"), Document("b", "paris")])).stored == ["a", "b"]
            hits = await store.asearch_many(["bread", "paris"], k=1)
            assert [ids(each) for each in hits] == [["a"], ["b"]]
            assert ids(await store.aget(["b", "c", "a"])) == ["b", "a"]
            assert [document.id async for document in store.aiterate()] == ids(store.iterate())
            assert await store.adelete(["a"]) == await store.acount() == await store.adelete_all() == 1
            await store.await_until_indexed()
        with pytest.raises(StoreError, match="the store is closed"):
            await store.acount()

    asyncio.run(used())


def test_everything_after_close_is_an_error(tiny: ColBERT, path: Path) -> None:
    store = QdrantEdgeStore(path, tiny)
    iterator = store.iterate()
    store.close()
    calls = [
        lambda: store.upsert([Document("a", "a")]),
        lambda: store.search("a"),
        lambda: store.get(["a"]),
        lambda: store.delete(["a"]),
        lambda: store.delete_all(),
        lambda: store.count(),
        lambda: next(iterator),
        lambda: store.optimize(),
        lambda: store.flush(),
        lambda: store.wait_until_indexed(),
    ]
    for call in calls:
        with pytest.raises(StoreError, match="the store is closed"):
            call()
    store.close()


def test_the_model_is_known_and_the_store_stays_where_it_is(tiny: ColBERT, path: Path) -> None:
    with QdrantEdgeStore(path, tiny) as store:
        assert store.model is tiny
        for move in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(StoreError, match="cannot be pickled or copied"):
                move(store)


def test_a_nest_that_the_engine_cannot_read_again_is_refused(tiny: ColBERT, path: Path, tmp_path: Path) -> None:
    """It would write it to its log, and then no longer open."""
    nests: list[dict[str, Any]] = [{}]
    for _ in range(200):
        nests.append({"a": nests[-1]})
    with QdrantEdgeStore(path, tiny) as store:
        report = store.upsert(Document(f"{depth}", "", {"nest": nest}) for depth, nest in enumerate(nests))
        assert set(report.stored) >= {f"{depth}" for depth in range(60)}
        assert "200" in report.failed
        shutil.copytree(path, tmp_path / "killed")  # the files as a kill leaves them
    with QdrantEdgeStore(tmp_path / "killed", tiny) as store:
        assert {each.id: each.metadata["nest"] for each in store.iterate()} == {
            id: nests[int(id)] for id in report.stored
        }
