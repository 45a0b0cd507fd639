"""`TwoStageRetriever`: one retriever finds candidates, a reranker orders them."""

from __future__ import annotations

from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import Runnable, RunnableConfig
from pydantic import ConfigDict, model_validator
from typing_extensions import Self, override

from chandelier.exceptions import ArgumentError
from chandelier.langchain.documents import Count, checked_documents
from chandelier.multivectors import checked_count
from chandelier.scores import checked_question

__all__ = ["TwoStageRetriever"]


class TwoStageRetriever(BaseRetriever):
    """Asks a retriever for candidates and a reranker for their order; both are spans of their own in traces.

    `ContextualCompressionRetriever` without langchain-classic, but for `k`: as with every retriever it is how many
    documents come out. Per call, `invoke(query, k=5, candidates=100, filter=...)`: whatever else is given goes to the
    retriever.

    Args:
        retriever: Any retriever of LangChain, or a runnable that takes a query and gives documents.
        reranker: Any compressor: a `ColBERTRerank`, or another.
        k: How many documents come out; None for as many as the reranker returns by itself. A reranker with a `top_n`
            gets it, so `k` may also be more than that.
        candidates: How many the retriever is asked for, by its keyword `k`; None for as many as it finds by itself.

    Raises:
        ValidationError: If an argument is none of these; it is a `ValueError`. For one call it is an `ArgumentError`,
            and so it is for a query that asks nothing, and where the retriever finds what are no documents.

    Examples:
        >>> from chandelier.langchain import ColBERTRerank
        >>> from langchain_core.runnables import RunnableLambda
        >>> search = RunnableLambda(lambda query: [Document("Bread needs flour."), Document("Paris is in France.")])
        >>> rerank = ColBERTRerank(model="tests/goldens/a_bert_pylate/checkpoint")
        >>> best = TwoStageRetriever(retriever=search, reranker=rerank, k=1).invoke("where is paris?")
        >>> [document.page_content for document in best]
        ['Paris is in France.']
    """

    model_config = ConfigDict(extra="forbid")

    retriever: Runnable[str, list[Document]]
    reranker: BaseDocumentCompressor
    k: Count | None = None
    candidates: Count | None = None

    @model_validator(mode="after")
    def _checked(self) -> Self:
        _check(k=self.k, candidates=self.candidates)
        return self

    @override
    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,
        k: int | None = None,
        candidates: int | None = None,
        **per_call: Any,
    ) -> list[Document]:
        asked, question = self._asked(k, candidates), checked_question(query)
        child = RunnableConfig(callbacks=run_manager.get_child())
        found = self.retriever.invoke(question, child, **asked._first(per_call))
        documents, reranker = checked_documents(found, "retriever"), asked._second()
        if not documents:
            return []
        best = reranker.compress_documents(documents, question, callbacks=run_manager.get_child())
        return list(best)[: asked.k]

    @override
    async def _aget_relevant_documents(
        self,
        query: str,
        *,
        run_manager: AsyncCallbackManagerForRetrieverRun,
        k: int | None = None,
        candidates: int | None = None,
        **per_call: Any,
    ) -> list[Document]:
        asked, question = self._asked(k, candidates), checked_question(query)
        child = RunnableConfig(callbacks=run_manager.get_child())
        found = await self.retriever.ainvoke(question, child, **asked._first(per_call))
        documents, reranker = checked_documents(found, "retriever"), asked._second()
        if not documents:
            return []
        best = await reranker.acompress_documents(documents, question, callbacks=run_manager.get_child())
        return list(best)[: asked.k]

    def _asked(self, k: int | None, candidates: int | None) -> Self:
        """This retriever, but for what one call wants otherwise."""
        _check(k=k, candidates=candidates)
        given = {"k": k, "candidates": candidates}
        return self.model_copy(update={name: value for name, value in given.items() if value is not None})

    def _first(self, per_call: dict[str, Any]) -> dict[str, Any]:
        """The keywords of the retriever, refused if it would drop them without a word."""
        for name in ("top_n", "top_k"):
            if name in per_call:
                message = f"{name}: k is how many come out, and candidates how many the first stage is asked for"
                raise ArgumentError(message, argument=name)
        asked = per_call if self.candidates is None else {**per_call, "k": self.candidates}
        # What `BaseRetriever.invoke` looks at; other runnables pass keywords on, and say themselves what is unknown.
        if asked and isinstance(self.retriever, BaseRetriever) and not self.retriever._expects_other_args:
            names = ", ".join(asked)
            message = f"{type(self.retriever).__name__} takes no keywords for a call, and would pass over {names}"
            raise ArgumentError(f"retriever: {message}; set them where it is made", argument="retriever")
        return asked

    def _second(self) -> BaseDocumentCompressor:
        if self.k is None or "top_n" not in type(self.reranker).model_fields:
            return self.reranker
        return self.reranker.model_copy(update={"top_n": self.k})


def _check(**counts: int | None) -> None:
    for name, count in counts.items():
        if count is not None:
            checked_count(name, count)
