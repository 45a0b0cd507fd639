"""`ColBERTRetriever`: the contract of all hosts, and what is Haystack's own."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from haystack import Document
from haystack.components.retrievers import MultiQueryTextRetriever
from haystack.document_stores.types import FilterPolicy
from haystack.errors import FilterError
from hosts_contract import QUESTION, TEXTS, AsyncRetrievalContract, Result, RetrievalContract, items
from qdrant_client import AsyncQdrantClient

from chandelier import ArgumentError, ColBERT, LocalStore, MeanVector, ShapeError, Store, StoreError
from chandelier import Document as StoreDocument
from chandelier.haystack import ColBERTDocumentWriter, ColBERTRetriever, retriever
from chandelier.qdrant import QdrantStore
from chandelier.qdrant_edge import QdrantEdgeStore
from chandelier.shared import SHARED, release_models
from chandelier.store import handles, open_store

SIGNS = {"$eq": "==", "$gte": ">=", "$lt": "<"}


class TestRetriever(RetrievalContract):
    def component(self, store: Any, **options: Any) -> ColBERTRetriever:
        names = {"k": "top_k", "filter": "filters"}
        return ColBERTRetriever(store, **{names.get(name, name): value for name, value in options.items()})

    def filter(self, dialect: dict[str, Any]) -> dict[str, Any]:
        ((name, condition),) = dialect.items()
        ((operator, value),) = condition.items()
        return {"field": f"meta.{name}", "operator": SIGNS[operator], "value": value}

    def read(self, documents: list[Document]) -> list[Result]:
        results = []
        for document in documents:
            meta = dict(document.meta)
            explanation = meta.pop("explanation", None)
            assert document.content is not None
            assert document.score is not None
            results.append(Result(document.id, document.content, meta, document.score, explanation=explanation))
        return results

    def search(self, component: ColBERTRetriever, query: str, **per_call: Any) -> list[Document]:
        found: list[Document] = component.run(query, per_call.get("filter"), per_call.get("k"))["documents"]
        return found


class TestRetrieverInALoop(AsyncRetrievalContract, TestRetriever):
    search = AsyncRetrievalContract.search

    async def asearch(self, component: ColBERTRetriever, query: str, **per_call: Any) -> list[Document]:
        found = await component.run_async(query, per_call.get("filter"), per_call.get("k"))
        documents: list[Document] = found["documents"]
        return documents


@pytest.fixture(scope="module")
def edge_store(tiny: ColBERT, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with QdrantEdgeStore(tmp_path_factory.mktemp("edge") / "shard", tiny, datatype="float32") as store:
        texts = [*TEXTS[:-1], "The sea is deep."]  # no two alike, whose order the engine leaves open
        store.upsert(StoreDocument(item.id, item.text, item.metadata) for item in items(texts))
        yield store


class TestOverEdge(TestRetriever):
    """Another store, of which only the protocol is known."""

    @pytest.fixture
    def store(self, edge_store: Store) -> Store:
        return edge_store


class OverWeaviate:
    """Another store, of which only the protocol is known."""

    @pytest.fixture
    def store(self, filled_weaviate: Store) -> Store:
        return filled_weaviate


class TestOverWeaviate(OverWeaviate, TestRetriever):
    pass


class TestOverWeaviateInALoop(OverWeaviate, TestRetrieverInALoop):
    pass


@pytest.fixture
def store(tiny: ColBERT) -> Iterator[Store]:
    with LocalStore(tiny) as store:
        store.upsert(StoreDocument(item.id, item.text, item.metadata) for item in items())
        yield store


def found(component: ColBERTRetriever, *arguments: Any, **options: Any) -> list[str]:
    return [document.id for document in component.run(*arguments, **options)["documents"]]


async def test_rows_are_as_good_as_their_text(store: Store) -> None:
    component = ColBERTRetriever(store)
    rows = store.model.encode_queries([QUESTION])[0].tolist()
    by_text = component.run(QUESTION)["documents"]
    assert component.run(query_multivector_embedding=rows)["documents"] == by_text
    assert (await component.run_async(query_multivector_embedding=rows))["documents"] == by_text


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, ArgumentError, "got neither of query and query_multivector_embedding"),
        ({"query": "x", "query_multivector_embedding": [[1.0]]}, ArgumentError, "got both"),
        ({"query": 3}, ArgumentError, "query"),
        ({"query": "x", "top_k": 0}, ArgumentError, "top_k"),
        ({"query_multivector_embedding": []}, ShapeError, "query_multivector_embedding"),
        ({"query_multivector_embedding": [1.0, 2.0]}, ShapeError, "query_multivector_embedding"),
        ({"query_multivector_embedding": [[1.0], [1.0, 2.0]]}, ShapeError, "query_multivector_embedding"),
        ({"query_multivector_embedding": [["x"]]}, ShapeError, "query_multivector_embedding"),
        ({"query_multivector_embedding": [[1.0, 2.0]]}, ShapeError, "32"),
        ({"query": "x", "filters": {"lang": "en"}}, FilterError, "filters"),
    ],
    ids=str,
)
async def test_a_bad_call_is_refused_by_name(
    store: Store, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    component = ColBERTRetriever(store)
    with pytest.raises(error, match=message):
        component.run(**options)
    with pytest.raises(error, match=message):
        await component.run_async(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"top_k": 1.5},
        {"filters": {"lang": "en"}},
        {"filter_policy": "replace"},
        {"depth": 3, "top_k": 10},
        {"explain": 1},
        {"exact": None},
        {"return_embedding": "yes"},
    ],
    ids=str,
)
def test_a_bad_option_is_named(store: Store, options: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match=next(iter(options))):
        ColBERTRetriever(store, **options)


PAGES = {"field": "meta.page", "operator": ">=", "value": 2}
FEW = {"field": "meta.page", "operator": "<", "value": 4}
OTHERS = {"operator": "AND", "conditions": [{"field": "meta.page", "operator": "!=", "value": 3}, {**FEW, "value": 6}]}


@pytest.mark.parametrize(
    ("policy", "own", "per_run", "pages"),
    [
        (FilterPolicy.REPLACE, PAGES, FEW, {0, 1, 2, 3}),
        (FilterPolicy.REPLACE, PAGES, None, {2, 3, 4, 5, 6}),
        (FilterPolicy.REPLACE, PAGES, {}, {2, 3, 4, 5, 6}),
        (FilterPolicy.REPLACE, None, FEW, {0, 1, 2, 3}),
        (FilterPolicy.MERGE, PAGES, OTHERS, {0, 1, 2, 4, 5}),
        (FilterPolicy.MERGE, OTHERS, {"field": "meta.tags", "operator": "==", "value": "a"}, {0, 1, 2, 4, 5}),
        (FilterPolicy.MERGE, OTHERS, OTHERS, {0, 1, 2, 4, 5}),
    ],
    ids=str,
)
def test_filters_are_replaced_or_merged_as_haystack_does_it(
    store: Store, policy: FilterPolicy, own: Any, per_run: Any, pages: set[int]
) -> None:
    given = copy.deepcopy((own, per_run))
    component = ColBERTRetriever(store, filters=own, filter_policy=policy)
    for _ in range(2):  # Haystack 3.0 changes the filters that it merges
        assert {int(id.removeprefix("id-")) for id in found(component, QUESTION, per_run)} == pages
    assert (own, per_run) == given
    if own is not None:
        own.clear()  # nor does a change of what was given change the component
        assert {int(id.removeprefix("id-")) for id in found(component, QUESTION, per_run)} == pages
        own.update(given[0])


def test_the_hosts_own_retriever_of_many_queries(store: Store) -> None:
    """A `TextRetriever` by its protocol, called from threads."""
    component = ColBERTRetriever(store, top_k=2)
    queries = ["the moon", "bread", QUESTION]
    expected = {id for query in queries for id in found(component, query)}
    merged = MultiQueryTextRetriever(retriever=component).run(queries)["documents"]
    assert {document.id for document in merged} == expected
    scores = [document.score for document in merged]
    assert scores == sorted(scores, reverse=True)


def test_an_asynchronous_client(tiny: ColBERT) -> None:
    async def main() -> None:
        client = AsyncQdrantClient(":memory:")
        store = QdrantStore(client, "notes", tiny, prefetch=MeanVector(tiny.dim))
        await store.aupsert([StoreDocument(item.id, item.text, item.metadata) for item in items()])
        component = ColBERTRetriever(store, top_k=3, exact=True)
        result = await component.run_async(QUESTION, filters=PAGES)
        assert len(result["documents"]) == 3
        with pytest.raises(StoreError, match="AsyncQdrantClient"):
            component.run(QUESTION)
        await client.close()

    asyncio.run(main())


@pytest.mark.filterwarnings("ignore:Mutating attribute 'id':Warning")  # of a class of the host that is subclassed
def test_rows_come_back_where_documents_have_room_for_them(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ArgumentError, match=r"no Document\.multivector_embedding"):
        ColBERTRetriever(store, return_embedding=True)

    @dataclass
    class ComingDocument(Document):
        """What Haystack's own is announced to be."""

        multivector_embedding: list[list[float]] | None = None

    monkeypatch.setattr(retriever, "Document", ComingDocument)
    (document,) = ColBERTRetriever(store, top_k=1, return_embedding=True).run(QUESTION)["documents"]
    (stored,) = store.get([document.id], with_vectors=True)
    assert stored.vectors is not None
    assert document.multivector_embedding == np.asarray(stored.vectors).tolist()
    (document,) = ColBERTRetriever(store, top_k=1).run(QUESTION)["documents"]
    assert document.multivector_embedding is None


