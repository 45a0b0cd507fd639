"""Documents in a real Weaviate: what it would take and spoil, what is too large, what others put beside ours."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from reference import ids, random_documents, unit_rows
from weaviate.classes.data import DataObject

from chandelier import ArgumentError, ColBERT, Document, ShapeError
from chandelier.exceptions import StoreError
from chandelier.weaviate import WeaviateStore

if TYPE_CHECKING:
    from weaviate_server import WeaviateServer

DIM = 32
EYE = np.eye(DIM, dtype=np.float32)
NO_ROWS = np.zeros((0, DIM), np.float32)
Open = Callable[..., WeaviateStore]


@pytest.fixture(params=[None, True], ids=["plain", "muvera"])
def store(open_weaviate: Open, request: pytest.FixtureRequest) -> WeaviateStore:
    return open_weaviate(muvera=request.param)


# What Weaviate would take, and spoil


def test_bad_rows_do_not_reach_the_server(store: WeaviateStore, weaviate_collection: Any) -> None:
    """It cuts ragged rows off, stores infinity, and an object without rows is one that nobody finds."""
    bad = {
        "ragged": [[1.0] * DIM, [1.0] * 16],
        "nan": np.where(EYE[:3] > 0, np.nan, EYE[:3]),
        "infinite": np.where(EYE[:3] > 0, np.inf, EYE[:3]),
        "narrow": np.eye(16),
        "wide": np.eye(64),
        "flat": EYE[0],
        "deep": EYE[None],
        "empty": [],
        "one empty row": [[]],
    }
    given = [Document(id, "", {}, rows) for id, rows in bad.items()]
    report = store.upsert([*given, Document("good", "", {}, EYE[:3])])
    assert report.stored == ["good"]
    assert list(report.failed) == list(bad)
    assert len(weaviate_collection) == 1


def test_one_row(store: WeaviateStore, weaviate_collection: Any) -> None:
    """The client makes one vector of a matrix of shape (1, dim), of a document and of a query."""
    report = store.upsert([Document(f"{i}", "", {}, EYE[i : i + 1]) for i in range(5)])
    assert report.stored == [f"{i}" for i in range(5)]
    assert store.upsert([Document("0", "again", {}, EYE[:1])]).stored == ["0"]
    for query in (EYE[3:4], EYE[3:4].tolist(), EYE[3:4].astype(np.float64)):
        for exact in (False, True):
            first, *rest = store.search(query, exact=exact, with_vectors=True)
            assert (first.id, first.score, first.vectors.tolist()) == ("3", 1.0, EYE[3:4].tolist())
            assert len(rest) == 4
    for each in weaviate_collection.iterator(include_vector=True):
        assert np.shape(each.vector["colbert"]) == (1, DIM)


@pytest.mark.parametrize(
    ("query", "says"),
    [
        (np.ones((2, 64)), "got rows of 64, wanted 32"),
        (np.ones((2, 16)), "got rows of 16, wanted 32"),
        (np.full((2, DIM), np.inf), "got inf at row 0"),
        (np.full((2, DIM), np.nan), "got NaN at row 0"),
        (NO_ROWS, "got no rows"),
        (EYE[0], "got a 1-D array"),
        ([[1.0] * DIM, [1.0]], "rows of different lengths"),
        ([], "got a 1-D array"),
        ([[]], "wanted"),
    ],
)
def test_bad_queries_are_refused(store: WeaviateStore, query: Any, says: str) -> None:
    """MUVERA finds nothing for a query that is too wide, and the server panics for one that is too narrow."""
    store.upsert(random_documents(3, DIM))
    for search in (
        store.search,
        lambda query: store.search(query, exact=True),
        lambda query: store.search_many([query]),
    ):
        with pytest.raises((ShapeError, ArgumentError), match=says):
            search(query)


def test_rows_of_another_dim_that_somebody_stored_first(store: WeaviateStore, weaviate_collection: Any) -> None:
    """The first object fixes the dim of the index."""
    rows = {"colbert": [[1.0] * 64, [0.5] * 64]}
    assert not weaviate_collection.data.insert_many([DataObject(properties={}, vector=rows)]).has_errors
    report = store.upsert(random_documents(3, DIM))
    assert list(report.failed) == ["doc-0", "doc-1", "doc-2"]
    assert "length 32" in report.failed["doc-0"]
    assert len(weaviate_collection) == 1, "what is refused is not half stored"
    with pytest.raises(StoreError):
        store.search("text")


def test_any_id_and_text_and_metadata(store: WeaviateStore) -> None:
    huge = {
        "word": Document("word", "w" * 100_000, {"word": "w" * 100_000}),
        "text": Document("text", "word " * 200_000),
        "i" * 100_000: Document("i" * 100_000, "text"),
        "field": Document("field", "text", {"f" * 100_000: 1, "a": {"b" * 300: {"c" * 300: ["x" * 300]}}}),
        "fields": Document("fields", "text", {f"field {i}": i for i in range(3_000)}),
        " ": Document(" ", " \t\n", {" ": " ", "padded": " x "}),
        "\0": Document("\0", "a\0b", {"\0": "\0", "null": "\0"}),
    }
    report = store.upsert(huge.values())
    assert (report.stored, report.failed) == (list(huge), {})
    assert store.get(list(huge)) == list(huge.values())
    for filter, id in (
        ({"word": "w" * 100_000}, "word"),
        ({"f" * 100_000: {"$gt": 0}}, "field"),
        ({".".join(("a", "b" * 300, "c" * 300)): "x" * 300}, "field"),
        ({'"field 2999"': {"$lte": 2999}}, "fields"),
        ({" ": " "}, " "),
        ({"padded": " x "}, " "),
        ({"null": "\0"}, "\0"),
    ):
        assert ids(store.iterate(filter=filter)) == [id]
    assert store.count({"padded": "x"}) == store.count({"word": "w" * 99_999}) == 0
    assert store.delete(list(huge)) == len(huge)


def test_numbers_keep_all_their_bits(store: WeaviateStore) -> None:
    metadata = {
        "most": 2**63 - 1,
        "least": -(2**63),
        "large": 1e308,
        "small": 5e-324,
        "odd": 2**53 + 1,
        "list": [1, 2.5],
    }
    store.upsert([Document("a", "", metadata), Document("b", "", dict.fromkeys(metadata, 0))])
    assert store.get(["a"])[0].metadata == metadata
    for filter in (
        *({name: metadata[name]} for name in ("most", "least", "small", "odd")),
        {"large": {"$gt": 2**52}},
        {"most": {"$gt": 2**52}},
        {"least": {"$lt": -(2**52)}},
        {"small": {"$gt": 0}},
        {"list": 2.5, "odd": {"$in": [2**53 + 1]}},
    ):
        assert ids(store.iterate(filter=filter)) == ["a"]


# Sizes


@pytest.fixture(scope="module")
def narrow(start_weaviate: type[WeaviateServer]) -> Iterator[WeaviateServer]:
    """A server that takes and gives messages of 500,000 bytes, as others do of 100 million."""
    with start_weaviate(GRPC_MAX_MESSAGE_SIZE="500000") as server:
        yield server


@pytest.fixture
def cramped(narrow: WeaviateServer, tiny: ColBERT) -> Iterator[WeaviateStore]:
    with narrow.connect() as client:
        yield WeaviateStore(client, f"Notes{uuid.uuid4().hex}", tiny, muvera=True)


def test_a_document_that_is_too_large_keeps_the_stored_one(cramped: WeaviateStore) -> None:
    rng = np.random.default_rng(0)
    given = random_documents(4, DIM)
    cramped.upsert(given)
    too_large = {
        "doc-0": Document("doc-0", "", {}, unit_rows(rng, 2_000, DIM)),
        "doc-1": Document("doc-1", "t" * 500_001),
        "doc-2": Document("doc-2", "", {"list": [f"{i:020}" for i in range(10_000)]}),
        "doc-3": Document("doc-3", "t" * 300_000, {}, unit_rows(rng, 1_900, DIM)),
        "new": Document("new", "\u00fc" * 250_000),
    }
    just = [
        Document("rows", "", {}, unit_rows(rng, 1_953, DIM)),
        Document("text", "t" * 499_000, {}, EYE[:1]),
        Document("metadata", "", {"list": [f"{i:020}" for i in range(7_500)]}, EYE[:1]),
        Document("both", "t" * 300_000, {}, unit_rows(rng, 1_500, DIM)),
    ]
    report = cramped.upsert([*too_large.values(), *just])
    assert report.stored == ids(just)
    assert list(report.failed) == list(too_large)
    assert "got 2,000 rows of 32, wanted at most 1,953" in report.failed["doc-0"]
    for id in ("doc-1", "doc-2", "doc-3", "new"):
        assert "bytes, wanted at most 500,000, as the server takes" in report.failed[id]
    assert cramped.get(ids(given)) == given
    assert cramped.get(ids(just)) == just
    assert cramped.verify().unindexed == []


def test_answers_that_are_too_large_come_in_parts(cramped: WeaviateStore) -> None:
    rng = np.random.default_rng(0)
    given = [Document(f"{i}", "t" * 20_000, {"i": i}, unit_rows(rng, 400, DIM)) for i in range(60)]
    assert cramped.upsert(given).stored == ids(given)
    rows = {each.id: np.asarray(each.vectors) for each in given}
    assert cramped.get(ids(given)) == given
    for found in (
        cramped.get(ids(given), with_vectors=True),
        sorted(cramped.iterate(with_vectors=True), key=lambda each: int(each.id)),
        sorted(cramped.search(EYE[:2], 60, with_vectors=True), key=lambda each: int(each.id)),
        sorted(cramped.search(EYE[:2], 60, with_vectors=True, exact=True), key=lambda each: int(each.id)),
    ):
        assert ids(found) == ids(given)
        assert all(np.array_equal(each.vectors, rows[each.id]) for each in found)
    with pytest.raises(StoreError, match=r"larger than max \(\d+ vs\. 500000\)"):
        cramped.search(unit_rows(rng, 4_000, DIM))


def test_more_documents_than_a_server_returns(open_weaviate: Open, weaviate_collection: Any) -> None:
    store = open_weaviate()
    rows = unit_rows(np.random.default_rng(0), 10_000, DIM)
    found = [Document(f"{i}", "", {"i": i}, rows[i : i + 1]) for i in range(10_000)]
    hidden = [Document(f"{i}", "", {"i": i}, NO_ROWS) for i in range(10_000, 12_000)]
    report = store.upsert([*found, *hidden])
    assert (len(report.stored), report.failed) == (12_000, {})
    assert store.count() == len(weaviate_collection) == 12_000
    assert sorted(int(each.id) for each in store.iterate()) == list(range(12_000))
    assert sum(1 for _ in store.iterate(filter={"i": {"$gte": 500}})) == store.count({"i": {"$gte": 500}}) == 11_500
    hits = store.search(rows[:1], 10_000)
    assert (len({hit.id for hit in hits}), hits[0].id) == (10_000, "0")
    assert [hit.score for hit in hits] == pytest.approx(np.sort(rows @ rows[0])[::-1], abs=1e-5)
    for k in (10_001, 15_000):
        for search in (store.search, store.hybrid_search):
            with pytest.raises(ArgumentError, match=rf"k: got {k:,}, wanted at most 10,000") as caught:
                search("text", k)
            assert caught.value.argument == "k"
    with pytest.raises(ArgumentError, match="depth: got 10,001, wanted at most 10,000"):
        store.search("text", depth=10_001)
    assert store.delete(filter={"i": {"$gte": 500}}) == 11_500
    assert sorted(int(each.id) for each in store.iterate()) == list(range(500))
    assert store.delete_all() == 500


# A server that refuses


@pytest.mark.parametrize("tenant", [None, "a"])
def test_a_shard_that_is_read_only(open_weaviate: Open, weaviate_collection: Any, tenant: str | None) -> None:
    """It says so once for a whole batch, and of a deletion only that there was an error."""
    store = open_weaviate(muvera=True, tenant=tenant)
    before = random_documents(3, DIM)
    store.upsert(before)
    weaviate_collection.config.update_shards("READONLY")
    report = store.upsert([*random_documents(40, DIM, seed=1), Document("bad", "", {"a": object()})])
    assert report.stored == []
    assert set(report.failed) == {*(f"doc-{i}" for i in range(40)), "bad"}
    assert all("read-only due to: manually set" in reason for id, reason in report.failed.items() if id != "bad")
    for delete in (store.delete_all, lambda: store.delete(["doc-0"]), lambda: store.delete(filter={"i": {"$gt": 0}})):
        with pytest.raises(StoreError, match="read-only due to: manually set"):
            delete()
    assert store.delete(["nobody"]) == store.delete(filter={"i": 99}) == 0
    assert store.get(ids(before)) == before
    assert store.count() == len(store.search("text")) == 3
    weaviate_collection.config.update_shards("READY")
    assert len(store.upsert(random_documents(40, DIM, seed=1)).stored) == store.count() == 40
    assert store.verify().unindexed == []
    assert store.delete_all() == 40


# Objects of others


def test_objects_of_others_are_left_alone(store: WeaviateStore, weaviate_collection: Any) -> None:
    theirs = [
        DataObject(
            properties={"text": "theirs", "color": "red"}, uuid=uuid.uuid4(), vector={"colbert": [EYE[0].tolist()]}
        ),
        DataObject(properties={}, uuid=uuid.uuid4()),
    ]
    weaviate_collection.data.insert_many(theirs)
    given = random_documents(3, DIM)
    store.upsert(given)
    assert store.count() == store.count({"color": {"$exists": False}}) == 3
    assert sorted(ids(store.iterate())) == ids(given)
    assert store.verify().checked == 3
    for hits in (store.search(EYE[:1]), store.search(EYE[:1], exact=True), store.hybrid_search("theirs")):
        (hit,) = [hit for hit in hits if hit.text == "theirs"]
        assert (hit.id, hit.metadata) == (str(theirs[0].uuid), {})
    assert store.search(EYE[:1], 1)[0].score == 1.0
    assert sorted(ids(store.search(EYE[:1], filter={"i": {"$gte": 0}}))) == ids(given)
    assert store.delete(filter={"i": {"$ne": 1}}) == 2
    assert store.delete_all() == 1
    assert {each.uuid for each in weaviate_collection.iterator()} == {each.uuid for each in theirs}
