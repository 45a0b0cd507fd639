"""The filter dialect: as SQL against a reading of its rules in plain Python, and whatever else is handed to `parse`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from dialect import FIELDS, FILTERS, METADATA, SCALARS, SURROGATES, VALUES
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import passes, same_metadata

from chandelier import ArgumentError, ColBERT, Document, LocalStore
from chandelier.store.filters import parse, passes_everything
from chandelier.store.local.metadata import from_json, to_json

ROW = np.eye(32, dtype=np.float32)[:1]


@pytest.fixture(scope="module")
def store(tiny: ColBERT) -> Iterator[LocalStore]:
    with LocalStore(tiny) as store:
        yield store


@given(many=st.lists(METADATA, min_size=1, max_size=8), filters=st.lists(FILTERS, min_size=1, max_size=8))
def test_sql_says_what_the_rules_say(store: LocalStore, many: list[dict[str, Any]], filters: list[Any]) -> None:
    store.delete_all()
    store.upsert([Document(f"{i}", "", metadata, ROW) for i, metadata in enumerate(many)])
    for filter in filters:
        expected = [f"{i}" for i, metadata in enumerate(many) if passes(metadata, filter)]
        assert [each.id for each in store.iterate(filter=filter)] == expected
        assert store.count(filter) == len(expected)
        rest = [f"{i}" for i in range(len(many)) if f"{i}" not in expected]
        assert [each.id for each in store.iterate(filter={"$not": filter})] == rest


@given(numbers=st.lists(st.floats(-(2.0**53) + 1, 2.0**53 - 1), min_size=1, max_size=30), bound=st.integers(0, 29))
def test_numbers_are_compared_exactly(store: LocalStore, numbers: list[float], bound: int) -> None:
    """Any float, down to the last bit: SQLite reads them from text."""
    store.delete_all()
    store.upsert([Document(f"{i}", "", {"x": number}, ROW) for i, number in enumerate(numbers)])
    chosen = numbers[bound % len(numbers)]
    for operator in ("$eq", "$ne", "$gt", "$gte", "$lt", "$lte"):
        filter = {"x": {operator: chosen}}
        assert store.count(filter) == sum(passes({"x": number}, filter) for number in numbers)
    assert store.count({"x": {"$in": numbers}}) == len(numbers)


@given(metadata=st.dictionaries(st.text(max_size=5), VALUES, max_size=5))
def test_metadata_comes_back(store: LocalStore, metadata: dict[str, Any]) -> None:
    assert same_metadata(metadata, from_json(to_json(metadata)))
    store.upsert([Document("a", "", metadata, ROW)])
    assert same_metadata(metadata, store.get(["a"])[0].metadata)


@given(texts=st.lists(st.text(st.sampled_from("a\0\x1a\\u01"), max_size=8), min_size=2, max_size=2))
def test_texts_stay_different_or_equal(store: LocalStore, texts: list[str]) -> None:
    """Whatever stands in for a NUL is no text of somebody else's."""
    one, other = texts
    assert from_json(to_json(texts)) == texts
    store.upsert([Document("a", "", {"x": one}, ROW)])
    assert store.count({"x": other}) >= (one == other)
    assert store.count({"x": {"$in": [other]}, "y": {"$exists": False}}) == store.count({"x": other})
    if one != other:
        assert "a" not in [each.id for each in store.iterate(filter={"x": other})]


ANYTHING = st.recursive(
    st.one_of(SCALARS, st.integers(), st.floats(), st.binary(max_size=2), st.text(max_size=4), st.just(object())),
    lambda parts: st.one_of(
        st.lists(parts, max_size=3),
        st.tuples(parts),
        st.dictionaries(
            st.one_of(
                FIELDS,
                st.sampled_from(["$and", "$or", "$not", "$eq", "$in", "$gt", "$exists", "$like", "a..b", '"', '"a"b']),
                st.text(max_size=4),
                SURROGATES,
                st.integers(0, 2),
            ),
            parts,
            max_size=3,
        ),
    ),
    max_leaves=12,
)


