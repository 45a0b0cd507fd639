"""Haystack's filters: the stores find what Haystack's own `document_matches_filter` says, or the filter is refused."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from haystack import Document
from haystack.errors import FilterError
from haystack.utils.filters import document_matches_filter
from hypothesis import given
from hypothesis import strategies as st

from chandelier import ArgumentError, ColBERT, LocalStore, Store
from chandelier import Document as StoreDocument
from chandelier.haystack.filters import translated
from chandelier.qdrant import QdrantStore

# What the two compare alike: no lists, and truth values in a field of their own (Python takes True for 1).
WORDS = ["news", "", "1", "null", "naïve 🕯", "2020"]
NUMBERS = [-3, 0, 1, 2, 2.0, 2.5, 2020]
KINDS: dict[str, list[Any]] = {"word": [*WORDS, None], "number": [*NUMBERS, None], "flag": [True, False, None]}
VALUES = {name: st.sampled_from(values) for name, values in KINDS.items()}
METAS = st.fixed_dictionaries(
    {},
    optional={
        **VALUES,
        "person": st.fixed_dictionaries({}, optional={**VALUES, "deep": st.fixed_dictionaries({}, optional=VALUES)}),
    },
)
FIELDS = st.tuples(
    st.sampled_from(["meta.", "meta.person.", "meta.person.deep.", "meta.missing.", ""]), st.sampled_from([*VALUES])
)


@st.composite
def comparisons(draw: st.DrawFn) -> dict[str, Any]:
    place, name = draw(FIELDS)
    operators = ["==", "!=", "in", "not in"] + ([">", ">=", "<", "<="] if name == "number" else [])
    operator = draw(st.sampled_from(operators))
    value: Any = draw(st.lists(VALUES[name], max_size=3) if "in" in operator else VALUES[name])
    return {"field": place + name, "operator": operator, "value": value}


FILTERS = st.recursive(
    comparisons(),
    lambda parts: st.fixed_dictionaries(
        {"operator": st.sampled_from(["AND", "OR", "NOT"]), "conditions": st.lists(parts, max_size=3)}
    ),
    max_leaves=6,
)


@pytest.fixture(scope="module", params=["local", "qdrant"])
def store(request: pytest.FixtureRequest, tiny: ColBERT) -> Iterator[Store]:
    if request.param == "local":
        with LocalStore(tiny) as store:
            yield store
    else:
        from qdrant_client import QdrantClient

        client = QdrantClient(":memory:")
        yield QdrantStore(client, "notes", tiny)
        client.close()


def written(store: Store, metas: list[Any]) -> list[Document]:
    """A document for each, as both sides have them."""
    documents = [Document(id=f"{index}", content="x", meta=meta) for index, meta in enumerate(metas)]
    rows = np.eye(1, store.model.dim, dtype=np.float32)  # encoding is not what this is about
    store.delete_all()
    store.upsert([StoreDocument(document.id, "x", document.meta, rows) for document in documents])
    return documents


def test_every_operator_with_every_value(store: Store) -> None:
    metas = [{name: value} for name, values in KINDS.items() for value in values] + [{"person": {"number": 2}}, {}]
    documents = written(store, metas)
    for name, values in KINDS.items():
        ordering = [">", ">=", "<", "<="] if name == "number" else []
        some = [values[:2], values[-2:], [], [None]]
        for field in (f"meta.{name}", f"meta.person.{name}", name):
            pairs = [(operator, value) for operator in ["==", "!=", *ordering] for value in values]
            for operator, value in pairs + [(operator, value) for operator in ("in", "not in") for value in some]:
                filters = {"field": field, "operator": operator, "value": value}
                wanted = {document.id for document in documents if document_matches_filter(filters, document)}
                assert {document.id for document in store.iterate(filter=translated(filters))} == wanted, filters


@given(st.lists(METAS, min_size=1, max_size=6), st.lists(FILTERS, min_size=1, max_size=4))
def test_the_store_finds_what_haystack_says(store: Store, metas: list[Any], filters: list[Any]) -> None:
    documents = written(store, metas)
    for each in filters:
        wanted = {document.id for document in documents if document_matches_filter(each, document)}
        assert {document.id for document in store.iterate(filter=translated(each))} == wanted


def test_no_filter() -> None:
    assert translated(None) is translated({}) is None


LISTS = {"some": ["a", "b"], "none": [], "null": None, "word": "a"}


@pytest.mark.parametrize(
    ("operator", "value", "passes"),
    [
        ("==", "a", {"some", "word"}),
        ("!=", "a", {"none", "null", "missing"}),
        ("in", ["b", "c"], {"some"}),
        ("==", None, {"none", "null", "missing"}),
        ("!=", None, {"some", "word"}),
    ],
)
def test_a_list_passes_if_an_element_does(store: Store, operator: str, value: Any, passes: set[str]) -> None:
    """As the page says: not as Haystack's own function, which compares the whole list."""
    rows = np.eye(1, store.model.dim, dtype=np.float32)
    store.delete_all()
    store.upsert([StoreDocument(name, "x", {"tags": tags}, rows) for name, tags in LISTS.items()])
    store.upsert([StoreDocument("missing", "x", {}, rows)])
    dialect = translated({"field": "meta.tags", "operator": operator, "value": value})
    assert {document.id for document in store.iterate(filter=dialect)} == passes


