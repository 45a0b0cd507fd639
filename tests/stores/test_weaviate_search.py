"""Search in a real Weaviate: candidates, exactness, words and vectors, and whether everything stored is found."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from reference import best, ids, random_documents, unit_rows
from weaviate.classes.data import DataObject

from chandelier import ArgumentError, ColBERT, Document
from chandelier.exceptions import StoreError
from chandelier.weaviate import WeaviateStore

if TYPE_CHECKING:
    from weaviate_server import WeaviateServer

DIM = 32
EYE = np.eye(DIM, dtype=np.float32)
NO_ROWS = np.zeros((0, DIM), np.float32)
LOSSY = {"ksim": 1, "dprojections": 1, "repetitions": 1}
Open = Callable[..., WeaviateStore]


def queries(count: int, tokens: int = 4) -> list[Any]:
    return [unit_rows(np.random.default_rng(seed), tokens, DIM) for seed in range(100, 100 + count)]


# Candidates


def test_exact_search_does_not_care_for_candidates(open_weaviate: Open) -> None:
    """An encoding of two values at a depth of 10 finds next to nothing of what there is to find."""
    given, (query,) = random_documents(400, DIM), queries(1)
    store = open_weaviate(muvera=LOSSY, depth=10)
    store.upsert([*given, Document("none", "", {"i": 0, "even": True}, NO_ROWS)])
    for filter, passing in (({}, given), ({"even": True}, given[::2]), ({"i": {"$lt": 5}}, given[:5])):
        for k in (1, 10, 300, 10_000):
            expected = best(query, passing, 10_000, "float32")
            hits = store.search(query, k, exact=True, filter=filter)
            assert [hit.score for hit in hits] == pytest.approx([score for _, score in expected[:k]], abs=4e-5)
            assert [hit.score for hit in hits] == pytest.approx([dict(expected)[hit.id] for hit in hits], abs=4e-5)
            assert len(set(ids(hits))) == len(hits)
    found = set(ids(store.search(query, 10)))
    assert len(found & {id for id, _ in best(query, given, 10, "float32")}) < 10
    assert len(store.search(query, 50)) == 50, "more hits than the depth of the store"
    with pytest.raises(ArgumentError, match="depth: got 10 with k=50, wanted at least k candidates"):
        store.search(query, 50, depth=10)


@pytest.mark.parametrize("muvera", [None, True])
@pytest.mark.parametrize("filter", [None, {"i": {"$lt": 100}}])
def test_depth_finds_more(open_weaviate: Open, muvera: Any, filter: Any) -> None:
    """Filtered too: below its cutoff for flat searches MUVERA scores twice the limit only, however large `ef` is."""
    given = random_documents(300, DIM)
    store = open_weaviate(muvera=muvera, depth=2)
    store.upsert(given)
    asked = queries(20)
    passing = given if filter is None else given[:100]
    wanted = [{id for id, _ in best(query, passing, 2, "float32")} for query in asked]

    def found(depth: int) -> int:
        return sum(
            len(want & set(ids(store.search(query, 2, depth=depth, filter=filter))))
            for query, want in zip(asked, wanted, strict=True)
        )

    assert found(len(passing)) >= 39
    assert found(2) <= found(len(passing))


def test_searches_of_many_queries(open_weaviate: Open) -> None:
    store = open_weaviate()
    store.upsert([Document(f"{i}", "", {}, EYE[i : i + 1]) for i in range(DIM)])
    answers = store.search_many([EYE[i % DIM : i % DIM + 1] for i in range(300)], 1)
    assert [hits[0].id for hits in answers] == [f"{i % DIM}" for i in range(300)]
    assert store.search_many([]) == []
    assert [hits[0].id for hits in store.search_many([EYE[3:4], EYE[5:6]], 1, exact=True)] == ["3", "5"]


def test_the_recall_probe(open_weaviate: Open) -> None:
    store = open_weaviate(muvera=LOSSY, depth=10)
    with pytest.raises(StoreError, match="has no documents to find"):
        store.recall_probe(queries(3))
    store.upsert(random_documents(300, DIM))
    report = store.recall_probe(queries(20), 10, (10, 100, 300))
    shares = [row.recall for row in report.rows]
    assert shares == sorted(shares)
    assert shares[0] < 0.5
    assert shares[-1] > 0.9
    with pytest.raises(ArgumentError, match="depth: got 5 with k=10"):
        store.recall_probe(queries(3), 10, (5,))


def test_a_deep_filter(open_weaviate: Open) -> None:
    store = open_weaviate()
    store.upsert([Document("a", "", {"i": 1}, EYE[:1])])
    filter: dict[str, Any] = {"i": 1}
    for _ in range(31):
        filter = {"$not": {"$not": filter}}
    assert ids(store.search(EYE[:1], filter=filter)) == ["a"]
    filter = {"i": 2}
    for level in range(30):
        filter = {"$or": [{"$and": [filter, {"i": 1}]}, {"i": level + 10}]}
    assert store.count(filter) == 0
    assert store.count({"$or": [{"i": i} for i in range(3_000)]}) == 1
    assert store.count({"i": {"$in": list(range(1, 20_000))}}) == 1


def test_counts_of_numpy(open_weaviate: Open) -> None:
    store = open_weaviate(muvera=LOSSY, depth=np.int64(50))
    store.upsert(random_documents(60, DIM))
    (query,) = queries(1)
    assert len(store.search(query, np.int64(10))) == 10
    assert len(store.search(query, np.int32(20), depth=np.int64(30))) == 20
    assert len(store.hybrid_search("text", np.int64(10), depth=np.uint8(30))) == 10
    assert store.recall_probe([query], np.int64(3), (np.int64(60),)).rows[0].depth == 60
    assert json.loads(json.dumps(store.description))["depth"] == 50


@pytest.mark.parametrize("wrong", [None, 5, b"bread", {"text": "bread"}, object()])
def test_what_is_no_query(open_weaviate: Open, wrong: Any) -> None:
    store = open_weaviate()
    with pytest.raises(ArgumentError, match=r"^query: got \w+, wanted a text, or its rows as a 2-D array of floats"):
        store.search(wrong)
    with pytest.raises(ArgumentError, match=r"^queries\[1\]: got \w+, wanted a text, or its rows"):
        store.search_many(["bread", wrong])


def test_rows_of_another_width_are_no_hits(open_weaviate: Open, weaviate_collection: Any) -> None:
    """What others store here, before the first document decides how wide the index is."""
    store = open_weaviate()
    theirs = DataObject(properties={"text": "bread"}, vector={"colbert": np.eye(2, DIM // 2).tolist()})
    assert not weaviate_collection.data.insert_many([theirs]).has_errors
    assert store.search("bread", exact=True) == []
    assert [(hit.text, hit.score) for hit in store.hybrid_search("bread", alpha=0)] == [("bread", 0.0)]


# Words and vectors


@pytest.fixture
def mixed(open_weaviate: Open) -> WeaviateStore:
    """Words and rows disagree: the rows of "rows" are those of the query."""
    store = open_weaviate(muvera=True)
    rows = np.asarray(store.model.encode_queries(["bread"])[0])
    report = store.upsert(
        [
            Document("rows", "ships at night", {"n": 1}, rows),
            Document("words", "bread bread bread", {"n": 2}, EYE[:1]),
            Document("none", "bread without rows", {"n": 3}, NO_ROWS),
            Document("some", "a long text with the one word bread in it", {"n": 4}, EYE[1:3]),
            Document("other", "nothing of that", {"n": 5}, EYE[3:5]),
        ]
    )
    assert report.without_rows == ["none"]
    return store


@pytest.mark.parametrize(("fusion", "first"), [("relative", {"rows", "words"}), ("ranked", {"words", "some"})])
def test_alpha_goes_from_words_to_vectors(mixed: WeaviateStore, fusion: str, first: set[str]) -> None:
    """What is first of one list wins by scores; by places, what is in both."""
    plain = mixed.search("bread", 10)
    scores = {hit.id: hit.score for hit in plain} | {"none": 0.0}
    words = mixed.hybrid_search("bread", 10, alpha=0, fusion=fusion)
    assert words[0].id == "words"
    assert sorted(ids(words)) == ["none", "some", "words"]
    assert ids(mixed.hybrid_search("bread", 10, alpha=1, fusion=fusion)) == ids(plain)
    both = mixed.hybrid_search("bread", 10, alpha=0.5, fusion=fusion)
    assert sorted(ids(both)) == sorted(scores)
    assert {both[0].id, both[1].id} == first
    for hits in (words, both):
        assert [hit.score for hit in hits] == pytest.approx([scores[hit.id] for hit in hits], abs=4e-5)
    assert ids(mixed.hybrid_search("bread", 2, alpha=0.5, fusion=fusion)) == ids(both)[:2]


def test_hybrid_search_takes_what_search_takes(mixed: WeaviateStore) -> None:
    hits = mixed.hybrid_search("bread", 10, filter={"n": {"$gte": 3}}, explain=True, with_vectors=True)
    assert sorted(ids(hits)) == ["none", "other", "some"]
    assert {hit.id: len(hit.vectors) for hit in hits} == {"none": 0, "some": 2, "other": 2}
    assert all(hit.explanation is not None for hit in hits)
    assert mixed.hybrid_search("bread", filter={"n": 9}) == []
    for text in ("", " ", "\0", "zyzzyva", "bread " * 50_000, "(title:bread^2) AND *"):
        assert mixed.hybrid_search(text, alpha=0.5)
    assert mixed.hybrid_search("zyzzyva", alpha=0) == []


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        *(({"alpha": alpha}, "alpha") for alpha in (-0.1, 1.1, float("nan"), "1", True, None)),
        *(({"fusion": fusion}, "fusion") for fusion in ("rrf", None, 5, ["ranked"])),
        *(({"k": k}, "k") for k in (0, -1, 1.5, 10_001, None)),
        *(({"depth": depth}, "depth") for depth in (0, 5, 20_001, "all")),
        *(({"filter": filter}, "filter") for filter in ("n = 1", {"n": {"$like": 1}})),
        *(({"query": query}, "query") for query in (EYE[:1], None, b"bread", ["bread"])),
    ],
)
def test_hybrid_search_refuses_by_name(mixed: WeaviateStore, options: dict[str, Any], argument: str) -> None:
    with pytest.raises(ArgumentError, match=rf"^{argument}") as caught:
        mixed.hybrid_search(**{"query": "bread", **options})
    assert caught.value.argument == argument


# What is stored and not found


def test_waiting_for_an_index_that_is_behind(start_weaviate: type[WeaviateServer], tiny: ColBERT) -> None:
    """With asynchronous indexing an insert is done before its rows are in the index."""
    with (
        start_weaviate(ASYNC_INDEXING="true", ASYNC_INDEXING_STALE_TIMEOUT="500ms") as server,
        server.connect() as client,
    ):
        store = WeaviateStore(client, "Notes", tiny)
        given = [
            Document(f"{i}", "", {}, rows)
            for i, rows in enumerate(unit_rows(np.random.default_rng(0), 1_600, DIM).reshape(80, 20, DIM))
        ]
        store.upsert(given)
        assert ids(store.search(given[7].vectors, 1, exact=True)) == ["7"], "it asks no index"
        with pytest.raises(StoreError, match="not indexed within 0 seconds; wait longer"):
            store.wait_until_indexed(timeout=0)
        store.wait_until_indexed(timeout=60)
        assert store.verify().unindexed == []
        assert [store.search(each.vectors, 1)[0].id for each in given] == ids(given)


def test_verify_counts_what_is_stored(open_weaviate: Open, weaviate_collection: Any) -> None:
    store = open_weaviate(muvera=True)
    assert str(store.verify()) == "checked 0, stored but not indexed 0"
    store.upsert([*random_documents(450, DIM), *(Document(f"none-{i}", "", {}, NO_ROWS) for i in range(10))])
    assert str(store.verify(repair=True)) == "checked 460, stored but not indexed 0"


def test_verify_searches_an_index_of_all_rows(open_weaviate: Open) -> None:
    """Those that equal others are found as they are, or those are."""
    store = open_weaviate(muvera=None)
    rows = unit_rows(np.random.default_rng(0), 40, DIM)
    equal = [Document(f"equal-{i}", "", {}, rows) for i in range(12)]
    store.upsert([*random_documents(50, DIM), *equal])
    assert str(store.verify()) == "checked 62, stored but not indexed 0"


def test_verify_finds_and_mends_what_lost_its_rows_in_the_index(open_weaviate: Open, weaviate_collection: Any) -> None:
    """A replacement without rows takes them out of the index: nothing is left to be indexed again."""
    store = open_weaviate(muvera=True)
    store.upsert(random_documents(20, DIM))
    (lost,) = [each for each in weaviate_collection.iterator() if each.properties["doc_id"] == "doc-7"]
    weaviate_collection.data.insert_many([DataObject(properties=lost.properties, uuid=lost.uuid)])
    assert "doc-7" not in ids(store.search("text", 100))
    verification = store.verify()
    assert (verification.checked, verification.unindexed, verification.failed) == (20, ["doc-7"], {})
    verification = store.verify(repair=True)
    assert (verification.repaired, verification.removed) == ([], [])
    assert verification.failed == {"doc-7": "its rows are not stored; store it again"}
    store.upsert(random_documents(20, DIM))
    assert store.verify().unindexed == []
    assert "doc-7" in ids(store.search("text", 100))
