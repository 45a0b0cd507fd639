"""LlamaIndex: `MetadataFilters` mean in every store what LlamaIndex says they mean."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters
from llama_index.core.vector_stores import utils as host
from qdrant_client import QdrantClient, models

from chandelier import ColBERT, LocalStore
from chandelier.exceptions import ArgumentError
from chandelier.llama_index import ColBERTRetriever
from chandelier.qdrant import QdrantStore

METADATA: dict[str, dict[str, Any]] = {
    "full": {"lang": "en", "year": 2020, "price": 1.5, "tags": ["a", "b"], "page.number": 7, "$x": 1},
    "other": {"lang": "de", "year": 2022, "price": 3, "tags": ["b", "c"], "page.number": 8, "$x": 2},
    "sparse": {"lang": "fr", "year": 2024, "tags": []},
    "null": {"lang": None, "year": None, "tags": None},
    "bare": {},
    "blank": {"lang": ""},
}

Op = FilterOperator
CONDITIONS: list[tuple[str, Op, Any, set[str]]] = [
    ("lang", Op.EQ, "en", {"full"}),
    ("year", Op.EQ, 2022, {"other"}),
    ("price", Op.EQ, 3.0, {"other"}),
    ("lang", Op.NE, "en", {"other", "sparse", "null", "bare", "blank"}),
    ("year", Op.GT, 2020, {"other", "sparse"}),
    ("year", Op.GTE, 2022, {"other", "sparse"}),
    ("price", Op.LT, 3, {"full"}),
    ("year", Op.LTE, 2020.5, {"full"}),
    ("lang", Op.IN, ["en", "fr"], {"full", "sparse"}),
    ("lang", Op.IN, [], set()),
    ("year", Op.NIN, [2020, 2024], {"other", "null", "bare", "blank"}),
    ("tags", Op.ANY, ["a", "c"], {"full", "other"}),
    ("tags", Op.ALL, ["a", "b"], {"full"}),
    ("tags", Op.CONTAINS, "b", {"full", "other"}),
    ("tags", Op.IS_EMPTY, None, {"sparse", "null", "bare", "blank"}),
    ("lang", Op.IS_EMPTY, None, {"null", "bare", "blank"}),
    ("page.number", Op.EQ, 7, {"full"}),
    ("page.number", Op.GT, 7, {"other"}),
    ("$x", Op.EQ, 2, {"other"}),
]


@pytest.fixture(scope="module", params=["local", "qdrant"])
def retriever(request: pytest.FixtureRequest, tiny: ColBERT) -> Iterator[ColBERTRetriever]:
    store = LocalStore(tiny) if request.param == "local" else QdrantStore(QdrantClient(":memory:"), "nodes", tiny)
    with store:
        retriever = ColBERTRetriever(store, similarity_top_k=20)
        retriever.add_nodes([TextNode(id_=id, text=id, metadata=metadata) for id, metadata in METADATA.items()])
        yield retriever


def found(retriever: ColBERTRetriever, filters: Any) -> set[str]:
    retriever.filters = filters
    return {each.node_id for each in retriever.retrieve("anything")}


def theirs(filters: MetadataFilters) -> set[str] | None:
    """What passes in LlamaIndex's own store; None of an older one, for which a missing field was not unequal."""
    build = getattr(host, "build_metadata_filter_fn", None)
    return None if build is None else {id for id in METADATA if build(METADATA.__getitem__, filters)(id)}


def one(key: str, operator: Op, value: Any) -> MetadataFilters:
    return MetadataFilters(filters=[MetadataFilter(key=key, operator=operator, value=value)])


@pytest.mark.parametrize(("key", "operator", "value", "passes"), CONDITIONS)
def test_each_operator(retriever: ColBERTRetriever, key: str, operator: Op, value: Any, passes: set[str]) -> None:
    filters = one(key, operator, value)
    assert found(retriever, filters) == passes
    assert retriever.filters is filters
    assert theirs(filters) in (passes, None)


def nested(levels: int) -> MetadataFilters:
    """As nobody builds it and pydantic does not check it."""
    filters = one("lang", Op.EQ, "en")
    for _ in range(levels):
        filters = MetadataFilters.model_construct(filters=[filters], condition=FilterCondition.AND)
    return filters


