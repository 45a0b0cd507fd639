"""What every store does, whatever its engine: one class of tests, which each store's tests inherit.

A subclass gives the fixture `raw`, an empty store over the model `tiny`; `asynchronous = True` has every test call the
asynchronous methods instead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from reference import best, ids, maxsim64, passes, random_documents, same_metadata, unit_rows

from chandelier import (
    ArgumentError,
    ColBERT,
    Document,
    Explanation,
    Hit,
    PartialUpsertError,
    ShapeError,
    Store,
    UpsertReport,
)

TEXTS = {
    "bread": "The bakery opens at six and sells bread until noon.",
    "refund": "Send the goods back within 30 days and the money is returned.",
    "light": "Lighthouses keep ships away from the rocks at night.",
    "paris": "Paris is the capital of France.",
}

AWKWARD: dict[str, dict[str, Any]] = {
    "nothing": {},
    "null": {"a": None},
    "empty list": {"a": []},
    "list of null": {"a": [None]},
    "empty mapping": {"a": {}},
    "one": {"a": 1},
    "one as float": {"a": 1.0},
    "one and a half": {"a": 1.5},
    "minus five": {"a": -5},
    "zero": {"a": 0},
    "true": {"a": True},
    "false": {"a": False},
    "digit": {"a": "1"},
    "word": {"a": "word"},
    "empty word": {"a": ""},
    "word with more": {"a": "words"},
    "quotes": {"a": 'it\'s "quoted" \\ and\nbroken'},
    "sql": {"a": "'; DROP TABLE documents; --"},
    "unicode": {"a": "naïve 🕯 \u2028"},
    "null byte": {"a": "word\0"},
    "substitute": {"a": "word\x1a0"},
    "looks like a list": {"a": "[]"},
    "looks like null": {"a": "null"},
    "numbers": {"a": [1, 2]},
    "mixed": {"a": ["word", 3, None, True]},
    "list in a list": {"a": [[1, "word"]]},
    "mapping": {"a": {"b": 1}},
    "deeper": {"a": {"b": {"c": ["word", 1.5]}}},
    "list of mappings": {"a": [{"b": 1}]},
    "large": {"a": 2**53 + 1},
    "largest": {"a": 2**63 - 1},
    "smallest": {"a": -(2**63)},
    "other fields": {"a b": 1, "c.d": "word", "$e": 1, "ü": ["word"], "0": 1, "A": 1},
}

FILTERS: list[dict[str, Any]] = [
    {"a": None},
    *({"a": value} for value in (1, 1.0, 1.5, 0, -5, True, False, "1", "", "word", "[]", "null", 2, 3)),
    {"a": 2**53 + 1},
    {"a": 2**63 - 1},
    {"a": -(2**63)},
    *({"a": AWKWARD[name]["a"]} for name in ("quotes", "sql", "unicode", "null byte", "substitute")),
    {"a": {"$eq": 1}},
    {"a": {"$ne": 1}},
    {"a": {"$ne": None}},
    {"a": {"$ne": "word"}},
    {"a": {"$gt": 1}},
    {"a": {"$gte": 1}},
    {"a": {"$lt": 1}},
    {"a": {"$lte": 1}},
    {"a": {"$gt": 1, "$lt": 2}},
    {"a": {"$gte": -5, "$lt": 0.5}},
    {"a": {"$gt": 2**52}},
    {"a": {"$in": []}},
    {"a": {"$in": [1, "word", None, False]}},
    {"a": {"$in": [1.5, True]}},
    {"a": {"$in": ["1", "word\0"]}},
    {"a": {"$in": [2**53 + 1, 2**63 - 1]}},
    {"a": {"$nin": []}},
    {"a": {"$nin": [1, "word", None]}},
    {"a": {"$exists": True}},
    {"a": {"$exists": False}},
    {"a": {"$not": {"$gte": 1}}},
    {"a": {"$not": {"$exists": True, "$ne": 1}}},
    {"a.b": 1},
    {"a.b": {"$exists": True}},
    {"a.b": {"$ne": 1}},
    {"a.b.c": "word"},
    {"a.b.c": {"$gt": 1}},
    {"a.0": 1},
    {"0": 1},
    {"A": 1},
    {"a b": 1},
    {'"c.d"': "word"},
    {"c.d": "word"},
    {'"$e"': 1},
    {"ü": "word"},
    {"missing": None},
    {"missing": {"$ne": "word"}},
    {"missing": {"$exists": False}},
    {"$or": [{"a": 1}, {"a": "word"}]},
    {"$and": [{"a": 1}, {"a": 2}]},
    {"$not": {"$or": [{"a": {"$exists": False}}, {"a": {"$lt": 1}}]}},
    {"$or": [{"$not": {"a": {"$exists": True}}}, {"$and": [{"a": {"$gte": 0}}, {"a": {"$lte": 1}}]}]},
    {"a": {"$gte": 1}, "$not": {"a": 2}},
    {"$or": [{}]},
    {},
]

ROUND_TRIPS: dict[str, dict[str, Any]] = {
    "empty": {},
    "nested": {"a": {"b": [{"c": [1, [2, [3]]]}, {}], "d": {}}, "e": []},
    "words": {"none": None, "true": True, "false": False},
    "numbers": {"one": 1, "one as float": 1.0, "tenth": 0.1, "small": 1e-7, "large": 1e300},
    "integers": {"least": -(2**63), "most": 2**63 - 1, "list": [2**53 + 1, -(2**53) - 1]},
    "texts": {"empty": "", "null byte": "a\0b", "sub": "\x1a", "escape": "\\u0000", "controls": "\x01\x1f\x7f\t\r\n"},
    "unicode": {"ключ": "значение", "🕯": "e\u0301 \u2028 \U0010ffff \ufeff", "עברית": "\u202e"},
    "keys": {"": 1, " ": 2, "a.b": 3, '"': 4, "\\": 5, "\0": 6, "$or": 7, "document_id": 8, "id": 9, "text": 10},
}


class Driven:
    """A store by its synchronous names, which the asynchronous methods do the work of if there is a loop."""

    def __init__(self, store: Store, loop: asyncio.AbstractEventLoop | None) -> None:
        self.raw = store
        self._loop = loop

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if self._loop is None:
            return getattr(self.raw, name)
        method = getattr(self.raw, f"a{name}")

        async def collected(*arguments: Any, **options: Any) -> Any:
            if name == "iterate":
                return iter([each async for each in method(*arguments, **options)])
            return await method(*arguments, **options)

        return lambda *arguments, **options: self._loop.run_until_complete(collected(*arguments, **options))


class StoreContract:
    """The tests; what differs between engines is in these attributes."""

    asynchronous = False
    datatype = "float32"
    tolerance = 1e-5
    """Of a score, for each token of the query, against rows that were not rounded to the datatype."""
    query_datatype = "float32"
    """Some engines round the query to what the documents are stored in."""

    @pytest.fixture
    def loop(self) -> Iterator[asyncio.AbstractEventLoop | None]:
        if not self.asynchronous:
            yield None
            return
        loop = asyncio.new_event_loop()
        yield loop
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()

    @pytest.fixture
    def raw(self) -> Store:
        """An empty store over `tiny`."""
        raise NotImplementedError

    @pytest.fixture
    def store(self, raw: Store, loop: asyncio.AbstractEventLoop | None) -> Iterator[Driven]:
        store = Driven(raw, loop)
        yield store
        store.close()

    @pytest.fixture
    def filled(self, store: Driven) -> Driven:
        """With the four texts."""
        report = store.upsert([Document(id, text, {"length": len(text), "id": id}) for id, text in TEXTS.items()])
        assert report.stored == list(TEXTS)
        return store

    # Storing

    def test_it_is_a_store(self, raw: Store, store: Driven) -> None:
        assert isinstance(raw, Store)
        assert store.count() == 0

    def test_upsert_reports_what_is_stored(self, store: Driven) -> None:
        report = store.upsert(Document(id, text) for id, text in TEXTS.items())
        assert report == UpsertReport(stored=list(TEXTS))
        assert store.count() == len(TEXTS)

    def test_upsert_of_nothing(self, store: Driven) -> None:
        assert store.upsert([]) == UpsertReport()
        assert store.search("bread") == []

    def test_the_same_id_replaces(self, filled: Driven) -> None:
        filled.upsert([Document("bread", "Paris is the capital of France.", {"new": True})])
        assert filled.count() == len(TEXTS)
        (document,) = filled.get(["bread"])
        assert (document.text, document.metadata) == ("Paris is the capital of France.", {"new": True})
        scores = {hit.id: hit.score for hit in filled.search("capital of france")}
        assert len(scores) == len(TEXTS)
        assert scores["bread"] == scores["paris"]
        assert filled.count({"length": {"$exists": True}}) == len(TEXTS) - 1

    def test_the_last_of_duplicates_wins_and_is_reported(self, store: Driven) -> None:
        report = store.upsert([Document("a", "first"), Document("b", "other"), Document("a", "last")])
        assert (report.stored, report.duplicates, report.failed) == (["a", "b"], ["a"], {})
        assert [each.text for each in store.get(["a", "b"])] == ["last", "other"]
        assert store.count() == 2

    def test_duplicates_across_portions(self, store: Driven) -> None:
        rows = unit_rows(np.random.default_rng(4), 1400, 32)
        documents = [Document(f"{i % 700}", f"text {i}", vectors=rows[i : i + 1]) for i in range(1400)]
        report = store.upsert(documents)
        assert len(report.stored) == len(report.duplicates) == store.count() == 700
        assert store.get(["0", "699"])[1].text == "text 1399"

    def test_empty_text_has_its_special_tokens(self, store: Driven, tiny: ColBERT) -> None:
        report = store.upsert([Document("empty", "")])
        assert report == UpsertReport(stored=["empty"])
        (hit,) = store.search("anything", with_vectors=True)
        assert len(hit.vectors) == len(tiny.encode_documents([""])[0])

    def test_a_document_without_rows_is_stored_and_never_found(self, filled: Driven) -> None:
        report = filled.upsert([Document("none", "nothing is left", {"a": 1}, np.zeros((0, 32), np.float32))])
        assert report == UpsertReport(stored=["none"], without_rows=["none"])
        assert filled.count() == len(TEXTS) + 1
        assert "none" not in ids(filled.search("nothing is left", 100))
        assert filled.search("nothing is left", filter={"a": 1}) == []
        (document,) = filled.get(["none"], with_vectors=True)
        assert np.shape(document.vectors) == (0, 32)
        filled.upsert([Document("none", "now there is something")])
        assert "none" in ids(filled.search("something", 100))
        filled.upsert([Document("none", "", vectors=np.zeros((0, 32), np.float32))])
        assert "none" not in ids(filled.search("something", 100))

    @pytest.mark.parametrize(
        ("metadata", "place"),
        [
            ({"a": {"b": [1, {2}]}}, "metadata['a']['b'][1]"),
            ({"a": float("nan")}, "metadata['a']"),
            ({"a": 2**63}, "metadata['a']"),
            ({"a": b"bytes"}, "metadata['a']"),
            ({1: "a"}, "the key 1"),
            ({"a": "\ud800"}, "metadata['a']"),
        ],
    )
    def test_metadata_that_json_cannot_hold_is_refused_by_name(
        self, store: Driven, metadata: dict[Any, Any], place: str
    ) -> None:
        report = store.upsert([Document("good", "a"), Document("bad", "b", metadata), Document("fine", "c")])
        assert report.stored == ["good", "fine"]
        assert list(report.failed) == ["bad"]
        assert place in report.failed["bad"]
        assert {each.id for each in store.iterate()} == {"good", "fine"}

    @pytest.mark.parametrize(
        ("rows", "what"),
        [
            (np.ones((2, 31)) / 8, "31"),
            (np.ones(32) / 8, "1-D"),
            ([[1.0, 0.0], [1.0]], "different lengths"),
            (np.full((2, 32), np.nan), "NaN"),
            (np.full((2, 32), np.inf), "inf"),
            (np.zeros((2, 32)), "zeros"),
            (np.eye(32)[:2] * 3, "3"),
            (np.ones((2, 32), np.int64), "int64"),
            ("rows", "str"),
        ],
    )
    def test_bad_vectors_are_refused_by_name(self, store: Driven, rows: Any, what: str) -> None:
        report = store.upsert([Document("good", "a"), Document("bad", "b", vectors=rows), Document("fine", "c")])
        assert report.stored == ["good", "fine"]
        assert what in report.failed["bad"]
        assert store.get(["bad"]) == []

    def test_what_is_no_document_is_refused_by_its_place(self, store: Driven) -> None:
        report = store.upsert([Document("a", "a"), {"id": "b", "text": "b"}, None])
        assert report.stored == ["a"]
        assert list(report.failed) == ["documents[1]", "documents[2]"]

    def test_a_stream_of_something_else_is_refused_at_once(self, store: Driven) -> None:
        with pytest.raises(ArgumentError, match=r"documents\[0\]: got dict, wanted a Document: Document\(id, text"):
            store.upsert([{"id": "a", "text": "b"}, Document("c", "d")])
        assert store.count() == 0

    def test_a_text_that_is_cut_off_is_reported(self, store: Driven, tiny: ColBERT) -> None:
        whole = " ".join(["bread"] * (tiny.document_length - 3))
        given = [Document("whole", whole + "  \n"), Document("cut", whole + " off"), Document("short", "bread")]
        report = store.upsert(given)
        assert (report.truncated, report.stored) == (["cut"], ["whole", "cut", "short"])
        assert str(report) == "stored 3, cut off 1"
        assert store.upsert([Document("cut", "bread")]).truncated == []

    def test_one_buffer_for_all_documents(self, store: Driven) -> None:
        buffer = np.empty((1, 32), np.float32)

        def documents() -> Iterator[Document]:
            for index in range(5):
                buffer[:] = np.eye(32)[index]
                yield Document(str(index), "", vectors=buffer)

        store.upsert(documents())
        assert [int(np.argmax(each.vectors)) for each in store.get(list("01234"), with_vectors=True)] == [0, 1, 2, 3, 4]

    @pytest.mark.parametrize("documents", ["text", Document("a", "a"), {"id": "a"}, None, 3])
    def test_documents_must_be_several(self, store: Driven, documents: Any) -> None:
        with pytest.raises(ArgumentError, match="documents: got"):
            store.upsert(documents)

    def test_a_refused_document_keeps_the_stored_one(self, filled: Driven) -> None:
        report = filled.upsert([Document("bread", "new", {"bad": object()})])
        assert list(report.failed) == ["bread"]
        assert filled.get(["bread"])[0].text == TEXTS["bread"]

    def test_raise_on_failure(self, store: Driven) -> None:
        with pytest.raises(PartialUpsertError, match="refused 1") as caught:
            store.upsert([Document("bad", "b", {"a": b""}), Document("a", "a")], raise_on_failure=True)
        assert caught.value.report is not None
        assert caught.value.report.stored == ["a"]
        assert store.count() == 1

    def test_an_error_of_the_stream_comes_through(self, store: Driven) -> None:
        def documents() -> Iterator[Document]:
            yield Document("a", "a")
            raise ZeroDivisionError("the caller's own")

        with pytest.raises(ZeroDivisionError) as caught:
            store.upsert(documents())
        assert caught.value.report.stored == [each.id for each in store.iterate()]

    def test_progress_is_shown_on_stderr(self, store: Driven, capfd: pytest.CaptureFixture[str]) -> None:
        store.upsert([Document("a", "a")])
        assert capfd.readouterr().err == ""
        store.upsert([Document("a", "a")], progress=True)
        assert "storing" in capfd.readouterr().err

    @pytest.mark.parametrize("id", ["", "0", "a/b c?#%", "ключ 🕯", "a\0b", "x" * 5000, "'; DROP TABLE documents", "-1"])
    def test_any_str_is_an_id(self, store: Driven, id: str) -> None:
        store.upsert([Document(id, f"text of {id}", {"a": 1}), Document("another", "text")])
        assert [(each.id, each.text) for each in store.get([id])] == [(id, f"text of {id}")]
        assert store.search(f"text of {id}", 1, filter={"a": 1})[0].id == id
        assert store.delete([id]) == 1
        assert [each.id for each in store.iterate()] == ["another"]

    # Searching

    def test_search_finds_the_text_itself(self, filled: Driven, tiny: ColBERT) -> None:
        rows = dict(zip(TEXTS, tiny.encode_documents(TEXTS.values()), strict=True))
        query = tiny.encode_queries(["when can I buy bread?"])[0]
        expected = sorted(TEXTS, key=lambda id: -maxsim64(query, rows[id], self.datatype))
        hits = filled.search("when can I buy bread?", 3)
        assert ids(hits) == expected[:3]
        for hit in hits:
            assert isinstance(hit, Hit)
            assert hit.text == TEXTS[hit.id]
            assert hit.metadata == {"length": len(hit.text), "id": hit.id}
            assert hit.score == pytest.approx(maxsim64(query, rows[hit.id], self.datatype), abs=1e-3)
            assert hit.vectors is None
            assert hit.explanation is None

    def test_a_query_may_be_rows(self, filled: Driven, tiny: ColBERT) -> None:
        query = "when can I buy bread?"
        rows = tiny.encode_queries([query])[0]
        assert filled.search(rows) == filled.search(query) == filled.search(rows.astype(np.float64))

    def test_fewer_than_k(self, filled: Driven) -> None:
        assert len(filled.search("bread", 1000)) == len(TEXTS)
        assert len(filled.search("bread", 1)) == 1

    def test_search_many_is_several_searches(self, filled: Driven, tiny: ColBERT) -> None:
        queries = ["bread", tiny.encode_queries(["money back"])[0], "night"]
        many = filled.search_many(queries, 2, filter={"length": {"$gt": 20}})
        assert many == [filled.search(query, 2, filter={"length": {"$gt": 20}}) for query in queries]
        assert filled.search_many([]) == []

    def test_vectors_come_on_request(self, filled: Driven, tiny: ColBERT) -> None:
        (hit,) = filled.search("bread", 1, with_vectors=True)
        rows = tiny.encode_documents([hit.text])[0]
        assert hit.vectors.shape == rows.shape
        assert np.abs(hit.vectors.astype(np.float64) - rows).max() <= (6e-4 if self.datatype == "float16" else 0)
        (document,) = filled.get([hit.id], with_vectors=True)
        assert np.array_equal(document.vectors, hit.vectors)

    def test_explain(self, filled: Driven, tiny: ColBERT) -> None:
        hits = filled.search("when can I buy bread?", 2, explain=True)
        for hit in hits:
            assert isinstance(hit.explanation, Explanation)
            assert hit.explanation.score == pytest.approx(hit.score, abs=32 * self.tolerance + 1e-5)
        with pytest.raises(ArgumentError, match="explain: got a matrix"):
            filled.search(tiny.encode_queries(["bread"])[0], explain=True)

    @pytest.mark.parametrize("k", [0, -1, 1.5, True, "3", None])
    def test_k_must_be_at_least_one(self, filled: Driven, k: Any) -> None:
        with pytest.raises(ArgumentError, match="k: got"):
            filled.search("bread", k)

    def test_depth_must_be_at_least_k(self, filled: Driven) -> None:
        with pytest.raises(ArgumentError, match="depth: got 3 with k=4"):
            filled.search("bread", 4, depth=3)
        assert len(filled.search("bread", 4, depth=4)) == 4

    @pytest.mark.parametrize(
        "query",
        [3, None, b"bread", [[0.1, 0.2], [0.3]], np.ones((2, 31)) / 8, np.full((2, 32), np.nan), np.zeros((2, 32))],
    )
    def test_bad_queries(self, filled: Driven, query: Any) -> None:
        with pytest.raises((ArgumentError, ShapeError)):
            filled.search(query)

    def test_a_query_is_one(self, filled: Driven) -> None:
        with pytest.raises(ArgumentError, match="query: got a list of str, wanted one query; search_many"):
            filled.search(["bread", "paris"])
        assert ids(filled.search("bread", 2, exact=True)) == ids(filled.search("bread", 2))

    def test_queries_must_be_several(self, filled: Driven) -> None:
        with pytest.raises(ArgumentError, match="queries: got str"):
            filled.search_many("bread")

    def test_a_thousand_random_documents(self, store: Driven) -> None:
        documents = random_documents(1000, 32)
        assert len(store.upsert(documents).stored) == 1000
        rng = np.random.default_rng(1)
        queries = [unit_rows(rng, int(rng.integers(1, 33)), 32) for _ in range(20)]
        for query, hits in zip(queries, store.search_many(queries), strict=True):
            expected = best(query.astype(self.query_datatype), documents, 10, self.datatype)
            assert ids(hits) == [id for id, _ in expected]
            for hit, (_, score) in zip(hits, expected, strict=True):
                assert hit.score == pytest.approx(score, abs=1e-5 * len(query))
                rows = documents[int(hit.id[4:])].vectors
                assert hit.score == pytest.approx(maxsim64(query, rows, "float64"), abs=self.tolerance * len(query))

    def test_random_documents_under_a_filter(self, store: Driven) -> None:
        documents = random_documents(300, 32)
        store.upsert(documents)
        query = unit_rows(np.random.default_rng(2), 8, 32)
        for filter in ({"i": {"$lt": 5}}, {"even": True}, {"i": {"$in": list(range(0, 300, 7))}}, {"i": -1}):
            passing = [each for each in documents if passes(each.metadata, filter)]
            expected = best(query.astype(self.query_datatype), passing, 10, self.datatype)
            assert ids(store.search(query, filter=filter)) == [id for id, _ in expected]

    def test_random_documents_that_change(self, store: Driven) -> None:
        """Stored, replaced and deleted in turns, searched in between."""
        there = {}
        rng = np.random.default_rng(3)
        for step in range(12):
            documents = random_documents(60, 32, seed=step)
            chosen = [documents[i] for i in rng.choice(60, 25, replace=False)]
            store.upsert(chosen)
            there.update({each.id: each for each in chosen})
            gone = [id for id in there if rng.random() < 0.2]
            assert store.delete([*gone, "never there"]) == len(gone)
            for id in gone:
                del there[id]
            query = unit_rows(rng, 4, 32)
            expected = best(query.astype(self.query_datatype), there.values(), 10, self.datatype)
            assert ids(store.search(query)) == [id for id, _ in expected]
        assert store.count() == len(there)

    def test_equal_documents_score_the_same(self, store: Driven) -> None:
        store.upsert([Document(f"{i}", "the same text") for i in range(20)])
        hits = store.search("the same text", 15)
        assert len(set(ids(hits))) == 15
        assert len({hit.score for hit in hits}) == 1

    # Filters

    @pytest.fixture
    def awkward(self, store: Driven) -> Driven:
        rows = np.eye(32, dtype=np.float32)[:1]
        report = store.upsert([Document(id, id, metadata, rows) for id, metadata in AWKWARD.items()])
        assert report.stored == list(AWKWARD)
        return store

    def test_filters(self, awkward: Driven) -> None:
        """Every operator on every awkward value, in `count`, `iterate` and `search`."""
        query = np.eye(32, dtype=np.float32)[:2]
        for filter in FILTERS:
            expected = {id for id, metadata in AWKWARD.items() if passes(metadata, filter)}
            assert {each.id for each in awkward.iterate(filter=filter)} == expected, filter
            assert awkward.count(filter) == len(expected), filter
            assert set(ids(awkward.search(query, 100, filter=filter))) == expected, filter

    def test_delete_by_filter(self, awkward: Driven) -> None:
        there = dict(AWKWARD)
        for filter in ({"a": {"$gt": 1}}, {"a.b": 1}, {"a": "word\0"}, {"a": {"$exists": False}}, {"missing": 1}):
            expected = [id for id, metadata in there.items() if passes(metadata, filter)]
            assert awkward.delete(filter=filter) == len(expected)
            for id in expected:
                del there[id]
            assert {each.id for each in awkward.iterate()} == set(there)

    @pytest.mark.parametrize(
        ("filter", "place"),
        [
            ({"a": {"$like": "w%"}}, r"filter\.a\.\$like: unknown operator"),
            ({"$nor": [{"a": 1}]}, r"filter\.\$nor: unknown operator"),
            ({"a": {"b": 1}}, r"filter\.a\.b: unknown operator"),
            ({"a": {"$gt": "1"}}, r"filter\.a\.\$gt: got str"),
            ({"a": {"$in": "abc"}}, r"filter\.a\.\$in: got str"),
            ({"a": [1, 2]}, r"filter\.a: got list"),
            ({"$or": []}, r"filter\.\$or: got an empty list"),
            ({"a": {}}, r"filter\.a: got {}"),
            ({1: 2}, "filter: got the key 1"),
        ],
    )
    def test_bad_filters_are_refused_everywhere(self, filled: Driven, filter: Any, place: str) -> None:
        calls: list[Callable[[], Any]] = [
            lambda: filled.search("bread", filter=filter),
            lambda: filled.search_many(["bread"], filter=filter),
            lambda: filled.count(filter),
            lambda: filled.delete(filter=filter),
            lambda: list(filled.iterate(filter=filter)),
        ]
        for call in calls:
            with pytest.raises(ArgumentError, match=place):
                call()
        assert filled.count() == len(TEXTS)

    # Reading back and deleting

    def test_get_keeps_the_order(self, filled: Driven) -> None:
        assert ids(filled.get(["paris", "not there", "bread"])) == ["paris", "bread"]
        assert filled.get([]) == []
        assert filled.get(["paris"]) == [Document("paris", TEXTS["paris"], {"length": 31, "id": "paris"})]
        assert filled.get(["paris"])[0].vectors is None

    def test_thousands_of_ids(self, store: Driven) -> None:
        rows = unit_rows(np.random.default_rng(5), 3000, 32)
        store.upsert(Document(f"{i}", f"text {i}", vectors=rows[i : i + 1]) for i in range(3000))
        wanted = [f"{i}" for i in range(2999, -1, -1)]
        assert ids(store.get(wanted)) == wanted
        assert store.delete(wanted[:2500]) == 2500
        assert store.count() == 500

    @pytest.mark.parametrize("wrong", [[1], [None], 3, None, b"a", {"a": 1}, ["\ud800"]])
    def test_ids_must_be_str(self, filled: Driven, wrong: Any) -> None:
        with pytest.raises(ArgumentError):
            filled.get(wrong)
        with pytest.raises(ArgumentError):
            filled.delete(wrong)

    @pytest.mark.parametrize("wrong", [1, None, b"a", "\ud800"])
    def test_a_document_refuses_what_is_no_id(self, wrong: Any) -> None:
        with pytest.raises(ArgumentError, match="id: got"):
            Document(wrong, "text")

    @pytest.mark.parametrize("name", sorted(ROUND_TRIPS))
    def test_metadata_comes_back_as_it_was(self, store: Driven, name: str) -> None:
        metadata = ROUND_TRIPS[name]
        store.upsert([Document("a", "text", metadata)])
        (document,), (listed,), (hit,) = store.get(["a"]), store.iterate(), store.search("text")
        for came in (document.metadata, listed.metadata, hit.metadata):
            assert same_metadata(metadata, came), came

    def test_texts_come_back_as_they_were(self, store: Driven) -> None:
        texts = {"nul": "a\0b", "unicode": "e\u0301 🕯 \u2028 \ufeff", "space": " \t\r\n ", "long": "word " * 50_000}
        store.upsert([Document(id, text) for id, text in texts.items()])
        assert {each.id: each.text for each in store.iterate()} == texts

    def test_iterate(self, filled: Driven) -> None:
        assert sorted(ids(filled.iterate())) == sorted(TEXTS)
        assert sorted(ids(filled.iterate(filter={"length": {"$lt": 50}}))) == ["paris"]
        assert all(len(each.vectors) for each in filled.iterate(with_vectors=True))

    def test_iterate_gives_each_document_once(self, store: Driven) -> None:
        rows = unit_rows(np.random.default_rng(6), 1500, 32)
        store.upsert(Document(f"{i}", "", vectors=rows[i : i + 1]) for i in range(1500))
        assert sorted(ids(store.iterate())) == sorted(f"{i}" for i in range(1500))
        assert len(list(store.iterate(with_vectors=True))) == 1500

    def test_delete_by_id(self, filled: Driven) -> None:
        assert filled.delete(["bread", "not there", "bread"]) == 1
        assert filled.delete(["bread"]) == 0
        assert filled.delete([]) == 0
        assert "bread" not in ids(filled.search("bread", 10))
        assert filled.count() == len(TEXTS) - 1

    def test_delete_must_be_told_what(self, filled: Driven) -> None:
        for arguments in ({}, {"ids": ["bread"], "filter": {"id": "bread"}}, {"filter": {}}):
            with pytest.raises(ArgumentError, match="delete_all"):
                filled.delete(**arguments)
        assert filled.count() == len(TEXTS)

    def test_delete_all(self, filled: Driven) -> None:
        assert filled.delete_all() == len(TEXTS)
        assert (filled.count(), filled.delete_all(), filled.search("bread")) == (0, 0, [])
        filled.upsert([Document("again", "bread")])
        assert ids(filled.search("bread")) == ["again"]

    def test_closing_twice(self, store: Driven) -> None:
        store.close()
        store.close()
