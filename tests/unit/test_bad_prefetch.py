"""Bad arguments of the prefetch encoders: a typed error that names what came."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from chandelier import ArgumentError, MeanVector, Muvera, ShapeError

GOOD = np.ones((3, 8), np.float32)
ENCODERS = [Muvera(8, ksim=2, dprojections=4, repetitions=2), MeanVector(8)]
METHODS = ["encode_queries", "encode_documents"]


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        *[
            ({name: value}, name)
            for name in ("dim", "ksim", "dprojections", "repetitions", "seed")
            for value in (-1, True, False, 1.0, "5", None, [5], 1 << 200, np.nan)
        ],
        ({"dim": 0}, "dim"),
        ({"dim": 65537}, "dim"),
        ({"dprojections": 0}, "dprojections"),
        ({"dprojections": 129}, "dprojections"),
        ({"repetitions": 0}, "repetitions"),
        ({"ksim": 16}, "ksim"),
        ({"ksim": 2**31 - 1}, "ksim"),
        ({"repetitions": 2**31 - 1}, "ksim"),
        ({"dim": 65536, "ksim": 0, "repetitions": 2048}, "repetitions"),
        ({"seed": 1 << 128}, "seed"),
    ],
    ids=str,
)
def test_muvera_names_the_number(options: dict[str, Any], argument: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        Muvera(**{"dim": 128, **options})
    assert caught.value.argument == argument
    message = str(caught.value)
    assert message.startswith(f"{argument}: got ")
    assert "wanted" in message
    assert not message.endswith(".")


def test_numbers_on_the_edge_are_taken() -> None:
    assert Muvera(65536, ksim=0, dprojections=1, repetitions=1, seed=(1 << 128) - 1).size == 1
    assert Muvera(1, ksim=24, dprojections=1, repetitions=1).size == 1 << 24


def test_options_are_named() -> None:
    with pytest.raises(TypeError):
        Muvera(128, 5)  # type: ignore[misc]


@pytest.mark.parametrize("encoder", ENCODERS, ids=repr)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("texts", "error", "says"),
    [
        ([GOOD, GOOD[:0]], ShapeError, r"\[1\].*no tokens"),
        ([GOOD, GOOD[:, :5]], ShapeError, r"\[1\].*5.*8"),
        ([GOOD, GOOD[0]], ShapeError, r"\[1\].*1-D"),
        ([GOOD, np.where(np.eye(3, 8) * [[0], [0], [1]] > 0, np.nan, GOOD)], ArgumentError, r"\[1\], row 2, column 2"),
        ([np.full((2, 8), np.inf, np.float32)], ArgumentError, r"\[0\], row 0, column 0"),
        ([np.full((2, 8), np.inf, np.float16)], ArgumentError, r"\[0\], row 0, column 0"),
        ([np.ones((2, 8), np.int64)], ArgumentError, r"\[0\].*floats"),
        ([None], ArgumentError, r"\[0\]"),
        (GOOD, ArgumentError, "list"),
        ("text", ArgumentError, "list"),
        (None, ArgumentError, "list"),
    ],
    ids=str,
)
def test_texts_are_named(encoder: Any, method: str, texts: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        getattr(encoder, method)(texts)


@pytest.mark.parametrize("encoder", ENCODERS, ids=repr)
@pytest.mark.parametrize("method", METHODS)
def test_no_texts_have_no_encodings(encoder: Any, method: str) -> None:
    encodings = getattr(encoder, method)([])
    assert encodings.shape == (0, encoder.size)
    assert encodings.dtype == np.float32


def test_sums_that_overflow_are_refused() -> None:
    with pytest.raises(ArgumentError, match=r"\[0\]") as caught:
        ENCODERS[0].encode_queries([np.full((4, 8), 3e38, np.float32)])
    assert caught.value.argument == "queries"


def test_encodings_that_no_memory_holds_are_refused() -> None:
    muvera = Muvera(1, ksim=24, dprojections=1, repetitions=1)
    with pytest.raises(ArgumentError, match="memory") as caught:
        muvera.encode_documents([np.ones((1, 1), np.float32)] * 10**6)
    assert caught.value.argument == "documents"


@pytest.mark.parametrize("index", [0, 3, 4, 9])
def test_the_text_at_fault_is_named_wherever_it_stands(index: int) -> None:
    texts = [np.ones((3, 8), np.float32) for _ in range(11)]
    texts[index] = np.full((3, 8), np.nan, np.float32)
    for encoder in (Muvera(8, dprojections=2), MeanVector(8)):
        with pytest.raises(ArgumentError, match=rf"NaN at \[{index}\], row 0, column 0"):
            encoder.encode_documents(texts)


def test_clusters_that_do_not_fit_into_memory_are_refused() -> None:
    with pytest.raises(ArgumentError, match="do not fit into memory"):
        Muvera(1, ksim=0, dprojections=1, repetitions=2**24).encode_documents([np.ones((100_000, 1), np.float32)])