EN, LATE = MetadataFilter(key="lang", value="en"), MetadataFilter(key="year", operator=Op.GTE, value=2022)


@pytest.mark.parametrize(
    ("condition", "passes"),
    [
        (FilterCondition.AND, set()),
        (None, set()),
        (FilterCondition.OR, {"full", "other", "sparse"}),
        (FilterCondition.NOT, {"null", "bare", "blank"}),
    ],
)
def test_each_condition(retriever: ColBERTRetriever, condition: FilterCondition | None, passes: set[str]) -> None:
    filters = MetadataFilters(filters=[EN, LATE], condition=condition)
    assert found(retriever, filters) == passes
    assert theirs(filters) in (passes, None)


def test_groups_in_groups(retriever: ColBERTRetriever) -> None:
    tagged = MetadataFilter(key="tags", operator=Op.CONTAINS, value="b")
    inner = MetadataFilters(filters=[EN, LATE], condition=FilterCondition.OR)
    assert found(retriever, MetadataFilters(filters=[inner, tagged])) == {"full", "other"}
    none = MetadataFilters(filters=[inner], condition=FilterCondition.NOT)
    assert found(retriever, MetadataFilters(filters=[none])) == {"null", "bare", "blank"}


@pytest.mark.parametrize("condition", list(FilterCondition))
def test_a_group_of_nothing_lets_all_pass(retriever: ColBERTRetriever, condition: FilterCondition) -> None:
    assert found(retriever, MetadataFilters(filters=[], condition=condition)) == set(METADATA)
    assert found(retriever, None) == set(METADATA)


def test_a_filter_without_its_group(retriever: ColBERTRetriever) -> None:
    assert found(retriever, EN) == {"full"}


def test_the_dialect_of_the_stores(retriever: ColBERTRetriever) -> None:
    assert found(retriever, {"year": {"$gte": 2022}, "$or": [{"lang": "de"}, {"tags": "x"}]}) == {"other"}


def test_a_filter_of_the_engine(tiny: ColBERT) -> None:
    with QdrantStore(QdrantClient(":memory:"), "nodes", tiny) as store:
        retriever = ColBERTRetriever(store)
        retriever.add_nodes([TextNode(id_=id, text=id, metadata=metadata) for id, metadata in METADATA.items()])
        condition = models.FieldCondition(key="metadata.lang", match=models.MatchValue(value="de"))
        assert found(retriever, models.Filter(must=[condition])) == {"other"}


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        (one("title", Op.TEXT_MATCH, "moon"), r"filters\[0\]: got the operator TEXT_MATCH for 'title'"),
        (one("title", Op.TEXT_MATCH_INSENSITIVE, "moon"), "TEXT_MATCH_INSENSITIVE"),
        (one("at", Op.GT, "2020-01-01"), r"'at' GT: .*store dates as seconds"),
        (one("year", Op.EQ, [2020]), r"'year' EQ: .*\$in"),
        (one("year", Op.IN, 2020), "'year' IN: .*wanted a list"),
        (one("tags", Op.ANY, "a"), "'tags' ANY: .*wanted a list"),
        (one("tags", Op.ALL, "a"), "'tags' ALL, wanted a list"),
        (one("tags", Op.ALL, []), "'tags' ALL, wanted a list of values, at least one"),
        (one("price", Op.LT, None), "'price' LT: .*wanted a number"),
        (one('a"b', Op.EQ, 1), "quote"),
        (one('"lang"', Op.EQ, "en"), "quote"),
        (nested(500), r"filters\[0\]\.\S*\.\.\.: nested deeper than 64 levels"),
        (MetadataFilters(filters=[EN, one("t", Op.TEXT_MATCH, "x")]), r"filters\[1\].filters\[0\]: got the operator"),
        ({"year": {"$like": 3}}, "unknown operator"),
    ],
)
def test_what_no_store_can_do_is_refused_when_it_is_given(tiny: ColBERT, filters: Any, message: str) -> None:
    with LocalStore(tiny) as store:
        with pytest.raises(ArgumentError, match=message):
            ColBERTRetriever(store, filters=filters)
        retriever = ColBERTRetriever(store, filters={"lang": "en"})
        with pytest.raises(ArgumentError, match=message):
            retriever.filters = filters
        assert retriever.filters == {"lang": "en"}, "the old one holds"
