"""`ColBERTVectorStore`: a store of chandelier where LangChain wants a `VectorStore`."""

from __future__ import annotations

import asyncio
import copy
import inspect
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from typing import Any, NoReturn

from langchain_core.documents import Document
from langchain_core.vectorstores import VectorStore, VectorStoreRetriever
from typing_extensions import Self, override

from chandelier.exceptions import ArgumentError
from chandelier.langchain.documents import document_of, refuse_marginal_relevance, refuse_unknown
from chandelier.langchain.entries import entries_of_documents, entries_of_texts
from chandelier.models import ColBERT
from chandelier.multivectors import as_matrix
from chandelier.retrieval import Retrieval, checked_store
from chandelier.scores import Normalization, relevance_function
from chandelier.shared import shared_model
from chandelier.store import Document as Entry
from chandelier.store import Hit, LocalStore, Store, UpsertReport

__all__ = ["ColBERTVectorStore"]

LOG = logging.getLogger("chandelier")
PER_CALL = ("filter", "score_threshold", "depth", "explain", "exact")


class ColBERTVectorStore(VectorStore):
    """Any store of chandelier as a vector store; `add_documents`, `delete`, `as_retriever` and the rest.

    Searches take `filter`, `score_threshold` (after normalisation), `depth`, `explain` and `exact` besides `k`, as
    `ColBERTRetriever` does; another keyword is an error. `similarity_search_with_score` gives the normalised score,
    `similarity_search_with_relevance_scores` a number from 0 to 1. Asynchronous methods are those of the store. Maximal
    marginal relevance is refused: it wants a similarity of two documents, and MaxSim, which grows with their length, is
    none.

    Args:
        store: `LocalStore`, `QdrantStore`, ...; it is not closed.
        score_normalization: `"query_length"` divides MaxSim by the query's vectors, `"none"` leaves it; see
            `chandelier.scores.Scoring`.
        depth: How many candidates are scored exactly, where the store does not score all.
        exact: Whether to score all documents, whatever finds candidates otherwise.

    Raises:
        ArgumentError: If an argument is none of these; it names the argument.

    Examples:
        >>> from chandelier import ColBERT, LocalStore
        >>> store = LocalStore(ColBERT("tests/goldens/a_bert_pylate/checkpoint"))
        >>> vectorstore = ColBERTVectorStore(store)
        >>> vectorstore.add_texts(["Bread needs flour.", "Paris is in France."], ids=["a", "b"])
        ['a', 'b']
        >>> vectorstore.similarity_search("where is paris?", k=1)
        [Document(id='b', metadata={}, page_content='Paris is in France.')]
        >>> store.close()
    """

    def __init__(
        self,
        store: Store,
        *,
        score_normalization: Normalization = "query_length",
        depth: int | None = None,
        exact: bool = False,
    ) -> None:
        self._options = {"score_normalization": score_normalization, "depth": depth, "exact": exact}
        self.store = checked_store(store)
        self._retrieval(1, {})  # which checks all of it
        self._has_told = False

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """A copy over the same store."""
        return copy.copy(self)

    @property
    @override
    def embeddings(self) -> None:
        """None: an `Embeddings` of LangChain gives one vector a text."""
        return None

    # Writing

    @override
    def add_documents(
        self,
        documents: list[Document],
        *,
        ids: Sequence[str | None] | None = None,
        progress: bool = False,
        **kwargs: Any,
    ) -> list[str]:
        """Store documents; one with an id that is there replaces it.

        Args:
            documents: Their metadata must be JSON.
            ids: Instead of those of the documents; who has none gets a random one.
            progress: Show a tqdm bar on stderr, or in the notebook.
            **kwargs: `batch_size`, which LangChain's `index` gives, has no effect: the store takes portions by itself.

        Returns:
            The ids, in order.

        Raises:
            ArgumentError: If there are not as many ids, or what is no document is among them; nothing is stored.
            PartialUpsertError: If the store refuses a document; `report` says which and why. The others are stored.
        """
        entries = entries_of_documents(documents, ids, kwargs)
        return self._added(entries, self.store.upsert(entries, progress=progress, raise_on_failure=True))

    @override
    async def aadd_documents(
        self,
        documents: list[Document],
        *,
        ids: Sequence[str | None] | None = None,
        progress: bool = False,
        **kwargs: Any,
    ) -> list[str]:
        """As `add_documents`."""
        entries = entries_of_documents(documents, ids, kwargs)
        return self._added(entries, await self.store.aupsert(entries, progress=progress, raise_on_failure=True))

    @override
    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: Sequence[dict[str, Any] | None] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        progress: bool = False,
        **kwargs: Any,
    ) -> list[str]:
        """As `add_documents`, for texts; a text without metadata gets none."""
        entries = entries_of_texts(texts, metadatas, ids, kwargs)
        return self._added(entries, self.store.upsert(entries, progress=progress, raise_on_failure=True))

    @override
    async def aadd_texts(
        self,
        texts: Iterable[str],
        metadatas: Sequence[dict[str, Any] | None] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        progress: bool = False,
        **kwargs: Any,
    ) -> list[str]:
        """As `add_texts`."""
        entries = entries_of_texts(texts, metadatas, ids, kwargs)
        return self._added(entries, await self.store.aupsert(entries, progress=progress, raise_on_failure=True))

    @override
    def delete(self, ids: list[str] | None = None, **kwargs: Any) -> bool:
        """Delete the documents with these ids, or with `filter=` those that pass it; **all** without either.

        Returns:
            True: an id that is not there is no failure.
        """
        refuse_unknown("delete", kwargs, ["filter"])
        if ids is None and not kwargs:
            self.store.delete_all()
        else:
            self.store.delete(ids, **kwargs)
        return True

    @override
    async def adelete(self, ids: list[str] | None = None, **kwargs: Any) -> bool:
        """As `delete`."""
        refuse_unknown("delete", kwargs, ["filter"])
        if ids is None and not kwargs:
            await self.store.adelete_all()
        else:
            await self.store.adelete(ids, **kwargs)
        return True

    def _added(self, entries: list[Entry], report: UpsertReport) -> list[str]:
        if report.truncated and not self._has_told:
            self._has_told = True
            LOG.warning(
                "%d of %d documents are longer than the %d tokens that %s reads, and what lies beyond is never found: "
                "split them first. (Not said again; `store.upsert` reports each.)",
                len(report.truncated),
                len(entries),
                self.store.model.document_length,
                self.store.model.name,
            )
        if report.without_rows:
            LOG.warning(
                "%r and %d more have no rows and are never found", report.without_rows[0], len(report.without_rows) - 1
            )
        return [entry.id for entry in entries]

    # Reading

    @override
    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """The documents with these ids, in their order; an id that is not there is left out."""
        return [_document(entry) for entry in self.store.get(ids)]

    @override
    async def aget_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """As `get_by_ids`."""
        return [_document(entry) for entry in await self.store.aget(ids)]

    @override
    def similarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        """The `k` best documents, best first."""
        return [document for document, _ in self.similarity_search_with_score(query, k, **kwargs)]

    @override
    async def asimilarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        """As `similarity_search`."""
        return [document for document, _ in await self.asimilarity_search_with_score(query, k, **kwargs)]

    @override
    def similarity_search_with_score(self, query: str, k: int = 4, **kwargs: Any) -> list[tuple[Document, float]]:
        """The `k` best documents and their scores, as `score_normalization` says."""
        return _scored(self._retrieval(k, kwargs).search(query))

    @override
    async def asimilarity_search_with_score(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """As `similarity_search_with_score`."""
        return _scored(await self._retrieval(k, kwargs).asearch(query))

    @override
    def similarity_search_by_vector(self, embedding: Any, k: int = 4, **kwargs: Any) -> list[Document]:
        """The `k` best documents for a query that is encoded already: rows `(tokens, dim)`."""
        hits = self._retrieval(k, kwargs).search(as_matrix("embedding", embedding))
        return [document_of(hit) for hit in hits]

    @override
    async def asimilarity_search_by_vector(self, embedding: Any, k: int = 4, **kwargs: Any) -> list[Document]:
        """As `similarity_search_by_vector`."""
        hits = await self._retrieval(k, kwargs).asearch(as_matrix("embedding", embedding))
        return [document_of(hit) for hit in hits]

    @override
    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        return relevance_function(self.store.model)

    @override
    def _similarity_search_with_relevance_scores(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        relevance = relevance_function(self.store.model)
        hits = self._retrieval(k, kwargs, score_normalization="query_length").search(query)
        return [(document, relevance(score)) for document, score in _scored(hits)]

    @override
    async def _asimilarity_search_with_relevance_scores(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        relevance = relevance_function(self.store.model)
        hits = await self._retrieval(k, kwargs, score_normalization="query_length").asearch(query)
        return [(document, relevance(score)) for document, score in _scored(hits)]

    def _retrieval(self, k: int, per_call: dict[str, Any], **fixed: Any) -> Retrieval:
        """How one call searches."""
        refuse_unknown("similarity_search", per_call, PER_CALL)
        given = {name: value for name, value in per_call.items() if value is not None}
        return Retrieval(self.store, k=k, **{**self._options, **given, **fixed})

    # Refused

    @override
    def as_retriever(self, **kwargs: Any) -> VectorStoreRetriever:
        """A retriever over this vector store; `ColBERTRetriever(store=...)` is the one that gives scores too."""
        if kwargs.get("search_type") == "mmr":
            refuse_marginal_relevance()
        return super().as_retriever(**kwargs)

    @override
    def max_marginal_relevance_search(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused."""
        refuse_marginal_relevance()

    @override
    async def amax_marginal_relevance_search(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused."""
        refuse_marginal_relevance()

    @override
    def max_marginal_relevance_search_by_vector(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused."""
        refuse_marginal_relevance()

    @override
    async def amax_marginal_relevance_search_by_vector(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused."""
        refuse_marginal_relevance()

    # Made and filled in one

    @override
    @classmethod
    def from_texts(  # type: ignore[override]  # where it wants an `Embeddings`, it takes a model
        cls,
        texts: Iterable[str],
        embedding: str | os.PathLike[str] | ColBERT | None,
        metadatas: Sequence[dict[str, Any] | None] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        store: Store | None = None,
        path: str | os.PathLike[str] | None = None,
        progress: bool = False,
        **kwargs: Any,
    ) -> Self:
        """A vector store with these texts.

        Args:
            texts: The texts.
            embedding: The model of a new `LocalStore`: a `ColBERT`, a folder or a hub name. None with `store`.
            metadatas: One a text, or None.
            ids: One a text, or None; who has none gets a random one.
            store: The store to add to.
            path: The file of the new `LocalStore`; None for one in memory.
            progress: Show a tqdm bar on stderr, or in the notebook.
            **kwargs: Arguments of the constructor.

        Raises:
            ArgumentError: If `embedding` is something else, or there is a `store` too.
            PartialUpsertError: As `add_documents`; a new store is closed then.
        """
        inspect.signature(cls).bind(store, **kwargs)  # before anything is opened for what the constructor refuses
        entries = entries_of_texts(texts, metadatas, ids, {})
        with ExitStack() as on_failure:
            over = _store(embedding, store, path)
            if store is None:
                on_failure.callback(over.close)
            vectorstore = cls(over, **kwargs)
            vectorstore._added(entries, over.upsert(entries, progress=progress, raise_on_failure=True))
            on_failure.pop_all()
        return vectorstore

    @override
    @classmethod
    async def afrom_texts(  # type: ignore[override]
        cls,
        texts: Iterable[str],
        embedding: str | os.PathLike[str] | ColBERT | None,
        metadatas: Sequence[dict[str, Any] | None] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        store: Store | None = None,
        path: str | os.PathLike[str] | None = None,
        progress: bool = False,
        **kwargs: Any,
    ) -> Self:
        """As `from_texts`."""
        inspect.signature(cls).bind(store, **kwargs)  # before anything is opened for what the constructor refuses
        entries = entries_of_texts(texts, metadatas, ids, {})
        with ExitStack() as on_failure:
            over = await asyncio.to_thread(_store, embedding, store, path)
            if store is None:
                on_failure.callback(over.close)
            vectorstore = cls(over, **kwargs)
            vectorstore._added(entries, await over.aupsert(entries, progress=progress, raise_on_failure=True))
            on_failure.pop_all()
        return vectorstore


def _store(
    embedding: str | os.PathLike[str] | ColBERT | None, store: Store | None, path: str | os.PathLike[str] | None
) -> Store:
    """The store that was given, or a new one."""
    if store is not None:
        for name, other in (("embedding", embedding), ("path", path)):
            if other is not None:
                got = type(other).__name__
                raise ArgumentError(f"{name}: got {got} beside a store, which has its own; wanted None", argument=name)
        return store
    if not isinstance(embedding, (str, os.PathLike, ColBERT)):
        wanted = "a ColBERT, a folder or a hub name, or None beside store="
        message = f"embedding: got {type(embedding).__name__}, wanted {wanted}; an Embeddings has one vector a text"
        raise ArgumentError(message, argument="embedding")
    return LocalStore(embedding if isinstance(embedding, ColBERT) else shared_model(embedding), path)


def _document(entry: Entry) -> Document:
    return Document(id=entry.id, page_content=entry.text, metadata=dict(entry.metadata))


def _scored(hits: list[Hit]) -> list[tuple[Document, float]]:
    return [(document_of(hit), hit.score) for hit in hits]
