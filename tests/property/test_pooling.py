"""Token pooling against scipy itself, and its laws."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster, linkage

from chandelier import ArgumentError, ColBERT, MultiVectors, pool_tokens

Rows = npt.NDArray[np.float32]
GOLDEN = "tests/goldens/a_bert_pylate/checkpoint"


def reference(rows: Rows, factor: int, protected: int) -> Rows:
    """PyLate's steps, on scipy; distances are clamped to [0, 2]."""
    kept, others = rows[:protected], rows[protected:]
    clusters = max(len(others) // factor, 1)
    if clusters >= len(others):
        return rows
    distances = np.clip(1 - others @ others.T, 0, 2)
    merges = linkage(distances[np.triu_indices(len(others), 1)], method="ward")
    labels = fcluster(merges, t=clusters, criterion="maxclust") - 1
    sums = np.zeros((labels.max() + 1, rows.shape[1]), np.float32)
    np.add.at(sums, labels, others)
    return np.concatenate([kept, sums / np.bincount(labels).astype(np.float32)[:, None]])


def on_a_grid(rows: npt.NDArray[Any]) -> Rows:
    """Multiples of 1/1024: products and sums of those are exact in float32, so both sides see the same distances."""
    return (np.round(rows * 1024) / 1024).astype(np.float32)


def unit(rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


KINDS: dict[str, Callable[[np.random.Generator, int, int], npt.NDArray[Any]]] = {
    "random": lambda rng, n, dim: unit(rng.standard_normal((n, dim))),
    "clustered": lambda rng, n, dim: unit(
        rng.standard_normal((5, dim))[rng.integers(0, 5, n)] + 0.1 * rng.standard_normal((n, dim))
    ),
    "with duplicates": lambda rng, n, dim: unit(rng.standard_normal((n, dim)))[rng.integers(0, n, n)],
    "few values, many ties": lambda rng, n, dim: rng.integers(-1, 2, (n, dim)) / 2,
    "axes": lambda rng, n, dim: np.eye(dim)[rng.integers(0, dim, n)] * rng.choice([-1, 1], (n, 1)),
    "all the same": lambda rng, n, dim: np.repeat(unit(rng.standard_normal((1, dim))), n, axis=0),
    "zeros": lambda rng, n, dim: np.zeros((n, dim)),
    "opposites": lambda rng, n, dim: np.eye(1, dim) * np.where(np.arange(n) % 2, -1, 1)[:, None],
    "on a line": lambda rng, n, dim: np.linspace(-1, 1, n)[:, None] * np.eye(1, dim),
    "not of unit length": lambda rng, n, dim: rng.uniform(-1, 1, (n, dim)) / np.sqrt(dim) * rng.choice([0.1, 1.7]),
}


def cases(count: int) -> Iterator[tuple[str, Rows, int, int]]:
    rng = np.random.default_rng(1)
    for index in range(count):
        kind = list(KINDS)[index % len(KINDS)]
        n = int(rng.integers(1, 301)) if index % 7 == 0 else int(rng.integers(1, 70))
        dim = int(rng.choice([1, 2, 3, 8, 17, 48, 128]))
        yield kind, on_a_grid(KINDS[kind](rng, n, dim)), int(rng.choice([1, 2, 2, 3, 4, 7, 50, 400])), index % 4


def test_two_thousand_cases_are_scipys() -> None:
    for kind, rows, factor, protected in cases(2000):
        got = pool_tokens([rows], factor, protected_tokens=protected)[0]
        want = reference(rows, factor, protected)
        assert np.array_equal(got, want), f"{kind}, {rows.shape}, by {factor}, {protected} protected"


@pytest.mark.parametrize("simd", ["portable", "avx2", "avx512", "neon"])
def test_every_instruction_set_pools_as_scipy_does(simd: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHANDELIER_SIMD", simd)
    try:
        pool_tokens([np.eye(2)], 2)
    except ArgumentError:
        pytest.skip(f"this processor has no {simd}")
    for kind, rows, factor, protected in cases(200):
        got = pool_tokens([rows], factor, protected_tokens=protected)[0]
        assert np.array_equal(got, reference(rows, factor, protected)), f"{kind}, {rows.shape}, by {factor}"


def test_a_document_too_large_to_pool_is_refused_by_name() -> None:
    with pytest.raises(ArgumentError, match=r"documents\[1\]: got 1999999 rows to pool.*more memory than there is"):
        pool_tokens([np.eye(1), np.ones((2_000_000, 1), np.float32)], 2)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 1 << 32), st.lists(st.integers(0, 90), max_size=12), st.integers(1, 9), st.integers(0, 4))
def test_a_document_does_not_see_its_neighbours(seed: int, lengths: list[int], factor: int, protected: int) -> None:
    rng = np.random.default_rng(seed)
    documents = [unit(rng.standard_normal((n, 16))).astype(np.float32) for n in lengths]
    together = pool_tokens(MultiVectors.from_arrays(documents, dim=16), factor, protected_tokens=protected)
    for document, pooled in zip(documents, together, strict=True):
        assert np.array_equal(pool_tokens([document], factor, protected_tokens=protected)[0], pooled)
        assert len(pooled) <= min(protected, len(document)) + max(len(document) // factor, 1)
    if documents:
        assert pool_tokens(documents, 1) == MultiVectors.from_arrays(documents)


@pytest.mark.parametrize("protected", [0, 1, 5])
def test_encoding_pools_what_pool_tokens_pools(protected: int) -> None:
    model = ColBERT(GOLDEN)
    texts = ["the moon moves the sea", "", "one two three, four five six seven eight nine ten", "a"]
    whole = model.encode_documents(texts)
    pooled = pool_tokens(whole, 3, protected_tokens=protected)
    assert model.encode_documents(texts, pool_factor=3, protected_tokens=protected) == pooled
    arrays = model.encode(texts, is_query=False, pool_factor=3, protected_tokens=protected)
    assert MultiVectors.from_arrays(arrays) == pooled
    assert model.encode_documents(texts, pool_factor=1) == whole
    # As in PyLate, queries are never pooled.
    assert MultiVectors.from_arrays(model.encode(texts, is_query=True, pool_factor=3)) == model.encode_queries(texts)


def test_rows_whose_sum_overflows_have_a_mean_all_the_same() -> None:
    rows = np.array([[3e38, 0.0], [3e38, 0.0], [-1.0, 0.0]], np.float32)
    assert pool_tokens([rows], 2, protected_tokens=0)[0].tolist() == [[float(np.float32(2e38)), 0.0]]
