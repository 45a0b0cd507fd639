"""BM25 as Qdrant has it: words and their weights, by Qdrant's own tokenizer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np

from chandelier.exceptions import ArgumentError
from chandelier.store.points.engine import SparseVector

__all__ = ["Bm25", "SparseEncoder"]


@runtime_checkable
class SparseEncoder(Protocol):
    """Words of a text and their weights; Qdrant multiplies them by how rare a word is (its IDF modifier)."""

    @property
    def fingerprint(self) -> str:
        """What makes the words comparable."""

    def encode_query(self, text: str) -> SparseVector:
        """The words of a query."""

    def encode_document(self, text: str) -> SparseVector:
        """The words of a document."""


@dataclass(frozen=True)
class Bm25:
    """BM25 with the tokenizer, stop words and stemmer of the Qdrant engine (package `qdrant-edge-py`).

    The words are those of `qdrant/bm25` in Qdrant's own inference, and no file is fetched.

    Args:
        language: The language of stop words and stemmer, in English: `"english"`, `"german"`, ...
        k: How much a repeated word adds.
        b: How much a long document is discounted, from 0 to 1.
        average_length: The words of an average document.

    Raises:
        ArgumentError: If a number is out of range, or the language unknown.
        ModuleNotFoundError: If `qdrant-edge-py` is not installed.

    Examples:
        >>> bm25 = Bm25()
        >>> query, document = bm25.encode_query("running"), bm25.encode_document("She runs.")
        >>> query.indices.tolist() == document.indices.tolist()
        True
    """

    language: str = "english"
    k: float = field(default=1.2, kw_only=True)
    b: float = field(default=0.75, kw_only=True)
    average_length: float = field(default=256.0, kw_only=True)
    _model: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        try:
            import qdrant_edge
        except ModuleNotFoundError:
            hint = "Bm25 needs the tokenizer of Qdrant's engine: pip install 'chandelier[qdrant-edge]'"
            raise ModuleNotFoundError(hint, name="qdrant_edge") from None
        try:
            config = qdrant_edge.Bm25Config(k=self.k, b=self.b, avg_len=self.average_length, language=self.language)
            model = qdrant_edge.Bm25(config)
        except (ValueError, TypeError) as error:
            raise ArgumentError(f"Bm25: {error}", argument="Bm25") from None
        object.__setattr__(self, "_model", model)

    def __reduce__(self) -> tuple[Any, ...]:
        options = {"k": self.k, "b": self.b, "average_length": self.average_length}
        return _made, (self.language, options)

    @property
    def fingerprint(self) -> str:
        """What makes the words comparable."""
        return f"qdrant-bm25-{self.language}-k{self.k}-b{self.b}-l{self.average_length}"

    def encode_query(self, text: str) -> SparseVector:
        """The words of a query, each of weight 1."""
        return _sparse(self._model.embed_query(text))

    def encode_document(self, text: str) -> SparseVector:
        """The words of a document, weighted by how often they occur and how long it is."""
        return _sparse(self._model.embed_document(text))


def _made(language: str, options: dict[str, float]) -> Bm25:
    return Bm25(language, **options)


def _sparse(vector: Any) -> SparseVector:
    return SparseVector(np.array(vector.indices, np.uint32), np.array(vector.values, np.float32))
