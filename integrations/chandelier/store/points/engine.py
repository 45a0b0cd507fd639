"""What an engine of points is asked, in neither's words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from chandelier.exceptions import ArgumentError, StoreError
from chandelier.multivectors import Float32Array, FloatArray
from chandelier.store.filters import Node
from chandelier.store.points.steps import Steps

__all__ = ["Engine", "Found", "Layout", "Point", "Refusal", "Request", "SparseVector", "TimedOut"]

ROWS, PREFETCH, SPARSE = "colbert", "prefetch", "bm25"
"""The names of a point's vectors."""

DEPTH = 200
"""Candidates by default: on real texts they held seven to nine tenths of the exact top 10, and 20 less than half."""

LAYOUT_VERSION = 1
"""Of what is stored and how it is named."""

MOST_VALUES = 1_048_575
"""Floats of one multi-vector that Qdrant stores."""

ANY_NUMBER = range(1, 1 << 31)
"""Of hits and candidates, where an engine has no limits."""

MOST_PREFETCH = 65_535
"""Values of a single vector that Qdrant stores."""


class Refusal(StoreError):
    """A request that the engine took and refuses for what is in it: smaller parts of it may pass."""


class TimedOut(Refusal):
    """A request that took too long: a smaller one may not."""


@dataclass(frozen=True, slots=True, eq=False)
class SparseVector:
    """Weights of words.

    Attributes:
        indices: `(words,)` uint32.
        values: `(words,)` float32.

    Raises:
        ArgumentError: If there are not as many of the one as of the other, or a weight is NaN or infinite.
    """

    indices: npt.NDArray[np.uint32]
    values: Float32Array

    def __post_init__(self) -> None:
        words, weights = np.shape(self.indices), np.shape(self.values)
        if len(words) != 1 or words != weights or not np.isfinite(self.values).all():
            got = f"indices {words} and values {weights}"
            raise ArgumentError(f"sparse: got {got}, wanted one finite weight a word", argument="sparse")


@dataclass(frozen=True, slots=True, eq=False)
class Point:
    """What is stored of a document.

    Attributes:
        uuid: Its id in the engine.
        rows: `(tokens, dim)`; None if it has none.
        prefetch: `(size,)`, if there is a prefetch encoder and the document has rows.
        sparse: If there is a sparse encoder.
        payload: Id, text and metadata.
    """

    uuid: str
    rows: FloatArray | None
    prefetch: Float32Array | None
    sparse: SparseVector | None
    payload: dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """A search: candidates by single vectors (all points, where there are none), ranked by MaxSim.

    Attributes:
        rows: `(tokens, dim)` of the query.
        prefetch: Its single vector, to find candidates by.
        sparse: Its words, to find candidates by; with both, the two lists are fused.
        depth: How many candidates.
        limit: How many hits.
        exact: Whether all points are scored.
    """

    rows: Float32Array
    prefetch: Float32Array | None
    sparse: SparseVector | None
    depth: int
    limit: int
    exact: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """A point that came back; `score` is 0 where nothing was searched for, `rows` None if they were not asked for."""

    uuid: str
    score: float
    payload: dict[str, Any]
    rows: FloatArray | None


@dataclass(frozen=True, slots=True)
class Layout:
    """What a collection must be like.

    Attributes:
        dim: The length of a row.
        datatype: `"float16"` or `"float32"`, of all vectors.
        on_disk: Whether the rows stay on disk.
        prefetch_size: The length of the prefetch vector; None for none.
        is_sparse: Whether there are words.
        settings: The fingerprints, and the namespace of the ids, as they are kept with the collection.
        indexes: The kind of index of each field of the metadata that has one.
        finder: What finds candidates for MaxSim; empty if all points are scored.
        depth: How many candidates a search has by default.
    """

    dim: int
    datatype: str
    on_disk: bool
    prefetch_size: int | None
    is_sparse: bool
    settings: dict[str, str | int]
    indexes: Mapping[str, str] = field(default_factory=dict)
    finder: str = ""
    depth: int = DEPTH


class Engine(Protocol):
    """An engine; a method that asks it is an operation in steps.

    Attributes:
        most_bytes: How large a request should become.
        most_values: Floats of one multi-vector that it stores.
        candidates: The least and the most candidates of one search.
    """

    most_bytes: int
    most_values: int
    candidates: range

    def open(self, layout: Layout) -> Steps[dict[str, Any]]:
        """Make the collection, or look at the one that is there; the settings that it keeps."""

    def upsert(self, points: Sequence[Point]) -> Steps[Mapping[str, str]]:
        """Store points; why it refuses some of them, by their uuids. After a `Refusal` perhaps some are stored."""

    def query(self, requests: Sequence[Request], filter: Any, with_rows: bool) -> Steps[list[list[Found]]]:
        """The hits of each request, best first; `filter` as `compiled` gives it."""

    def retrieve(self, uuids: Sequence[str], with_rows: bool) -> Steps[list[Found]]:
        """The points that are there, in any order."""

    def scroll(self, filter: Any, limit: int, after: Any, with_rows: bool) -> Steps[tuple[list[Found], Any]]:
        """A page of points, and where the next one begins; None if there is none."""

    def count(self, filter: Any) -> Steps[int]:
        """How many points pass."""

    def count_of(self, uuids: Sequence[str]) -> Steps[int]:
        """How many of these are there."""

    def delete(self, uuids: Sequence[str] | None, filter: Any) -> Steps[None]:
        """Delete points by id, or those that pass."""

    def is_indexed(self) -> Steps[bool]:
        """Whether the indexes are built over everything that is stored."""

    def compiled(self, node: Node | None, filter: Any = None, *, own: bool) -> Any:
        """The engine's filter for ours, or the engine's own; with `own`, of the points that a store wrote only."""

    def bytes_of(self, point: Point) -> int:
        """How large a part of a request it is, or a little less than that."""
