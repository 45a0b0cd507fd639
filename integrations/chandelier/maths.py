"""MaxSim and its relatives over `MultiVectors`; the arithmetic is in the Rust core."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from chandelier import _core
from chandelier.multivectors import (
    Float32Array,
    Matrices,
    MultiVectors,
    as_matrix,
    as_multivectors,
    checked_count,
    checked_subset,
    in_place,
)

__all__ = ["maxsim", "maxsim_matrix", "pool_tokens", "top_k"]


def maxsim(query: npt.ArrayLike, documents: Matrices, *, subset: npt.ArrayLike | None = None) -> Float32Array:
    """Score documents against one query: for each query row the best document row, summed.

    Every core that the process may use takes part, or as many threads as `CHANDELIER_THREADS` says, with the widest
    instructions there are, or those that `CHANDELIER_SIMD` (`"avx512"`, `"avx2"`, `"neon"`, `"portable"`; `"amx"` is
    AVX-512 here) names.
    Products are summed in float32 and in the order of a row, so neither threads nor neighbours change a bit of a score;
    for unit rows it is within `1e-5 * tokens` of float64's.

    Args:
        query: `(tokens, dim)` floats.
        documents: `MultiVectors` or a list of `(tokens, dim)` arrays, read where they lie if they are float32 or
            float16 in C order (`MultiVectors.load(path, mmap=True)` for more than the memory holds); arrays of other
            floats, orders or byte orders are converted to float32 first. Rows are used as they are: give unit rows, as
            `encode_documents` does, for cosines.
        subset: The indices of the documents that count, `(indices,)` int64, rising and each once (`np.flatnonzero` of a
            mask gives such); all by default. The rows of other documents are not looked at, and there may be none.

    Returns:
        `(documents,)` float32, or `(indices,)`.

    Raises:
        ShapeError: If a matrix is not 2-D, has no rows, or rows of another length; it names the document.
        ArgumentError: If a value is NaN or infinite (document, row and column are named), an array is not of floats, an
            index does not rise or is none of a document, `CHANDELIER_SIMD` names what the processor does not have, or
            `CHANDELIER_THREADS` is no number.
        KeyboardInterrupt: On Ctrl-C, at once.

    Examples:
        >>> import numpy as np
        >>> maxsim(np.eye(2), [np.eye(2), np.array([[0.5, 0.75]])]).tolist()
        [2.0, 1.25]
        >>> maxsim(np.eye(2), [np.eye(2), np.array([[0.5, 0.75]])], subset=[1]).tolist()
        [1.25]
    """
    rows = as_matrix("query", query)
    places = in_place("documents", documents, rows.shape[1], "the query")
    return _core.maxsim(rows, *places, checked_subset(subset))


def maxsim_matrix(queries: Matrices, documents: Matrices) -> Float32Array:
    """Score every document against every query; see `maxsim`.

    Returns:
        `(queries, documents)` float32.

    Examples:
        >>> import numpy as np
        >>> maxsim_matrix([np.eye(2), -np.eye(2)], [np.eye(2)]).tolist()
        [[2.0], [0.0]]
    """
    queries = as_multivectors("queries", queries)
    if not len(queries):
        return np.zeros((0, len(documents if isinstance(documents, MultiVectors) else list(documents))), np.float32)
    return _core.maxsim_matrix(
        queries.data, queries.offsets, *in_place("documents", documents, queries.dim, "every query")
    )


def top_k(
    query: npt.ArrayLike, documents: Matrices, k: int, *, subset: npt.ArrayLike | None = None
) -> tuple[npt.NDArray[np.int64], Float32Array]:
    """Find the `k` documents with the highest MaxSim, best first, ties in document order; see `maxsim`.

    Only `k` scores, and those that are being computed, are held.

    Args:
        query: As in `maxsim`.
        documents: As in `maxsim`.
        k: How many.
        subset: The indices of the documents to choose from, as in `maxsim`; all by default.

    Returns:
        Their indices in `documents`, `(min(k, documents),)` int64, and their scores, float32; with a subset
        `(min(k, indices),)`.

    Raises:
        ArgumentError: If `k` is not a whole number of at least 1; else as `maxsim`.

    Examples:
        >>> import numpy as np
        >>> indices, scores = top_k(np.eye(2), [-np.eye(2), np.eye(2)], k=1)
        >>> indices.tolist(), scores.tolist()
        ([1], [2.0])
        >>> indices, scores = top_k(np.eye(2), [np.eye(2), -np.eye(2), np.eye(2)], k=2, subset=[1, 2])
        >>> indices.tolist(), scores.tolist()
        ([2, 1], [2.0, 0.0])
    """
    rows = as_matrix("query", query)
    places = in_place("documents", documents, rows.shape[1], "the query")
    return _core.top_k(rows, *places, k, checked_subset(subset))


def pool_tokens(documents: Matrices, pool_factor: int, *, protected_tokens: int = 1) -> MultiVectors:
    """Replace similar rows of a document by their mean, for an index that is `pool_factor` times smaller.

    As PyLate (1.5 and newer) does it, row for row: Ward linkage over cosine distances, cut into `n // pool_factor`
    clusters of the `n` rows that are not protected, in the order of scipy's `fcluster`. Means are not made unit rows.
    Documents are spread over all cores. Time and memory grow with the square of a document's rows: 8 bytes for each
    pair.

    Args:
        documents: `MultiVectors` or a list of `(tokens, dim)` arrays of unit rows; a document may have no rows.
        pool_factor: How many rows become one, a whole number of at least 1.
        protected_tokens: How many rows at the start, `[CLS]` say, stay as they are.

    Returns:
        One float32 matrix a document.

    Raises:
        ArgumentError: If a number is out of range, a value is NaN or infinite, or a document's distances do not fit
            into memory.
        ShapeError: If a matrix is not 2-D, or has rows of another length; it names the document.
        KeyboardInterrupt: On Ctrl-C, at once.

    Examples:
        >>> import numpy as np
        >>> rows = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
        >>> pool_tokens([rows], 2)[0].tolist()
        [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]
    """
    vectors = as_multivectors("documents", documents)
    factor, protected = checked_pooling(pool_factor, protected_tokens)
    if not len(vectors):
        return vectors
    return MultiVectors.own(*_core.pool_tokens(vectors.data, vectors.offsets, factor, protected))


def checked_pooling(pool_factor: int, protected_tokens: int) -> tuple[int, int]:
    """Both as whole numbers in their ranges."""
    return checked_count("pool_factor", pool_factor), checked_count("protected_tokens", protected_tokens, least=0)
