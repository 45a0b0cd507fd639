"""Prefetch encoders: one vector a text, by which a store finds the candidates that MaxSim then ranks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from chandelier import _core
from chandelier.multivectors import Float32Array, Matrices, checked_count, in_place

__all__ = ["MeanVector", "PrefetchEncoder"]


@runtime_checkable
class PrefetchEncoder(Protocol):
    """What a store wants of a prefetch encoder: candidates are the documents with the largest inner products."""

    @property
    def size(self) -> int:
        """How many values an encoding has."""

    @property
    def fingerprint(self) -> str:
        """What makes encodings comparable: a store refuses those of another fingerprint."""

    def encode_queries(self, queries: Matrices) -> Float32Array:
        """One encoding a query: `(queries, size)` float32."""

    def encode_documents(self, documents: Matrices) -> Float32Array:
        """One encoding a document: `(documents, size)` float32."""


@dataclass(frozen=True)
class MeanVector:
    """The normalised mean of a text's rows: one small vector, and on some texts the better one to find candidates by.

    Args:
        dim: The length of a row.

    Attributes:
        size: The same.

    Raises:
        ArgumentError: If `dim` is no whole number of at least 1.

    Examples:
        >>> import numpy as np
        >>> mean = MeanVector(2)
        >>> mean.encode_documents([np.array([[0.0, 3.0], [0.0, 4.0]])]).tolist()
        [[0.0, 1.0]]
    """

    dim: int

    def __post_init__(self) -> None:
        self.__dict__["dim"] = checked_count("dim", self.dim)

    @property
    def size(self) -> int:
        """How many values an encoding has."""
        return self.dim

    @property
    def fingerprint(self) -> str:
        """What makes encodings comparable."""
        return f"mean-{self.dim}"

    def encode_queries(self, queries: Matrices) -> Float32Array:
        """Encode queries: one unit vector each, `(queries, size)` float32; zeros if the rows cancel out.

        Args:
            queries: `MultiVectors` or a list of `(tokens, dim)` arrays, float32 or float16.

        Raises:
            ShapeError: If a matrix is not 2-D, has no rows, or rows of another length; it names the query.
            ArgumentError: If a value is NaN or infinite.
        """
        return _core.mean_vectors(self.dim, *in_place("queries", queries, self.dim, "this MeanVector"))

    def encode_documents(self, documents: Matrices) -> Float32Array:
        """Encode documents; see `encode_queries`."""
        return _core.mean_vectors(self.dim, *in_place("documents", documents, self.dim, "this MeanVector"))
