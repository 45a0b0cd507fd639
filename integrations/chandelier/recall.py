"""A measurement: how many of the best documents are among the candidates that single vectors find."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from chandelier import _core
from chandelier.exceptions import ArgumentError, ShapeError
from chandelier.multivectors import (
    Float32Array,
    FloatArray,
    Matrices,
    MultiVectors,
    as_matrix,
    as_multivectors,
    checked_count,
    in_place,
)

__all__ = ["Recall", "RecallReport", "recall_probe"]

PORTION = 1 << 24
"""Values of documents' encodings that are held at a time: 64 MiB."""


class Encoder(Protocol):
    """What is measured: less than a `PrefetchEncoder`, so that a trial needs two functions only."""

    def encode_queries(self, queries: MultiVectors, /) -> Any:
        """`(queries, size)` floats."""

    def encode_documents(self, documents: MultiVectors, /) -> Any:
        """`(documents, size)` floats."""


@dataclass(frozen=True)
class Recall:
    """One measurement.

    Attributes:
        encoder: Its name: the key in a mapping, else its `repr`.
        size: The values of one of its encodings; 0 of a store that finds candidates without any.
        depth: How many candidates were taken for each query; of such a store, the number that the report's `varied`
            names.
        recall: The share of the exact top `k` that is among them, averaged over the queries.
        low: The lower end of its 95 % confidence interval.
        high: The upper end.
    """

    encoder: str
    size: int
    depth: int
    recall: float
    low: float
    high: float


@dataclass(frozen=True)
class RecallReport:
    """What `recall_probe` found; `print` it for a table.

    Attributes:
        queries: The number of queries.
        documents: The number of documents.
        k: How many best documents of each query were to be found, not more than there are.
        rows: For each encoder a measurement at each depth.
        varied: What a store without encodings was measured at several values of.
    """

    queries: int
    documents: int
    k: int
    rows: tuple[Recall, ...]
    varied: str = "depth"

    def __str__(self) -> str:
        has_encodings = any(row.size for row in self.rows)
        title = (
            f"share of the exact MaxSim top {self.k} "
            f"{'among the first n candidates' if has_encodings else f'that a search of {self.varied} n finds'}, "
            f"with its 95 % confidence interval; queries: {self.queries}, documents: {self.documents}"
        )
        depths = sorted({row.depth for row in self.rows})
        first, last = ("  floats", "encoder") if has_encodings else ("", "candidates by")
        lines = [title, first + "".join(f"{f'n = {depth}':>19}" for depth in depths) + f"   {last}"]
        for start in range(0, len(self.rows), len(depths)):
            rows = self.rows[start : start + len(depths)]
            cells = "".join(f"{self._cell(row):>19}" for row in rows)
            size = f"{rows[0].size:8,}" if has_encodings else ""
            lines.append(f"{size}{cells}   {rows[0].encoder}")
        return "\n".join(lines)

    def _cell(self, row: Recall) -> str:
        if row.size and row.depth == self.documents:
            return f"{row.recall:.2f} (all)"  # no estimate: nothing is left out
        return f"{row.recall:.2f} ({row.low:.2f}-{row.high:.2f})"


