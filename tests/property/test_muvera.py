"""Muvera against FastEmbed's own, and against numpy's random numbers; and the laws of its encodings."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chandelier import MultiVectors, Muvera, PrefetchEncoder

Matrix = npt.NDArray[np.float32]

TOLERANCE = 1e-5  # of the largest value; what float32 rounds is a twentieth of it


def unit_rows(count: int, dim: int, seed: int = 0) -> Matrix:
    rows = np.random.default_rng(seed).standard_normal((count, dim))
    unit: Matrix = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit


def theirs(fastembed: Any, muvera: Muvera) -> Any:
    return fastembed(muvera.dim, muvera.ksim, muvera.dprojections, muvera.repetitions, muvera.seed)


def gap(got: npt.NDArray[Any], want: npt.NDArray[Any]) -> float:
    """The largest difference, as a part of the largest value."""
    assert got.shape == want.shape
    return float(np.abs(got - want).max() / max(np.abs(want).max(), 1e-300))


def worst_gap(fastembed: Any, muvera: Muvera, text: Matrix) -> float:
    oracle = theirs(fastembed, muvera)
    query, document = muvera.encode_queries([text])[0], muvera.encode_documents([text])[0]
    return max(gap(query, oracle.process_query(text)), gap(document, oracle.process_document(text)))


# --- what is drawn --------------------------------------------------------------------------------------------------

SEEDS = [0, 1, 42, 2**31, 2**32 - 1, 2**32, 2**63, 2**64 - 1, 2**64, 2**96 + 3, 2**127 + 5, 2**128 - 1]


def check_draws(dim: int, ksim: int, dprojections: int, repetitions: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    planes = [random.normal(size=(dim, ksim)) for _ in range(repetitions)]
    signs = random.choice([-1, 1], size=(repetitions, dim, dprojections))
    muvera = Muvera(dim, ksim=ksim, dprojections=dprojections, repetitions=repetitions, seed=seed)
    assert muvera.hyperplanes.tobytes() == np.stack(planes).tobytes()
    assert muvera.signs.dtype == np.int8
    assert np.array_equal(muvera.signs, signs if dprojections < dim else signs[:, :, :0])


@pytest.mark.parametrize("seed", SEEDS)
def test_a_long_stream_is_numpys_bit_for_bit(seed: int) -> None:
    """400,000 normal numbers, among them some 100 of the tail and 3,000 of the wedges."""
    check_draws(dim=2000, ksim=20, dprojections=1, repetitions=10, seed=seed)


@given(
    dim=st.integers(1, 40),
    ksim=st.integers(0, 7),
    share=st.floats(0, 1),
    repetitions=st.integers(1, 7),
    seed=st.integers(0, 2**128 - 1) | st.integers(0, 2**33),
)
def test_any_seed_and_any_shape_draws_as_numpy_does(
    dim: int, ksim: int, share: float, repetitions: int, seed: int
) -> None:
    """Odd numbers of signs too: numpy draws two with 64 bits, and the second may belong to the next repetition."""
    check_draws(dim, ksim, max(1, round(share * dim)), repetitions, seed)


# --- encodings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dim", "ksim", "dprojections", "repetitions", "seed"),
    [
        (128, 5, 16, 20, 42),
        (128, 4, 16, 10, 1),
        (128, 3, 8, 20, 0),
        (128, 0, 128, 1, 5),
        (96, 6, 32, 3, 2**64 - 1),
        (96, 0, 16, 4, 7),
        (64, 2, 64, 2, 2**32),
        (48, 1, 5, 20, 3),
        (33, 4, 7, 3, 2**100),
        (33, 6, 33, 1, 9),
        (17, 5, 16, 5, 11),
        (1, 3, 1, 2, 13),
    ],
)
@pytest.mark.parametrize("tokens", [1, 2, 7, 63, 64, 65, 130, 300])
def test_encodings_are_fastembeds(
    fastembed_muvera: Any, dim: int, ksim: int, dprojections: int, repetitions: int, seed: int, tokens: int
) -> None:
    muvera = Muvera(dim, ksim=ksim, dprojections=dprojections, repetitions=repetitions, seed=seed)
    text = unit_rows(tokens, dim, seed=tokens)
    if tokens >= 7:
        text[3] = 0  # on every hyperplane
        text[4] = text[6] = text[5]
    assert worst_gap(fastembed_muvera, muvera, text) < TOLERANCE
    assert muvera.size == theirs(fastembed_muvera, muvera).embedding_size


@given(
    dim=st.integers(1, 24),
    ksim=st.integers(0, 6),
    share=st.floats(0, 1),
    tokens=st.integers(1, 40),
    seed=st.integers(0, 2**64),
    grid=st.booleans(),
)
def test_any_encoding_is_fastembeds(
    fastembed_muvera: Any, dim: int, ksim: int, share: float, tokens: int, seed: int, grid: bool
) -> None:
    muvera = Muvera(dim, ksim=ksim, dprojections=max(1, round(share * dim)), repetitions=3, seed=seed)
    text = unit_rows(tokens, dim, seed % 1000)
    if grid:  # many equal rows, and zeros
        text = np.round(text).astype(np.float32)
    assert worst_gap(fastembed_muvera, muvera, text) < TOLERANCE


def test_a_long_text(fastembed_muvera: Any, report: Callable[[str], None]) -> None:
    """Sums of a query grow with it, and so does what float32 rounds: the tolerance is of the largest value."""
    worst = 0.0
    for muvera in (Muvera(128), Muvera(128, ksim=0, dprojections=128, repetitions=1), Muvera(128, ksim=0)):
        for text in (unit_rows(1000, 128), np.repeat(unit_rows(1, 128), 1000, axis=0)):
            worst = max(worst, worst_gap(fastembed_muvera, muvera, text))
    assert worst < TOLERANCE
    report(f"MUVERA of 1000 rows against FastEmbed: worst gap {worst:.1e} of the largest value")


@pytest.mark.parametrize("scale", [1e-40, 1e-30, 1.0, 1e30, 1e36])
def test_rows_on_the_edge_fall_where_float64_says(fastembed_muvera: Any, scale: float) -> None:
    """Rows all but orthogonal to a hyperplane: their products in float32 are nothing but rounding."""
    muvera = Muvera(96, ksim=3, dprojections=96, repetitions=4)
    rows = np.random.default_rng(1).standard_normal((480, 96))
    normals = np.moveaxis(muvera.hyperplanes, 1, 2).reshape(-1, 96)
    normals = np.resize(normals, rows.shape)
    rows -= (rows * normals).sum(1, keepdims=True) / (normals**2).sum(1, keepdims=True) * normals
    text = (rows / np.linalg.norm(rows, axis=1, keepdims=True) * scale).astype(np.float32)
    products = np.abs((text.astype(np.float64) * normals).sum(1))
    assert np.median(products) < scale * 1e-6 or scale < 1e-38, "the rows are not on the edge"
    oracle = theirs(fastembed_muvera, muvera)
    for row in text:  # each alone: its place shows in which clusters are not zero
        got, want = muvera.encode_queries([row[None]])[0], oracle.process_query(row[None])
        assert np.array_equal(got != 0, want.astype(np.float32) != 0)


# --- laws -----------------------------------------------------------------------------------------------------------

LAWS = Muvera(24, ksim=3, dprojections=7, repetitions=5)


@given(tokens=st.integers(1, 90), seed=st.integers(0, 1000))
def test_the_order_of_rows_matters_to_rounding_only(tokens: int, seed: int) -> None:
    """But for the first row of a cluster, which fills empty ones: with all clusters full documents obey it too."""
    text = unit_rows(tokens, 24, seed)
    shuffled = np.random.default_rng(seed).permutation(text)
    assert gap(LAWS.encode_queries([shuffled]), LAWS.encode_queries([text])) < TOLERANCE
    single = Muvera(24, ksim=0, dprojections=24, repetitions=1)
    assert gap(single.encode_documents([shuffled]), single.encode_documents([text])) < TOLERANCE


@given(left=st.integers(1, 40), right=st.integers(1, 40), seed=st.integers(0, 1000))
def test_a_query_is_the_sum_of_its_parts(left: int, right: int, seed: int) -> None:
    text = unit_rows(left + right, 24, seed)
    whole, first, second = LAWS.encode_queries([text, text[:left], text[left:]])
    assert gap(first + second, whole) < TOLERANCE


@given(tokens=st.integers(1, 40), seed=st.integers(0, 1000), exponent=st.integers(-20, 20))
def test_powers_of_two_go_through(tokens: int, seed: int, exponent: int) -> None:
    """Clusters depend on directions only, and a power of two rounds nothing."""
    text, factor = unit_rows(tokens, 24, seed), np.float32(2.0**exponent)
    assert np.array_equal(LAWS.encode_documents([text * factor]), LAWS.encode_documents([text]) * factor)


@given(tokens=st.integers(1, 40), seed=st.integers(0, 1000))
def test_a_document_of_one_row_holds_it_everywhere(tokens: int, seed: int) -> None:
    row = unit_rows(1, 24, seed)
    muvera = Muvera(24, ksim=3, dprojections=24, repetitions=2)
    want = np.tile(row[0], 2 * 8)
    assert np.array_equal(muvera.encode_documents([row])[0], want)
    assert gap(muvera.encode_documents([np.repeat(row, tokens, axis=0)])[0], want) < TOLERANCE


@given(lengths=st.lists(st.integers(1, 30), max_size=12), seed=st.integers(0, 1000))
def test_neighbours_change_no_bit(lengths: list[int], seed: int) -> None:
    texts = [unit_rows(length, 24, seed + place) for place, length in enumerate(lengths)]
    for encode in (LAWS.encode_queries, LAWS.encode_documents):
        together = encode(texts)
        assert together.shape == (len(texts), LAWS.size)
        assert together.dtype == np.float32
        assert all(np.array_equal(encode([text])[0], row) for text, row in zip(texts, together, strict=True))
        assert np.array_equal(encode(MultiVectors.from_arrays(texts, dim=24)), together)


def test_float16_is_taken_as_it_is() -> None:
    texts = MultiVectors.from_arrays([unit_rows(9, 24), unit_rows(30, 24)]).astype("float16")
    for encode in (LAWS.encode_queries, LAWS.encode_documents):
        want = encode(texts.astype("float32"))
        assert np.array_equal(encode(texts), want)
        assert np.array_equal(encode(list(texts)), want)


BYTES = """
import hashlib, sys
import numpy as np
from chandelier import Muvera
digest = hashlib.sha256()
for muvera in (Muvera(128, seed=5), Muvera(33, ksim=6, dprojections=7, repetitions=3)):
    rows = np.random.default_rng(1).standard_normal((3000, muvera.dim)).astype(np.float32)
    normals = np.resize(np.moveaxis(muvera.hyperplanes, 1, 2), (1500, muvera.dim))
    shares = (rows[:1500] * normals).sum(1, keepdims=True) / (normals**2).sum(1, keepdims=True)
    rows[:1500] -= (shares * normals).astype(np.float32)  # on the edge between two clusters
    texts = np.split(rows, [1, 10, 74, 75, 300, 301, 1500])
    digest.update(muvera.encode_queries(texts).tobytes())
    digest.update(muvera.encode_documents(texts).tobytes())
