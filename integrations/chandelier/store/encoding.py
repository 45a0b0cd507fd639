"""A store's use of its model: texts and queries to rows, and why a hit was found."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from chandelier.exceptions import ArgumentError, ShapeError, StoreError
from chandelier.maths import checked_pooling
from chandelier.multivectors import Float32Array, MultiVectors, checked_count, checked_rows
from chandelier.store.documents import Hit

if TYPE_CHECKING:
    from chandelier.models import ColBERT

__all__ = ["Encoding", "Query"]

Query: TypeAlias = str | npt.NDArray[np.floating]
"""What is searched for: a text, or the rows `(tokens, dim)` of one."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One query, ready to be scored.

    Attributes:
        text: None where rows were given.
        rows: `(tokens, dim)` float32.
    """

    text: str | None
    rows: Float32Array


class Encoding:
    """A model and how a store uses it."""

    def __init__(self, model: ColBERT, pool_factor: int, protected_tokens: int) -> None:
        for attribute in ("dim", "fingerprint", "encode_documents", "encode_queries"):
            if isinstance(model, (str, type)) or not hasattr(model, attribute):
                got = repr(model) if isinstance(model, (str, type)) else type(model).__name__
                raise ArgumentError(f"model: got {got}, wanted a ColBERT: chandelier.ColBERT(path)", argument="model")
        self.model = model
        self.pooling = checked_pooling(pool_factor, protected_tokens)
        self.dim = model.dim
        self.document_length = model.document_length
        self._is_unit = bool(model.info()["normalize"])

    @property
    def fingerprint(self) -> str:
        """What makes vectors comparable."""
        return self.model.fingerprint

    def documents(self, texts: list[str]) -> MultiVectors:
        """Rows of documents, pooled as the store wants it."""
        factor, protected = self.pooling
        return self.model.encode_documents(texts, pool_factor=factor, protected_tokens=protected)

    def truncated(self, texts: list[str]) -> list[bool]:
        """Which texts are longer than what the model reads of a document: the rest of them is never found."""
        return [not whole for whole in self.model.reads_whole([text.rstrip() for text in texts])]

    def rows(self, name: str, matrix: npt.ArrayLike) -> Float32Array:
        """Rows that the caller encoded, if they can be this model's; an error calls them by `name`."""
        return checked_rows(name, matrix, self.dim, unit=self._is_unit)

    def queries(self, queries: Iterable[Query]) -> list[Asked]:
        """Texts and rows as queries, in order; the texts are encoded together."""
        if isinstance(queries, (str, bytes, dict)) or not isinstance(queries, Iterable):
            got = type(queries).__name__
            raise ArgumentError(f"queries: got {got}, wanted a list of str or of matrices", argument="queries")
        given = list(queries)
        texts = [query for query in given if isinstance(query, str)]
        encoded = iter(self.model.encode_queries(texts) if texts else ())
        asked = []
        for index, query in enumerate(given):
            if isinstance(query, str):
                asked.append(Asked(query, next(encoded)))
            else:
                place = f"queries[{index}]"
                rows = self.rows(place, checked_query(query, place))
                if not len(rows):
                    raise ShapeError(f"{place}: got no rows, wanted at least one")
                asked.append(Asked(None, rows))
        return asked

    def check_explains(self, queries: Iterable[Asked]) -> None:
        """Refuses to explain what is no text."""
        if any(query.text is None for query in queries):
            raise ArgumentError("explain: got a matrix as query, wanted its text", argument="explain")

    def explained(self, query: Asked, hits: Sequence[Hit]) -> list[Hit]:
        """The hits, and which words of each matched."""
        assert query.text is not None
        return [replace(hit, explanation=self.model.explain(query.text, hit.text)) for hit in hits]


def checked_query(query: Query, place: str = "query") -> Query:
    """One query, and not several or none; its rows are not looked at."""
    if isinstance(query, (list, tuple)) and any(isinstance(each, str) for each in query):
        message = "got a list of str, wanted one query; search_many takes several"
        raise ArgumentError(f"{place}: {message}", argument=place)
    if not isinstance(query, (str, list, tuple, MultiVectors)) and np.ndim(query) == 0:
        got = type(query).__name__
        raise ArgumentError(f"{place}: got {got}, wanted a text, or its rows as a 2-D array of floats", argument=place)
    return query


def checked_search(k: int, depth: int | None) -> tuple[int, int | None]:
    """How many hits, and how many candidates for them."""
    k = checked_count("k", k)
    if depth is not None:
        depth = checked_count("depth", depth)
        if depth < k:
            raise ArgumentError(f"depth: got {depth} with k={k}, wanted at least k candidates", argument="depth")
    return k, depth


def check_fingerprint(store: str, what: str, stored: object, now: object) -> None:
    """Refuses what was written by another encoder."""
    if stored != now:
        was, given = (f"{what} {each}" if each else f"no {what}" for each in (stored, now))
        message = f"{store}: was written with {was}, and is opened with {given}"
        raise StoreError(f"{message}; open it with the same one, or make a new store", store=store)