def recall_probe(
    queries: Matrices,
    documents: Matrices,
    encoders: Iterable[Encoder] | Mapping[str, Encoder],
    *,
    k: int = 10,
    depths: Iterable[int] = (10, 20, 50, 100, 200),
) -> RecallReport:
    """Measure prefetch encoders on your own texts, before you trust one.

    For each query the `k` documents with the highest MaxSim are to be found (all documents are scored), and the
    candidates are the documents whose encodings have the largest inner products with the query's; of equal ones the
    first come first, in both. A store that ranks `n` candidates by MaxSim then returns the exact top `k`, but for the
    share that is missing among them.

    The confidence interval is Wilson's with as many trials as there are queries: they are independent of each other,
    as the `k` documents of one query are not. A share between 0 and 1 varies less than a trial that fails or succeeds,
    so the interval is rather too wide than too narrow, and it stays honest where all or nothing is found. Use 100
    queries or more, of the kind that users ask.

    Args:
        queries: `MultiVectors` or a list of `(tokens, dim)` arrays.
        documents: The same. Give all that is searched: in a sample fewer documents compete, and recall looks better.
        encoders: `Muvera`, `MeanVector` or whatever has `encode_queries` and `encode_documents`; in a mapping, under
            names of your choice. They are given `MultiVectors`, documents a portion at a time, and return
            `(texts, size)` floats.
        k: How many documents are to be found. If there are fewer, it is all of them, and the report says so.
        depths: Numbers of candidates. One beyond the number of documents is cut to that, where recall is 1.

    Raises:
        ShapeError: If a matrix or an encoding has the wrong shape.
        ArgumentError: If there is no query, document, encoder or depth, or a value is NaN or infinite.

    Examples:
        >>> import numpy as np
        >>> from chandelier import MeanVector, Muvera
        >>> random = np.random.default_rng(0)
        >>> documents = list(random.normal(size=(300, 20, 32)))
        >>> queries = [document[:4] for document in documents[:50]]
        >>> report = recall_probe(queries, documents, [MeanVector(32), Muvera(32, ksim=3)], k=1, depths=[10, 100])
        >>> [(row.size, row.depth) for row in report.rows]
        [(32, 10), (32, 100), (2560, 10), (2560, 100)]
        >>> all(row.low <= row.recall <= row.high for row in report.rows)
        True
    """
    queries = as_multivectors("queries", queries)
    if not len(queries):
        raise ArgumentError("queries: got none, wanted at least one", argument="queries")
    rows, offsets = in_place("documents", documents, queries.dim, "every query")
    texts = documents if isinstance(documents, MultiVectors) else cast(list[FloatArray], rows)
    if not len(texts):
        raise ArgumentError("documents: got none, wanted at least one", argument="documents")
    k = min(checked_count("k", k), len(texts))
    cut = sorted({min(checked_count("depths", depth), len(texts)) for depth in several("depths", depths)})
    named = _named(encoders)
    exact = _core.top_k_each(queries.data, queries.offsets, rows, offsets, k)
    found: list[Recall] = []
    for name, encoder in named.items():
        encoded = _checked(name, encoder.encode_queries(queries), len(queries))
        candidates = _core.Candidates(len(queries), cut[-1])
        portion = max(1, PORTION // encoded.shape[1])
        for start in range(0, len(texts), portion):
            part = as_multivectors("documents", texts[start : start + portion])
            candidates.add(encoded, _checked(name, encoder.encode_documents(part), len(part), encoded.shape[1]))
        shares = candidates.recall(exact, cut)
        found.extend(Recall(name, encoded.shape[1], depth, *share) for depth, share in zip(cut, shares, strict=True))
    return RecallReport(len(queries), len(texts), k, tuple(found))


def several(name: str, values: Any) -> list[Any]:
    """Several of something, at least one."""
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise ArgumentError(f"{name}: got {type(values).__name__}, wanted a list", argument=name)
    listed = list(values)
    if not listed:
        raise ArgumentError(f"{name}: got none, wanted at least one", argument=name)
    return listed


def _named(encoders: Iterable[Encoder] | Mapping[str, Encoder]) -> dict[str, Encoder]:
    if isinstance(encoders, Mapping):
        named = dict(encoders)
    else:
        listed = several("encoders", encoders)
        named = {repr(encoder): encoder for encoder in listed}
        if any(named[repr(encoder)] is not encoder and named[repr(encoder)] != encoder for encoder in listed):
            message = f"encoders: got several that print as {list(named)}, wanted a mapping that gives them names"
            raise ArgumentError(message, argument="encoders")
    methods = ("encode_queries", "encode_documents")
    for encoder in named.values():
        if isinstance(encoder, type) or not all(callable(getattr(encoder, method, None)) for method in methods):
            got = f"the class {encoder.__name__}" if isinstance(encoder, type) else repr(encoder)
            wanted = "an object with encode_queries and encode_documents, Muvera(dim) say"
            raise ArgumentError(f"encoders: got {got}, wanted {wanted}", argument="encoders")
    if not named:
        raise ArgumentError("encoders: got none, wanted at least one", argument="encoders")
    return named


def _checked(name: str, encodings: npt.ArrayLike, texts: int, size: int | None = None) -> Float32Array:
    """Encodings as the core takes them."""
    place = f"encoders: encodings of {name}"
    array = as_matrix(place, encodings, "encoders")
    if len(array) != texts or size not in (None, array.shape[1]):
        raise ShapeError(f"{place}: got shape {array.shape}, wanted ({texts}, {size or 'size'})")
    if not np.isfinite(array).all():
        raise ArgumentError(f"{place}: got NaN or infinity, wanted finite values", argument="encoders")
    return array
