"""`Retrieval`: a store and a question in, hits with scores that frameworks can use out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from chandelier.scores import Normalization, Scoring, checked_bool, checked_question, scored_vectors
from chandelier.store import Hit, Store
from chandelier.store.encoding import Query, checked_search
from chandelier.store.handles import StoreHandle, checked_store

__all__ = ["Retrieval", "checked_store"]


class Retrieval:
    """How a framework searches a store: what the adapters of all frameworks share.

    Args:
        store: Any store; only the protocol `chandelier.store.Store` is used. Or the description of one, which is opened
            when it is needed; see `chandelier.store.open_store`.
        k: How many hits, where a call does not say.
        filter: What the metadata must be like, where a call does not say; see `Store.search`.
        score_normalization: `"query_length"` or `"none"`; see `chandelier.scores.Scoring`.
        score_threshold: The lowest score to return, after normalisation; None for all.
        depth: How many candidates are scored exactly, where the store does not score all.
        explain: Whether to say which words matched.
        exact: Whether to score all documents, whatever finds candidates otherwise.

    Raises:
        ArgumentError: If an argument is none of these; it names the argument.

    Examples:
        >>> from chandelier import ColBERT, Document, LocalStore
        >>> store = LocalStore(ColBERT("tests/goldens/a_bert_pylate/checkpoint"))
        >>> report = store.upsert([Document("a", "Bread needs flour."), Document("b", "Paris is in France.")])
        >>> [(hit.id, round(hit.score, 2)) for hit in Retrieval(store).search("where is paris?", k=1)]
        [('b', 0.85)]
        >>> store.close()
    """

    def __init__(
        self,
        store: Store | Mapping[str, Any],
        *,
        k: int = 10,
        filter: Any = None,
        score_normalization: Normalization = "query_length",
        score_threshold: float | None = None,
        depth: int | None = None,
        explain: bool = False,
        exact: bool = False,
    ) -> None:
        self.handle = StoreHandle(store)
        self._scoring = Scoring(score_normalization, score_threshold)
        k, depth = checked_search(k, depth)
        self._options = {
            "k": k,
            "filter": filter,
            "depth": depth,
            "explain": checked_bool("explain", explain),
            "exact": checked_bool("exact", exact),
        }

    @property
    def store(self) -> Store:
        """The store, opened now if it was not yet."""
        return self.handle.open()

    def search(self, query: Query, **options: Any) -> list[Hit]:
        """The best hits that pass; options are those of `Store.search`, and win over the own ones unless None.

        Raises:
            ArgumentError: If the query asks nothing, or as `Store.search`.
        """
        return self._scored(query, self.store.search(_checked(query), **self._with(options)))

    async def asearch(self, query: Query, **options: Any) -> list[Hit]:
        """As `search`, by the store's own asynchronous search."""
        question = _checked(query)
        store = await self.handle.aopen()
        return self._scored(query, await store.asearch(question, **self._with(options)))

    def _with(self, options: dict[str, Any]) -> dict[str, Any]:
        return {**self._options, **{name: value for name, value in options.items() if value is not None}}

    def _scored(self, query: Query, hits: list[Hit]) -> list[Hit]:
        vectors = scored_vectors(self.store.model, query) if isinstance(query, str) else len(query)
        scored = [replace(hit, score=self._scoring.score(hit.score, vectors)) for hit in hits]
        return [hit for hit in scored if self._scoring.passes(hit.score)]


def _checked(query: Query) -> Query:
    return query if hasattr(query, "shape") else checked_question(query)
