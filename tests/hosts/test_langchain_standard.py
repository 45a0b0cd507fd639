"""LangChain's own suites (langchain-tests), over every store, with real weights. None of their tests is left out."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hosts_contract import WEAVIATE
from langchain_core.runnables import RunnableLambda
from langchain_tests.integration_tests import RetrieversIntegrationTests, VectorStoreIntegrationTests
from qdrant_client import AsyncQdrantClient, QdrantClient

from chandelier import ColBERT, Document, LocalStore, MeanVector, Store
from chandelier.langchain import ColBERTRerank, ColBERTRetriever, ColBERTVectorStore, TwoStageRetriever
from chandelier.plaid import PlaidStore
from chandelier.qdrant import QdrantStore
from chandelier.qdrant_edge import QdrantEdgeStore
from chandelier.weaviate import WeaviateStore

if TYPE_CHECKING:
    from weaviate_server import WeaviateServer

TEXTS = {
    "bread": "The bakery opens at six and sells bread until noon.",
    "light": "Lighthouses keep ships away from the rocks at night.",
    "money": "Send the goods back within 30 days and the money is returned.",
    "paris": "Paris is the capital of France.",
    "moon": "The moon pulls the sea, twice a day.",
}

STORES: dict[str, Callable[[ColBERT, Path], Store]] = {
    "memory": lambda model, folder: LocalStore(model),
    "file": lambda model, folder: LocalStore(model, folder / "store.db"),
    "qdrant": lambda model, folder: QdrantStore(QdrantClient(":memory:"), "notes", model),
    "qdrant-prefetch": lambda model, folder: QdrantStore(
        QdrantClient(":memory:"), "notes", model, prefetch=MeanVector(model.dim)
    ),
    "edge": lambda model, folder: QdrantEdgeStore(folder / "edge", model),
    "plaid": lambda model, folder: PlaidStore(folder / "plaid", model),
}


@pytest.fixture(params=[*STORES, *WEAVIATE])
def store(request: pytest.FixtureRequest, minilm: ColBERT, tmp_path: Path) -> Iterator[Store]:
    if request.param in WEAVIATE:
        made: Store = request.getfixturevalue("open_weaviate")(minilm, request.param)
    else:
        made = STORES[request.param](minilm, tmp_path)
    with made as store:
        yield store


@pytest.fixture
def filled(store: Store) -> Store:
    assert not store.upsert(Document(id, text) for id, text in TEXTS.items()).failed
    return store


class TestRetriever(RetrieversIntegrationTests):
    @pytest.fixture(autouse=True)
    def _over(self, filled: Store) -> None:
        self.store = filled

    @property
    def retriever_constructor(self) -> type[ColBERTRetriever]:
        return ColBERTRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"store": self.store}

    @property
    def retriever_query_example(self) -> str:
        return "when can I buy bread?"


@pytest.mark.parametrize("store", ["memory"], indirect=True)
class TestTwoStages(RetrieversIntegrationTests):
    @pytest.fixture(autouse=True)
    def _over(self, filled: Store) -> None:
        self.first: Any = ColBERTRetriever(store=filled, k=5)
        self.second = ColBERTRerank(model=filled.model, top_n=2)

    @property
    def retriever_constructor(self) -> type[TwoStageRetriever]:
        return TwoStageRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"retriever": self.first, "reranker": self.second}

    @property
    def retriever_query_example(self) -> str:
        return "when can I buy bread?"


class TestTwoStagesOfAnyRunnable(TestTwoStages):
    @pytest.fixture(autouse=True)
    def _over(self, filled: Store) -> None:
        self.first = RunnableLambda(ColBERTVectorStore(filled).similarity_search)
        self.second = ColBERTRerank(model=filled.model)


class TestVectorStore(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, store: Store) -> ColBERTVectorStore:
        return ColBERTVectorStore(store)


class TestVectorStoreOfAnAsynchronousClient(VectorStoreIntegrationTests):
    """Of such a client only the asynchronous half can be called."""

    @property
    def has_sync(self) -> bool:
        return False

    @pytest.fixture
    def vectorstore(self, minilm: ColBERT) -> ColBERTVectorStore:
        return ColBERTVectorStore(QdrantStore(AsyncQdrantClient(":memory:"), "notes", minilm))


class TestVectorStoreOfAnAsynchronousWeaviate(TestVectorStoreOfAnAsynchronousClient):
    @pytest.fixture
    async def vectorstore(self, minilm: ColBERT, weaviate_server: WeaviateServer) -> AsyncIterator[ColBERTVectorStore]:
        name = f"Notes{uuid.uuid4().hex}"
        async with weaviate_server.connect_async() as client:
            yield ColBERTVectorStore(WeaviateStore(client, name, minilm))
            await client.collections.delete(name)
