"""What all hosts share, under their own contract: `Reranker` and `Retrieval`, synchronous and asynchronous."""

from __future__ import annotations

from typing import Any

from hosts_contract import AsyncRerankContract, AsyncRetrievalContract, Item, RerankContract, Result, RetrievalContract

from chandelier.rerank import Reranker, explanation_notes
from chandelier.retrieval import Retrieval
from chandelier.store import Hit


class TestReranker(RerankContract):
    def component(self, model: Any, **options: Any) -> Reranker:
        return Reranker(model, **options)

    def documents(self, items: list[Item]) -> list[Item]:
        return items

    def rerank(self, component: Reranker, query: str, documents: list[Any]) -> list[Any]:
        return self.named(component.rerank(query, [each.text for each in documents]), documents)

    def named(self, found: list[Any], documents: list[Any]) -> list[Any]:
        return [
            Result(
                documents[each.index].id,
                documents[each.index].text,
                documents[each.index].metadata,
                each.score,
                each.truncated,
                explanation_notes(each.explanation) if each.explanation else None,
            )
            for each in found
        ]

    def read(self, documents: list[Any]) -> list[Result]:
        return documents


class TestRerankerInALoop(AsyncRerankContract, TestReranker):
    rerank = AsyncRerankContract.rerank

    async def arerank(self, component: Reranker, query: str, documents: list[Any]) -> list[Any]:
        return self.named(await component.arerank(query, [each.text for each in documents]), documents)


class TestRetrieval(RetrievalContract):
    def component(self, store: Any, **options: Any) -> Retrieval:
        return Retrieval(store, **options)

    def read(self, documents: list[Hit]) -> list[Result]:
        return [
            Result(
                hit.id,
                hit.text,
                hit.metadata,
                hit.score,
                explanation=explanation_notes(hit.explanation) if hit.explanation else None,
            )
            for hit in documents
        ]

    def search(self, component: Retrieval, query: str, **per_call: Any) -> list[Hit]:
        return component.search(query, **per_call)


class TestRetrievalInALoop(AsyncRetrievalContract, TestRetrieval):
    search = AsyncRetrievalContract.search

    async def asearch(self, component: Retrieval, query: str, **per_call: Any) -> list[Hit]:
        return await component.asearch(query, **per_call)
