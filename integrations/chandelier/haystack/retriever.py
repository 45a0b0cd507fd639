"""`ColBERTRetriever`."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import fields
from typing import Any

import numpy as np
import numpy.typing as npt
from haystack import Document, component, default_from_dict, default_to_dict
from haystack.document_stores.types import FilterPolicy, apply_filter_policy

from chandelier.exceptions import ArgumentError, ShapeError
from chandelier.haystack.filters import translated
from chandelier.multivectors import checked_count
from chandelier.rerank import explanation_notes
from chandelier.retrieval import Retrieval
from chandelier.scores import Normalization, checked_bool
from chandelier.store import Hit, Store
from chandelier.store.encoding import Query

__all__ = ["ColBERTRetriever"]

VECTORS = "multivector_embedding"
"""The field of a document that holds its rows, where the installed Haystack has it."""


@component
class ColBERTRetriever:
    """Finds documents of a store by their MaxSim with a query.

    It can be used as a `TextRetriever`, by `MultiQueryTextRetriever` for instance. A described store is opened by
    `warm_up`, which a pipeline calls before it runs, or by a first run outside of one, and is shared with all other
    components of the process that describe the same.

    Args:
        store: Any store of chandelier, open, or the description of one; see `chandelier.store.open_store`.
        top_k: How many documents to find.
        filters: What their metadata must be like, in Haystack's language; see `chandelier.haystack.filters.translated`.
        filter_policy: Whether the filters of a run replace these, or are merged with them, as Haystack does it.
        score_normalization: `"query_length"` divides a MaxSim by the query's vectors, so that scores lie between -1
            and 1 (what `scale_score` is to other retrievers); `"none"` leaves the sum.
        score_threshold: The lowest score to return; None for all.
        depth: How many candidates are scored exactly, where the store does not score all.
        explain: Say in `meta["explanation"]` which words matched; see `chandelier.rerank.explanation_notes`.
        exact: Score all documents, whatever finds candidates otherwise.
        return_embedding: Give the stored rows as `multivector_embedding`, where Haystack's `Document` has that field.

    Raises:
        ArgumentError: If an argument is none of these; it names the argument.

    Examples:
        >>> from chandelier import ColBERT, Document, LocalStore
        >>> store = LocalStore(ColBERT("tests/goldens/a_bert_pylate/checkpoint"))
        >>> report = store.upsert([Document("a", "Bread needs flour."), Document("b", "Paris is in France.")])
        >>> retriever = ColBERTRetriever(store, top_k=1)
        >>> [document.id for document in retriever.run("where is paris?")["documents"]]
        ['b']
        >>> store.close()
    """

    def __init__(
        self,
        store: Store | Mapping[str, Any],
        *,
        top_k: int = 10,
        filters: Mapping[str, Any] | None = None,
        filter_policy: FilterPolicy = FilterPolicy.REPLACE,
        score_normalization: Normalization = "query_length",
        score_threshold: float | None = None,
        depth: int | None = None,
        explain: bool = False,
        exact: bool = False,
        return_embedding: bool = False,
    ) -> None:
        options: dict[str, Any] = {
            "score_normalization": score_normalization,
            "score_threshold": score_threshold,
            "depth": depth,
            "explain": explain,
            "exact": exact,
        }
        top_k = checked_count("top_k", top_k)
        self._retrieval = Retrieval(store, k=top_k, **options)
        translated(filters)  # shows now what is wrong with them
        if not isinstance(filter_policy, FilterPolicy):
            message = f"filter_policy: got {filter_policy!r}, wanted FilterPolicy.REPLACE or FilterPolicy.MERGE"
            raise ArgumentError(message, argument="filter_policy")
        if checked_bool("return_embedding", return_embedding) and VECTORS not in {
            field.name for field in fields(Document)
        }:
            message = f"return_embedding: the installed haystack-ai has no Document.{VECTORS}"
            raise ArgumentError(
                f"{message}; store.search(..., with_vectors=True) gives rows", argument="return_embedding"
            )
        self._options: dict[str, Any] = {
            "top_k": top_k,
            "filters": deepcopy(filters),
            "filter_policy": filter_policy,
            **{name: value.item() if isinstance(value, np.generic) else value for name, value in options.items()},
            "return_embedding": return_embedding,
        }

    def to_dict(self) -> dict[str, Any]:
        """The component as plain JSON, with the description of its store.

        Raises:
            StoreError: If the store is in memory.
            ArgumentError: If the store has something that a file cannot hold; it names it.
        """
        policy = self._options["filter_policy"].value
        options = {**self._options, "filters": deepcopy(self._options["filters"]), "filter_policy": policy}
        return default_to_dict(self, store=self._retrieval.handle.description, **options)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ColBERTRetriever:
        """The component that `to_dict` described; nothing is opened."""
        parameters = dict(data.get("init_parameters", {}))
        name = parameters.get("filter_policy")
        if isinstance(name, str):
            parameters["filter_policy"] = FilterPolicy.from_str(name)
        return default_from_dict(cls, {**data, "init_parameters": parameters})

    def warm_up(self) -> None:
        """Open the store now, if it was described."""
        self._retrieval.handle.open()

    async def warm_up_async(self) -> None:
        """The same in a worker thread."""
        await self._retrieval.handle.aopen()

    def close(self) -> None:
        """Give a described store back; a store that was given stays open. The next run opens it again.

        Not while another thread runs the component: if nobody else uses the store, it is closed under that run, which
        then fails with a `StoreError`.
        """
        self._retrieval.handle.close()

    @component.output_types(documents=list[Document])
    def run(
        self,
        query: str | None = None,
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
        query_multivector_embedding: list[list[float]] | None = None,
    ) -> dict[str, list[Document]]:
        """Find documents.

        Args:
            query: The question, or
            filters: What the metadata must be like; see `filter_policy`.
            top_k: How many documents to find; None for what the component says.
            query_multivector_embedding: the rows of a question that was encoded before, by the store's model.

        Returns:
            `documents`: the best first, whole as they were written, with their `score`.

        Raises:
            ArgumentError: If there is not one question, or it asks nothing, or a filter is not well-formed.
            ShapeError: If the rows are not those of the store's model.
            StoreError: If the store does not answer.
        """
        asked, options = _question(query, query_multivector_embedding), self._per_run(filters, top_k)
        return {"documents": [_document(hit) for hit in self._retrieval.search(asked, **options)]}

    @component.output_types(documents=list[Document])
    async def run_async(
        self,
        query: str | None = None,
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
        query_multivector_embedding: list[list[float]] | None = None,
    ) -> dict[str, list[Document]]:
        """As `run`, by the store's own asynchronous search."""
        asked, options = _question(query, query_multivector_embedding), self._per_run(filters, top_k)
        return {"documents": [_document(hit) for hit in await self._retrieval.asearch(asked, **options)]}

    def _per_run(self, filters: dict[str, Any] | None, top_k: int | None) -> dict[str, Any]:
        translated(filters)  # merged with others, a mistake would be blamed on a place that nobody wrote
        policy, own = self._options["filter_policy"], deepcopy(self._options["filters"])
        return {
            "k": None if top_k is None else checked_count("top_k", top_k),
            "filter": translated(apply_filter_policy(policy, own, deepcopy(filters))),  # which changes what it is given
            "with_vectors": self._options["return_embedding"],
        }


def _question(query: str | None, rows: list[list[float]] | None) -> Query:
    if (query is None) is (rows is None):
        got = "neither" if query is None else "both"
        message = f"query: got {got} of query and query_multivector_embedding, wanted one"
        raise ArgumentError(message, argument="query")
    if rows is None:
        return query  # type: ignore[return-value]  # one of the two is there
    try:
        matrix: npt.NDArray[np.float32] = np.asarray(rows, np.float32)
    except (ValueError, TypeError):
        matrix = np.empty(0, np.float32)
    if matrix.ndim != 2:
        raise ShapeError("query_multivector_embedding: wanted a list of rows, all of the length of the model's")
    return matrix


def _document(hit: Hit) -> Document:
    meta = hit.metadata
    if hit.explanation is not None:
        meta = {**meta, "explanation": explanation_notes(hit.explanation)}
    vectors = {} if hit.vectors is None else {VECTORS: np.asarray(hit.vectors, np.float32).tolist()}
    return Document(id=hit.id, content=hit.text, meta=meta, score=hit.score, **vectors)