def test_names_that_look_like_operators_are_names(store: Store) -> None:
    rows = np.eye(1, store.model.dim, dtype=np.float32)
    store.delete_all()
    store.upsert([StoreDocument("a", "x", {"$or": 1, "b c": {"$gt": 2}}, rows), StoreDocument("b", "x", {}, rows)])
    for field, value in (("meta.$or", 1), ("meta.b c.$gt", 2)):
        dialect = translated({"field": field, "operator": "==", "value": value})
        assert [document.id for document in store.iterate(filter=dialect)] == ["a"]


def leaf(operator: Any = "==", value: Any = 1, field: Any = "meta.a") -> dict[str, Any]:
    return {"field": field, "operator": operator, "value": value}


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ("meta.a == 1", "filters: got str"),
        ({"lang": "en"}, r"filters: got the keys 'lang', wanted field, operator and value.*meta\.year"),
        ({"operator": "AND"}, "filters: got the keys 'operator'"),
        ({"operator": "XOR", "conditions": []}, r"filters\.operator: got 'XOR'"),
        ({"operator": [], "conditions": []}, r"filters\.operator"),
        ({"operator": "AND", "conditions": {"a": 1}}, r"filters\.conditions: got dict"),
        ({"operator": "AND", "conditions": [leaf(), 3]}, r"filters\.conditions\[1\]: got int"),
        ({"field": "meta.a", "value": 1}, "filters: has no operator"),
        ({"field": "meta.a", "operator": "=="}, "filters: has no value"),
        (leaf("=~"), r"filters\.operator: got '=~', wanted one of '==' '!='"),
        (leaf(["=="]), r"filters\.operator"),
        (leaf("in", "a"), r"filters\.value: got str, wanted a list"),
        (leaf("in", ("a",)), r"filters\.value: got tuple, wanted a list"),
        (leaf(">", "2020-01-01"), r"filters\.value: got str, wanted a number; dates are .*timestamp"),
        (leaf("<=", datetime.datetime(2020, 1, 1)), r"filters\.value: got datetime.*timestamp"),
        (leaf(">", [1]), "got list"),
        (leaf(">", float("nan")), "nan"),
        (leaf("==", ["a"]), "got list"),
        (leaf("==", {"a": 1}), "got dict"),
        (leaf("==", datetime.datetime(2020, 1, 1)), "got datetime"),
        *((leaf(field=name), rf"filters\.field: got '{name}'") for name in ("id", "content", "score", "meta", "blob")),
        (leaf(field="author.name"), r"filters\.field: got 'author\.name', wanted .* meta\.name"),
        (leaf(field="meta."), "field"),
        (leaf(field='meta.a"b'), "field"),
        (leaf(field=3), r"filters\.field: got int"),
    ],
    ids=str,
)
def test_what_is_no_filter_is_refused_by_name(filters: Any, message: str) -> None:
    with pytest.raises(FilterError, match=message) as caught:
        translated(filters)
    assert isinstance(caught.value, ArgumentError)
    assert caught.value.argument == "filters"


def test_a_filter_of_a_thousand_levels_is_refused() -> None:
    filters = leaf()
    for _ in range(1000):
        filters = {"operator": "NOT", "conditions": [filters]}
    with pytest.raises(FilterError, match="nested deeper than 64 levels"):
        translated(filters)
