"""MaxSim against numpy in float64, in every form that documents come in and on every instruction set."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chandelier import ArgumentError, MultiVectors, ShapeError, maxsim, maxsim_matrix, top_k

Float32 = npt.NDArray[np.float32]


def reference(query: npt.NDArray[Any], document: npt.NDArray[Any]) -> float:
    return float((query.astype(np.float64) @ document.astype(np.float64).T).max(axis=1).sum())


def random_rows(rng: np.random.Generator, count: int, dim: int) -> Float32:
    rows = rng.standard_normal((count, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@st.composite
def searches(draw: st.DrawFn) -> tuple[Float32, list[Float32]]:
    rng = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    dim = draw(st.sampled_from([1, 2, 31, 48, 64, 77, 96, 128, 300]))
    lengths = draw(st.lists(st.integers(1, 400), max_size=12))
    return random_rows(rng, draw(st.integers(1, 80)), dim), [random_rows(rng, n, dim) for n in lengths]


@settings(deadline=None, max_examples=60)
@given(searches())
def test_every_form_of_the_same_documents_has_the_float64_scores(search: tuple[Float32, list[Float32]]) -> None:
    query, documents = search
    want = np.array([reference(query, document) for document in documents])
    scores = maxsim(query, documents)
    assert scores.dtype == np.float32
    assert np.all(np.abs(scores - want) < 1e-5 * len(query))
    joined = MultiVectors.from_arrays(documents, dim=query.shape[1])
    forms: dict[str, Any] = {
        "joined": joined,
        "float64": [document.astype(np.float64) for document in documents],
        "big-endian": [document.astype(">f4") for document in documents],
        "column after column": [np.asfortranarray(document) for document in documents],
        "every other row": [np.repeat(document, 2, axis=0)[::2] for document in documents],
        "a generator": (document for document in documents),
        "nested lists": [document.tolist() for document in documents],
    }
    for name, form in forms.items():
        assert np.array_equal(maxsim(query, form), scores), name
    halves = joined.astype("float16")
    widened = [half.astype(np.float32) for half in halves]
    assert np.array_equal(maxsim(query, halves), maxsim(query, widened))
    assert np.array_equal(maxsim(query, list(halves)), maxsim(query, widened))
    mixed = [half if index % 2 else single for index, (half, single) in enumerate(zip(halves, widened, strict=True))]
    assert np.array_equal(maxsim(query, mixed), maxsim(query, widened))
    assert np.array_equal(maxsim_matrix([query, -query], documents), [scores, maxsim(-query, documents)])
    if documents:
        best, found = top_k(query, documents, 3)
        order = np.argsort(-scores, kind="stable")[:3]
        assert np.array_equal(best, order)
        assert np.array_equal(found, scores[order])


@settings(deadline=None, max_examples=30)
@given(searches(), st.randoms(use_true_random=False))
def test_the_order_of_tokens_changes_no_bit(search: tuple[Float32, list[Float32]], random: Any) -> None:
    query, documents = search
    shuffled = [document[random.sample(range(len(document)), len(document))] for document in documents]
    assert np.array_equal(maxsim(query, shuffled), maxsim(query, documents))


@settings(deadline=None, max_examples=60)
@given(searches(), st.data())
def test_a_subset_is_all_of_them_with_a_mask(search: tuple[Float32, list[Float32]], data: st.DataObject) -> None:
    query, documents = search
    documents = documents[:1] * 3 + documents  # ties
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(documents), max_size=len(documents))), bool)
    k = data.draw(st.integers(1, 16))
    subset, scores = np.flatnonzero(mask), maxsim(query, documents)
    order = subset[np.argsort(-scores[mask], kind="stable")[:k]]
    joined = MultiVectors.from_arrays(documents, dim=query.shape[1])
    forms: list[npt.ArrayLike] = [subset, subset.tolist(), subset.astype(np.int16), np.repeat(subset, 2)[::2]]
    for form in forms:
        for texts in (joined, documents):
            assert np.array_equal(maxsim(query, texts, subset=form), scores[mask])
            indices, best = top_k(query, texts, k, subset=form)
            assert indices.tolist() == order.tolist()
            assert best.tolist() == scores[order].tolist()
            assert (indices.dtype, best.dtype) == (np.int64, np.float32)


BAD_SUBSETS: list[tuple[Any, type[ValueError], str]] = [
    ([0, 0], ArgumentError, r"0 and then 0 at \[1\], wanted indices that rise"),
    ([2, 1], ArgumentError, r"2 and then 1 at \[1\]"),
    ([0, 3], ArgumentError, r"3 at \[1\], wanted indices below 3"),
    ([-1], ArgumentError, r"-1 at \[0\], wanted indices from 0"),
    (np.array([True, False, True]), ArgumentError, "bool.*np.flatnonzero"),
    (np.array([0.0, 1.0]), ArgumentError, "float64"),
    (np.array([2**63], np.uint64), ArgumentError, "uint64"),
    (np.ma.masked_array([0, 1], [False, True]), ArgumentError, "masked"),
    ({0, 1}, ArgumentError, "set"),
    ("01", ArgumentError, "str"),
    (1, ShapeError, r"\(\)"),
    ([[0, 1]], ShapeError, r"\(1, 2\)"),
    ([[0], [0, 1]], ShapeError, "different lengths"),
]


@pytest.mark.parametrize(("subset", "error", "says"), BAD_SUBSETS, ids=repr)
def test_a_bad_subset_is_refused(subset: Any, error: type[ValueError], says: str) -> None:
    documents = MultiVectors(np.eye(3), [0, 1, 2, 3])
    for call in (maxsim, lambda query, documents, subset: top_k(query, documents, 1, subset=subset)):
        for form in (documents, list(documents)):
            with pytest.raises(error, match=f"^subset: got .*{says}") as caught:
                call(np.eye(3), form, subset=subset)
            assert getattr(caught.value, "argument", "subset") == "subset"


def test_documents_out_of_the_subset_may_hold_anything() -> None:
    documents = MultiVectors(np.array([[np.nan], [1.0], [np.inf]]), [0, 1, 1, 2, 3])
    assert maxsim([[2.0]], documents, subset=[2]).tolist() == [2.0]
    for index, says in ((0, r"nan at \[0\]"), (1, r"documents\[1\]: got no tokens"), (3, r"inf at \[3\]")):
        with pytest.raises((ArgumentError, ShapeError), match=f"(?i){says}"):
            top_k([[2.0]], documents, 1, subset=sorted([2, index]))


def test_an_empty_subset_finds_nothing() -> None:
    for documents in (MultiVectors(np.eye(3), [0, 1, 2, 3]), []):
        for subset in ([], (), np.zeros(0, np.int64)):
            assert maxsim(np.eye(3), documents, subset=subset).tolist() == []
            indices, scores = top_k(np.eye(3), documents, 2, subset=subset)
            assert (indices.shape, scores.shape) == ((0,), (0,))
            assert (indices.dtype, scores.dtype) == (np.int64, np.float32)


def test_a_small_subset_of_many_documents_is_scored_in_a_moment() -> None:
    many = MultiVectors(np.ones((1_000_000, 1), np.float32), np.arange(1_000_001))
    begun = time.process_time()
    for first in range(100):
        assert top_k([[1.0]], many, 1, subset=[first, 999_999])[0].tolist() == [first]
    # The shortest loop of Python's over a million documents takes 20 ms, and 2 seconds of these.
    assert time.process_time() - begun < 1


def test_a_short_document_gains_nothing() -> None:
    # Padding with zeros would lift every one of these to 0.
    assert maxsim(np.eye(3), [-np.ones((1, 3)), -np.ones((9, 3))]).tolist() == [-3.0, -3.0]


SCORE = """
import json, sys
import numpy as np
import chandelier
rng = np.random.default_rng(3)
documents = [rng.standard_normal((n, 96)).astype(np.float32) for n in (1, 7, 180, 3000, 12)]
query = rng.standard_normal((37, 96)).astype(np.float32)
print(json.dumps([chandelier.build_info()["simd"], chandelier.maxsim(query, documents).tolist()]))
"""


def score_on(simd: str | None) -> Any:
    environment = {name: value for name, value in os.environ.items() if name != "CHANDELIER_SIMD"}
    if simd is not None:
        environment["CHANDELIER_SIMD"] = simd
    done = subprocess.run([sys.executable, "-c", SCORE], env=environment, capture_output=True, text=True, check=False)
    return json.loads(done.stdout) if done.returncode == 0 else done.stderr


def test_instructions_can_be_named_and_agree() -> None:
    chosen, scores = score_on(None)
    assert chosen in {"avx512", "avx2", "neon", "portable"}
    name, portable = score_on("portable")
    assert name == "portable"
    assert np.allclose(portable, scores, rtol=0, atol=1e-5 * 37 * 12)
    assert score_on(chosen) == [chosen, scores]
    if chosen == "avx512":
        assert score_on("avx2") == ["avx2", scores]


@pytest.mark.parametrize("name", ["", "AVX2", "sse9", "\udcff"])
def test_instructions_that_do_not_exist_are_refused(name: str) -> None:
    message = score_on(name)
    assert "ArgumentError: CHANDELIER_SIMD: got" in message
    assert "portable" in message


def test_scores_that_do_not_fit_into_memory_are_refused() -> None:
    many = MultiVectors(np.ones((1_000_000, 1), np.float32), np.arange(1_000_001))
    with pytest.raises(ArgumentError, match="do not fit into memory"):
        maxsim_matrix(many, many)


def test_views_of_one_array_are_taken_in_a_moment() -> None:
    # numpy's table of borrows compares every view with all others: 45 seconds for these.
    vectors = MultiVectors(np.ones((200_000, 4), np.float32), np.arange(0, 200_001, 2))
    begun = time.process_time()
    assert len(maxsim(np.ones((1, 4)), list(vectors))) == 100_000
    assert time.process_time() - begun < 10