@settings(max_examples=500)
@given(filter=ANYTHING)
def test_anything_is_a_filter_or_an_argument_error(store: LocalStore, filter: Any) -> None:
    try:
        parse(filter)
    except ArgumentError as error:
        caught = error
    else:
        assert store.count(filter) >= 0
        return
    assert caught.argument == "filter"
    assert str(caught).startswith("filter")
    assert str(caught).encode(), "it can be printed"
    with pytest.raises(ArgumentError):
        store.count(filter if filter is not None else {"$": None})


@pytest.mark.parametrize("filter", [{"\ud800": 1}, {"a.\udfff": {"$gt": 1}}, {'"\ud800"': {"$exists": True}}])
def test_a_field_that_utf8_cannot_hold(store: LocalStore, filter: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match=r"^filter: got the field .* with a lone surrogate"):
        store.count(filter)


def test_too_many_conditions() -> None:
    """Counted as they are read: a few lists that hold one another stand for more than there are atoms."""
    fields = [{f"f{i}": i} for i in range(10_000)]
    parse({"$or": fields})
    parse({"a": {"$in": list(range(20_000))}})
    for filter in (
        {"$or": [*fields, {"one": "more"}]},
        {"$and": [{"$not": {"a": {"$gt": 1, "$lt": 5}}}] * 5001},
        {f"f{i}": i for i in range(10_001)},
        {"$and": [{}] * 10_001},
    ):
        with pytest.raises(ArgumentError, match=r"filter: got more than 10,000 conditions; use \$in") as caught:
            parse(filter)
        assert caught.value.argument == "filter"
    bomb: dict[str, Any] = {}
    for _ in range(60):
        bomb = {"$and": [bomb, bomb]}
    with pytest.raises(ArgumentError, match="more than 10,000 conditions"):
        parse(bomb)


ALL = [
    {},
    {"$and": [{}]},
    {"$and": [{}, {"$or": [{"a": 1}, {}]}]},
    {"$or": [{"a": 1}, {"$not": {"a": {"$in": []}}}]},
    {"$not": {"a": {"$in": []}}},
    {"a": {"$nin": []}},
    {"a": {"$not": {"$in": []}}},
    {"$not": {"a": 1, "b": {"$in": []}}},
    {"$not": {"$or": [{"a": {"$in": []}}, {"$not": {}}]}},
    {"$not": {"$not": {}}},
]
NOT_ALL = [
    {"a": 1},
    {"a": {"$in": []}},
    {"$not": {}},
    {"$and": [{}, {"a": 1}]},
    {"$or": [{"a": 1}, {"a": {"$in": []}}]},
    {"$not": {"$or": [{"a": 1}, {"a": {"$in": []}}]}},
    {"a": {"$exists": True}},
    {"a": {"$ne": 1}},
]


@pytest.mark.parametrize("filter", ALL)
def test_what_everything_passes_deletes_nothing(store: LocalStore, filter: dict[str, Any]) -> None:
    store.delete_all()
    store.upsert([Document(f"{i}", "", {"a": i}, ROW) for i in range(3)])
    assert passes_everything(parse(filter))
    with pytest.raises(ArgumentError, match=r"which everything passes; use delete_all\(\)") as caught:
        store.delete(filter=filter)
    assert caught.value.argument == "filter"
    assert store.count() == store.count(filter) == 3


@pytest.mark.parametrize("filter", NOT_ALL)
def test_what_not_everything_passes_deletes(store: LocalStore, filter: dict[str, Any]) -> None:
    store.delete_all()
    store.upsert([Document(f"{i}", "", {"a": i} if i else {}, ROW) for i in range(3)])
    assert not passes_everything(parse(filter))
    there = store.count(filter)
    assert store.delete(filter=filter) == there
    assert store.count() == 3 - there


def test_a_filter_in_itself() -> None:
    filter: dict[str, Any] = {}
    filter["$and"] = [filter]
    with pytest.raises(ArgumentError, match="nested deeper than 64 levels"):
        parse(filter)
