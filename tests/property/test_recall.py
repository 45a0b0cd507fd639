"""The recall probe against a plain numpy computation of the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chandelier import ArgumentError, MeanVector, MultiVectors, Muvera, Recall, ShapeError, recall_probe
from chandelier import recall as recall_module

Matrix = npt.NDArray[np.float32]


def on_a_grid(random: np.random.Generator, tokens: int, dim: int) -> Matrix:
    """Multiples of 1/4: products are exact, and ties are many."""
    rows: Matrix = (random.integers(-4, 5, (tokens, dim)) / 4).astype(np.float32)
    return rows


class Sums:
    """An encoder whose inner products are exact."""

    def encode_queries(self, queries: MultiVectors) -> npt.NDArray[np.float64]:
        return np.array([np.sum(query, axis=0, dtype=np.float64) for query in queries])

    encode_documents = encode_queries


def wilson(mean: float, trials: int) -> tuple[float, float]:
    """The two shares whose distance from the mean is 1.96 of their standard deviations: roots of a quadratic."""
    z2 = 1.959963984540054**2
    ends = np.roots([1 + z2 / trials, -(2 * mean + z2 / trials), mean**2])
    return max(0.0, min(ends.real)), min(1.0, max(ends.real))


def by_numpy(queries: list[Matrix], documents: list[Matrix], k: int, depth: int) -> float:
    shares = []
    for query in queries:
        scores = np.array([(query @ document.T).max(axis=1).sum() for document in documents])
        products = np.array([query.sum(0) @ document.sum(0) for document in documents])
        exact = np.argsort(-scores, kind="stable")[:k]
        found = np.argsort(-products, kind="stable")[:depth]
        shares.append(len(np.intersect1d(exact, found)) / len(exact))
    return float(np.mean(shares))


@given(
    counts=st.tuples(st.integers(1, 40), st.integers(1, 60)),
    dim=st.integers(1, 6),
    k=st.integers(1, 70),
    depths=st.lists(st.integers(1, 80), min_size=1, max_size=4),
    seed=st.integers(0, 10**6),
    portion=st.sampled_from([1, 7, 1 << 24]),
)
def test_recall_is_numpys(
    counts: tuple[int, int], dim: int, k: int, depths: list[int], seed: int, portion: int
) -> None:
    random = np.random.default_rng(seed)
    queries, documents = ([on_a_grid(random, random.integers(1, 5), dim) for _ in range(n)] for n in counts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recall_module, "PORTION", portion)
        report = recall_probe(queries, documents, {"sums": Sums()}, k=k, depths=depths)
    assert (report.queries, report.documents, report.k) == (*counts, min(k, counts[1]))
    assert [row.depth for row in report.rows] == sorted({min(depth, counts[1]) for depth in depths})
    for row in report.rows:
        want = by_numpy(queries, documents, k, row.depth)
        assert (row.encoder, row.size) == ("sums", dim)
        assert row.recall == pytest.approx(want, abs=1e-12)
        assert (row.low, row.high) == pytest.approx(wilson(row.recall, counts[0]), abs=1e-6)
        assert 0 <= row.low <= row.recall <= row.high <= 1
        assert row.low < row.high


def texts(count: int, seed: int = 0) -> list[Matrix]:
    random = np.random.default_rng(seed)
    return [random.standard_normal((random.integers(2, 9), 16)).astype(np.float32) for _ in range(count)]


ENCODERS = [MeanVector(16), Muvera(16, ksim=2, dprojections=8, repetitions=4)]


def test_every_encoder_at_every_depth() -> None:
    report = recall_probe(texts(20, 1), texts(150), ENCODERS, k=5, depths=(50, 10, 50, 1000))
    assert [(row.encoder, row.size, row.depth) for row in report.rows] == [
        (repr(encoder), encoder.size, depth) for encoder in ENCODERS for depth in (10, 50, 150)
    ]
    for start in (0, 3):
        recalls = [row.recall for row in report.rows[start : start + 3]]
        assert recalls == sorted(recalls)
        assert recalls[-1] == 1.0, "all documents hold all that is to be found"
    assert report == recall_probe(
        texts(20, 1), MultiVectors.from_arrays(texts(150)), ENCODERS, k=5, depths=[10, 50, 150]
    )


def test_the_table_shows_every_row() -> None:
    report = recall_probe(texts(20, 1), texts(150), {"mean": ENCODERS[0], "fde": ENCODERS[1]}, k=5)
    title, head, *lines = str(report).splitlines()
    assert "top 5" in title
    assert "queries: 20" in title
    assert "documents: 150" in title
    assert all(f"n = {depth}" in head for depth in (10, 20, 50, 100, 150))
    assert [line.split()[-1] for line in lines] == ["mean", "fde"]
    for line, rows in zip(lines, (report.rows[:5], report.rows[5:]), strict=True):
        assert line.split()[0] == str(rows[0].size)
        assert all(f"{row.recall:.2f} ({row.low:.2f}-{row.high:.2f})" in line for row in rows[:-1])
        assert "1.00 (all)" in line, "with all documents as candidates nothing is estimated"
    assert isinstance(report.rows[0], Recall)


class Fixed:
    """An encoder that returns what it was told to."""

    def __init__(self, queries: Any, documents: Any) -> None:
        self.queries, self.documents = queries, documents

    def encode_queries(self, queries: MultiVectors) -> Any:
        return self.queries

    def encode_documents(self, documents: MultiVectors) -> Any:
        return self.documents


GOOD = np.zeros((3, 4))


@pytest.mark.parametrize(
    ("queries", "documents", "error"),
    [
        (np.zeros((2, 4)), GOOD, ShapeError),
        (GOOD, np.zeros((2, 4)), ShapeError),
        (GOOD, np.zeros((3, 5)), ShapeError),
        (np.zeros(3), GOOD, ShapeError),
        (GOOD, np.zeros((3, 4, 1)), ShapeError),
        (np.zeros((3, 0)), np.zeros((3, 0)), ShapeError),
        (GOOD, None, ArgumentError),
        (GOOD, [["a"] * 4] * 3, ArgumentError),
        (GOOD, np.full((3, 4), np.nan), ArgumentError),
        (np.full((3, 4), np.inf), GOOD, ArgumentError),
        (np.full((3, 4), 1e30), np.full((3, 4), 1e30), ArgumentError),
    ],
)
def test_encodings_that_are_none(queries: Any, documents: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="encoders"):
        recall_probe(texts(3), texts(3), {"strange": Fixed(queries, documents)})


@pytest.mark.parametrize(
    ("changed", "argument"),
    [
        ({"queries": []}, "queries"),
        ({"documents": []}, "documents"),
        ({"documents": [np.full((2, 16), np.nan)]}, "documents"),
        ({"encoders": []}, "encoders"),
        ({"encoders": {}}, "encoders"),
        ({"encoders": MeanVector(16)}, "encoders"),
        ({"encoders": "mean"}, "encoders"),
        ({"encoders": [MeanVector]}, "encoders"),
        ({"encoders": [None]}, "encoders"),
        ({"k": 0}, "k"),
        ({"k": True}, "k"),
        ({"depths": []}, "depths"),
        ({"depths": [0]}, "depths"),
        ({"depths": 10}, "depths"),
        ({"depths": [1.5]}, "depths"),
    ],
)
def test_bad_arguments_are_named(changed: dict[str, Any], argument: str) -> None:
    given = {"queries": texts(3), "documents": texts(4), "encoders": [MeanVector(16)], **changed}
    with pytest.raises(ArgumentError) as caught:
        recall_probe(**given)
    assert caught.value.argument == argument
    assert argument in str(caught.value)


def test_another_dimension_is_named() -> None:
    with pytest.raises(ShapeError, match="16"):
        recall_probe(texts(3), texts(3), [MeanVector(8)])
    with pytest.raises(ShapeError):
        recall_probe(texts(3), [np.ones((2, 8), np.float32)], [MeanVector(16)])


class SameName:
    """Prints as every other one of its kind."""

    def __init__(self, sign: int) -> None:
        self.sign = sign

    def __repr__(self) -> str:
        return "SameName"

    def encode_queries(self, queries: MultiVectors) -> Any:
        return self.sign * MeanVector(16).encode_queries(queries)

    def encode_documents(self, documents: MultiVectors) -> Any:
        return MeanVector(16).encode_documents(documents)


def test_no_measurement_is_lost_behind_a_name() -> None:
    with pytest.raises(ArgumentError, match="mapping"):
        recall_probe(texts(3), texts(9), [SameName(1), SameName(-1)])
    named = recall_probe(texts(3), texts(9), {"there": SameName(1), "back": SameName(-1)}, k=1, depths=[1])
    assert [row.encoder for row in named.rows] == ["there", "back"]
    assert len(recall_probe(texts(3), texts(9), [MeanVector(16), MeanVector(16)], k=1, depths=[1]).rows) == 1


def test_half_precision_lists_and_pieces_give_the_same_report() -> None:
    documents = MultiVectors.from_arrays(texts(40)).astype("float16")
    wanted = recall_probe(texts(5, 1), documents, ENCODERS, k=3, depths=[5])
    assert recall_probe(texts(5, 1), list(documents), ENCODERS, k=3, depths=[5]) == wanted
    assert recall_probe(texts(5, 1), documents.astype("float32"), ENCODERS, k=3, depths=[5]) == wanted