print(digest.hexdigest())
"""


def test_every_instruction_set_gives_the_same_bytes() -> None:
    digests = set()
    for simd in ("avx512", "avx2", "neon", "portable"):
        environment = {**os.environ, "CHANDELIER_SIMD": simd}
        done = subprocess.run(
            [sys.executable, "-c", BYTES], capture_output=True, text=True, env=environment, timeout=60
        )
        if "CHANDELIER_SIMD" in done.stderr and simd != "portable":
            continue  # not of this processor
        assert done.returncode == 0, done.stderr
        digests.add(done.stdout)
    assert len(digests) == 1


# --- the handle -----------------------------------------------------------------------------------------------------


def test_what_it_was_made_with_is_seen() -> None:
    muvera = Muvera(128)
    assert (muvera.dim, muvera.ksim, muvera.dprojections, muvera.repetitions, muvera.seed) == (128, 5, 16, 20, 42)
    assert muvera.size == 20 * 2**5 * 16 == muvera.encode_queries([unit_rows(3, 128)]).shape[1]
    assert repr(muvera) == "Muvera(dim=128, ksim=5, dprojections=16, repetitions=20, seed=42)"
    assert isinstance(muvera, PrefetchEncoder)


OTHERS = [
    Muvera(128),
    Muvera(64),
    Muvera(128, ksim=4),
    Muvera(128, dprojections=8),
    Muvera(128, repetitions=10),
    Muvera(128, seed=43),
]


def test_every_number_counts_in_the_fingerprint_and_in_equality() -> None:
    assert len({muvera.fingerprint for muvera in OTHERS}) == len(set(OTHERS)) == len(OTHERS)
    again = Muvera(np.int64(128), ksim=np.int32(5), seed=np.uint64(42))  # type: ignore[arg-type]
    assert (again, hash(again), again.fingerprint) == (OTHERS[0], hash(OTHERS[0]), OTHERS[0].fingerprint)
    assert repr(again) == repr(OTHERS[0])
    for part in ("fastembed", "128", "5", "16", "20", "42"):
        assert part in OTHERS[0].fingerprint
