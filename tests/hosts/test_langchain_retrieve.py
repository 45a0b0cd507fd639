"""`ColBERTRetriever`: the contract of all retrievers, in four ways to call it, and what only LangChain asks for."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
from hosts_contract import QUESTION, AsyncRetrievalContract, Result, RetrievalContract, items
from langchain_core.documents import Document
from langchain_core.load import dumpd
from langchain_core.runnables import ConfigurableField
from test_langchain_rerank import as_result

from chandelier import ArgumentError, ColBERT, LocalStore, Muvera, Store
from chandelier import Document as Entry
from chandelier.langchain import ColBERTRetriever
from chandelier.qdrant_edge import QdrantEdgeStore


class TestRetrieve(RetrievalContract):
    def component(self, store: Any, **options: Any) -> ColBERTRetriever:
        return ColBERTRetriever(store=store, **options)

    def read(self, documents: list[Document]) -> list[Result]:
        return [as_result(document) for document in documents]

    def search(self, component: ColBERTRetriever, query: str, **per_call: Any) -> list[Document]:
        return component.invoke(query, None, **per_call)


class TestRetrieveInALoop(AsyncRetrievalContract, TestRetrieve):
    search = AsyncRetrievalContract.search

    async def asearch(self, component: ColBERTRetriever, query: str, **per_call: Any) -> list[Document]:
        return await component.ainvoke(query, None, **per_call)


class TestBatch(TestRetrieve):
    def search(self, component: ColBERTRetriever, query: str, **per_call: Any) -> list[Document]:
        one, other = component.batch([query, query], None, **per_call)
        assert one == other
        return one


class TestBatchInALoop(AsyncRetrievalContract, TestRetrieve):
    search = AsyncRetrievalContract.search

    async def asearch(self, component: ColBERTRetriever, query: str, **per_call: Any) -> list[Document]:
        (found,) = await component.abatch([query], None, **per_call)
        return found


@pytest.fixture
def store(tiny: ColBERT) -> Any:
    with LocalStore(tiny) as store:
        store.upsert(Entry(item.id, item.text, item.metadata) for item in items())
        yield store


async def test_every_option_for_one_call(store: Store) -> None:
    retriever = ColBERTRetriever(store=store, k=10, filter={"page": {"$gte": 4}}, explain=True)
    plain = ColBERTRetriever(store=store, k=10)
    everything = plain.invoke(QUESTION)
    middle = everything[3].metadata["relevance_score"]
    for per_call, wanted in (
        ({"filter": {}, "explain": False}, everything),
        ({"filter": {}, "explain": False, "k": 2, "depth": 5, "exact": True}, everything[:2]),
        ({"filter": {}, "explain": False, "score_threshold": middle}, everything[:4]),
        (
            {"filter": {}, "explain": False, "score_normalization": "none"},
            ColBERTRetriever(store=store, k=10, score_normalization="none").invoke(QUESTION),
        ),
        ({"k": None, "filter": None, "explain": None}, retriever.invoke(QUESTION)),
    ):
        assert retriever.invoke(QUESTION, **per_call) == wanted
        assert await retriever.ainvoke(QUESTION, **per_call) == wanted
    assert [found.metadata["page"] >= 4 for found in retriever.invoke(QUESTION)] == [True] * 3
    assert all("explanation" in found.metadata for found in retriever.invoke(QUESTION))


async def test_an_unknown_keyword_for_one_call_is_an_error(store: Store) -> None:
    retriever = ColBERTRetriever(store=store)
    for per_call in ({"kk": 3}, {"store": store}, {"k": 3, "fliter": {}}):
        with pytest.raises(ArgumentError, match=r"got the unknown keyword '(kk|store|fliter)', wanted k"):
            retriever.invoke(QUESTION, **per_call)
        with pytest.raises(ArgumentError, match="unknown keyword"):
            await retriever.ainvoke(QUESTION, **per_call)
    for per_call in ({"k": 0}, {"k": "3"}, {"depth": 1}, {"explain": "yes"}, {"filter": {"page": {"$near": 3}}}):
        with pytest.raises(ArgumentError):
            retriever.invoke(QUESTION, **per_call)


def test_what_is_stored_under_our_keys_stays_but_for_the_score(store: Store) -> None:
    mine = {"relevance_score": "mine", "truncated": "mine", "explanation": "mine"}
    store.upsert([Entry("mine", "Paris is the capital of France.", mine)])
    (found,) = ColBERTRetriever(store=store, filter={"truncated": "mine"}).invoke(QUESTION)
    assert found.metadata == {**mine, "relevance_score": found.metadata["relevance_score"]}
    assert 0 < found.metadata["relevance_score"] <= 1
    assert store.get(["mine"])[0].metadata == mine


def test_what_is_changed_later_counts(store: Store) -> None:
    retriever = ColBERTRetriever(store=store)
    assert len(retriever.model_copy(update={"k": 1}).invoke(QUESTION)) == 1
    retriever.k = 2
    retriever.score_threshold = -1.0
    assert len(retriever.invoke(QUESTION)) == 2
    retriever.score_threshold = 1.1
    assert retriever.invoke(QUESTION) == []


def test_fields_can_be_configured(store: Store) -> None:
    retriever = ColBERTRetriever(store=store).configurable_fields(k=ConfigurableField(id="k"))
    assert len(retriever.with_config(configurable={"k": 1}).invoke(QUESTION)) == 1
    assert len(retriever.invoke(QUESTION)) == 4


def test_copies_search_the_same_store(store: Store) -> None:
    retriever = ColBERTRetriever(store=store, filter={"page": {"$in": [1, 2]}})
    for other in (copy.copy(retriever), copy.deepcopy(retriever), copy.deepcopy([retriever])[0]):
        assert other.store is store
        assert other.invoke(QUESTION) == retriever.invoke(QUESTION)
    other = copy.deepcopy(retriever)
    other.filter["page"]["$in"].append(3)
    assert retriever.filter == {"page": {"$in": [1, 2]}}


def test_a_retriever_over_a_file_pickles(tiny: ColBERT, tmp_path: Path) -> None:
    with LocalStore(tiny, tmp_path / "store.db") as store:
        store.upsert(Entry(item.id, item.text) for item in items())
        retriever = ColBERTRetriever(store=store, k=2)
        other = pickle.loads(pickle.dumps(retriever))
        with other.store:
            assert other.invoke(QUESTION) == retriever.invoke(QUESTION)


def test_langchain_does_not_write_what_it_could_not_open(store: Store) -> None:
    assert dumpd(ColBERTRetriever(store=store))["type"] == "not_implemented"


def test_depth_reaches_the_store(tiny: ColBERT, tmp_path: Path) -> None:
    with QdrantEdgeStore(tmp_path / "edge", tiny, prefetch=Muvera(tiny.dim, ksim=1, dprojections=2)) as store:
        store.upsert(Entry(f"{number}", f"{number} loaves of bread and {number * 7} boats") for number in range(40))
        exact = [hit.id for hit in store.search(QUESTION, 3, exact=True)]
        shallow = [found.id for found in ColBERTRetriever(store=store, k=3, depth=3).invoke(QUESTION)]
        deep = [found.id for found in ColBERTRetriever(store=store, k=3, depth=3).invoke(QUESTION, exact=True)]
        assert deep == exact != shallow