class TestDictionaries:
    def test_nothing_is_opened(self, tmp_path: Path) -> None:
        release_models()
        description = {
            "type": "LocalStore",
            "model": {"model_name_or_path": str(tmp_path / "not-there"), "query_length": 24},
            "path": str(tmp_path / "notes.db"),
        }
        options: dict[str, Any] = {
            "top_k": 3,
            "filters": PAGES,
            "filter_policy": FilterPolicy.MERGE,
            "score_normalization": "none",
            "score_threshold": 1.5,
            "depth": 50,
            "explain": True,
            "exact": True,
            "return_embedding": False,
        }
        given = ColBERTRetriever(description, **options).to_dict()
        assert given == {
            "type": "chandelier.haystack.retriever.ColBERTRetriever",
            "init_parameters": {"store": description, **options, "filter_policy": "merge"},
        }
        before = json.dumps(given)
        again = ColBERTRetriever.from_dict(given)
        assert json.dumps(given) == before
        assert again.to_dict() == given
        assert not SHARED.models
        assert not list(tmp_path.iterdir())
        with pytest.raises(FileNotFoundError, match="not-there"):
            again.run(QUESTION)

    def test_an_open_store_is_described(self, tiny: ColBERT, tmp_path: Path) -> None:
        with LocalStore(tiny, tmp_path / "notes.db") as store:
            store.upsert(StoreDocument(item.id, item.text, item.metadata) for item in items())
            component = ColBERTRetriever(store, top_k=3)
            documents = component.run(QUESTION)["documents"]
            given = json.loads(json.dumps(component.to_dict()))
        again = ColBERTRetriever.from_dict(given)
        assert again.run(QUESTION)["documents"] == documents
        again.close()
        assert again.run(QUESTION)["documents"] == documents  # opened once more
        again.close()

    @pytest.mark.parametrize("copied", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
    def test_copies_open_nothing(self, tiny: ColBERT, tmp_path: Path, copied: Any) -> None:
        with LocalStore(tiny, tmp_path / "notes.db") as store:
            store.upsert(StoreDocument(item.id, item.text, item.metadata) for item in items())
            component = ColBERTRetriever(store.description, top_k=3)
            release_models()
            other = copied(component)
            assert not SHARED.models
            assert other.run(QUESTION) == ColBERTRetriever(store, top_k=3).run(QUESTION)
        other.close()

    def test_a_store_in_memory_is_refused(self, store: Store) -> None:
        with pytest.raises(StoreError, match="in memory"):
            ColBERTRetriever(store).to_dict()

    @pytest.mark.parametrize(
        "parameter", [{"topk": 3}, {"filter_policy": "both"}, {"filter_policy": ["merge"]}, {"filter_policy": None}]
    )
    def test_a_bad_parameter_is_refused(self, tiny: ColBERT, tmp_path: Path, parameter: dict[str, Any]) -> None:
        store = {"type": "LocalStore", "model": tiny.arguments, "path": str(tmp_path / "notes.db")}
        given = ColBERTRetriever(store).to_dict()
        given["init_parameters"].update(parameter)
        with pytest.raises((TypeError, ValueError), match=next(iter(parameter)) + "|FilterPolicy"):
            ColBERTRetriever.from_dict(given)


async def test_a_described_store_is_opened_in_another_thread(
    tiny: ColBERT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening a model takes its time: the loop is not to wait for it."""
    threads = []

    def opened(description: dict[str, Any]) -> Store:
        threads.append(threading.current_thread())
        return open_store(description)

    monkeypatch.setattr(handles, "open_store", opened)
    with LocalStore(tiny, tmp_path / "notes.db") as store:
        description = store.description
    for component, arguments in ((ColBERTRetriever(description), QUESTION), (ColBERTDocumentWriter(description), [])):
        await component.run_async(arguments)
        component.close()
    assert len(threads) == 2
    assert threading.current_thread() not in threads


async def test_an_open_store_survives_the_component(store: Store) -> None:
    component = copy.deepcopy(ColBERTRetriever(store))
    await component.warm_up_async()
    component.warm_up()
    component.close()
    assert store.count() == len(items())
    assert found(component, QUESTION)
