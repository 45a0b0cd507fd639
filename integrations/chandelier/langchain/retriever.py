"""`ColBERTRetriever`: the documents of a store, found by MaxSim."""

from __future__ import annotations

from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever, LangSmithRetrieverParams
from pydantic import ConfigDict, SkipValidation, model_validator
from typing_extensions import Self, override

from chandelier.langchain.documents import SCORE, Count, document_of, refuse_unknown
from chandelier.retrieval import Retrieval, checked_store
from chandelier.scores import Normalization
from chandelier.store import Hit, Store

__all__ = ["ColBERTRetriever"]

PER_CALL = ("k", "filter", "score_normalization", "score_threshold", "depth", "explain", "exact")


class ColBERTRetriever(BaseRetriever):
    """Finds the documents of a store, best first, each with `relevance_score` in its metadata.

    All fields but `store` can also be given for one call, `retriever.invoke(query, k=3, filter={"lang": "en"})`, in
    `ainvoke`, `batch` and `abatch` too; None means what the retriever says. `filter={}` lifts the retriever's filter.
    Asynchronous calls are those of the store. Copies search the same store.

    Args:
        store: Any store of chandelier: `LocalStore`, `QdrantStore`, ...
        k: How many documents; fewer come if there are fewer, or few pass.
        filter: What the metadata must be like, in the dialect of `chandelier.store.filters` or the engine's own.
        score_normalization: `"query_length"` divides MaxSim by the query's vectors, `"none"` leaves it; see
            `chandelier.scores.Scoring`.
        score_threshold: The lowest score to return, after normalisation; None for all.
        depth: How many candidates are scored exactly, where the store does not score all.
        explain: Whether to say which words matched: `explanation` in the metadata, see
            `chandelier.rerank.explanation_notes`.
        exact: Whether to score all documents, whatever finds candidates otherwise.

    Raises:
        ValidationError: If an argument is none of these; it is a `ValueError`. For one call it is an `ArgumentError`.

    Examples:
        >>> from chandelier import ColBERT, Document, LocalStore
        >>> store = LocalStore(ColBERT("tests/goldens/a_bert_pylate/checkpoint"))
        >>> report = store.upsert([Document("a", "Bread needs flour."), Document("b", "Paris is in France.")])
        >>> retriever = ColBERTRetriever(store=store, k=1)
        >>> [(found.id, round(found.metadata["relevance_score"], 2)) for found in retriever.invoke("where is paris?")]
        [('b', 0.85)]
        >>> store.close()
    """

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    store: SkipValidation[Store]
    k: Count = 4
    filter: Any = None
    score_normalization: Normalization = "query_length"
    score_threshold: float | None = None
    depth: Count | None = None
    explain: bool = False
    exact: bool = False

    @model_validator(mode="after")
    def _checked(self) -> Self:
        checked_store(self.store)
        self._retrieval()
        return self

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """A copy that searches the same store."""
        memo = {} if memo is None else memo
        memo[id(self.store)] = self.store
        return super().__deepcopy__(memo)

    @override
    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **per_call: Any
    ) -> list[Document]:
        return _documents(self._asked(per_call)._retrieval().search(query))

    @override
    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **per_call: Any
    ) -> list[Document]:
        return _documents(await self._asked(per_call)._retrieval().asearch(query))

    @override
    def _get_ls_params(self, **kwargs: Any) -> LangSmithRetrieverParams:
        params = super()._get_ls_params(**kwargs)
        params["ls_vector_store_provider"] = type(self.store).__name__
        params["ls_embedding_provider"] = "chandelier"
        params["ls_embedding_model"] = self.store.model.name
        return params

    def _asked(self, per_call: dict[str, Any]) -> Self:
        """This retriever, but for what one call wants otherwise."""
        refuse_unknown("ColBERTRetriever", per_call, PER_CALL)
        return self.model_copy(update={name: value for name, value in per_call.items() if value is not None})

    def _retrieval(self) -> Retrieval:
        return Retrieval(
            self.store,
            k=self.k,
            filter=self.filter,
            score_normalization=self.score_normalization,
            score_threshold=self.score_threshold,
            depth=self.depth,
            explain=self.explain,
            exact=self.exact,
        )


def _documents(hits: list[Hit]) -> list[Document]:
    return [document_of(hit, **{SCORE: hit.score}) for hit in hits]
