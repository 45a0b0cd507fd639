"""Laws of `MultiVectors`: a list of matrices goes in, the same list comes out, and nothing is copied or changed."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from chandelier import ArgumentError, MultiVectors, ShapeError
from chandelier.multivectors import checked_rows

Matrix = npt.NDArray[np.float32]

FLOATS = npst.from_dtype(np.dtype(np.float32), allow_nan=False)
SMALL = npst.from_dtype(np.dtype(np.float16), allow_nan=False, allow_infinity=False).map(np.float32)  # exact in float16


def matrices(elements: st.SearchStrategy[np.float32] = FLOATS) -> st.SearchStrategy[list[Matrix]]:
    """Up to five matrices of 0 to 4 rows, all of one dim of 1 to 5."""

    def of_dim(dim: int) -> st.SearchStrategy[list[Matrix]]:
        shapes = st.tuples(st.integers(0, 4), st.just(dim))
        return st.lists(npst.arrays(np.float32, shapes, elements=elements), min_size=1, max_size=5)

    return st.integers(1, 5).flatmap(of_dim)


def equal(vectors: MultiVectors, arrays: list[Matrix]) -> bool:
    return len(vectors) == len(arrays) and all(map(np.array_equal, vectors, arrays))


@given(arrays=matrices())
def test_arrays_come_back(arrays: list[Matrix]) -> None:
    vectors = MultiVectors.from_arrays(arrays)
    assert equal(vectors, arrays)
    assert vectors.dim == arrays[0].shape[1]
    assert vectors.offsets.tolist() == np.cumsum([0, *map(len, arrays)]).tolist()
    assert vectors.data.dtype == np.float32
    assert vectors.offsets.dtype == np.int64
    assert MultiVectors(vectors.data, vectors.offsets) == vectors
    assert MultiVectors.from_arrays(list(vectors)) == vectors
    assert MultiVectors.from_arrays(iter(vectors)) == vectors
    assert vectors[-1].tolist() == arrays[-1].tolist()


@given(
    arrays=matrices(),
    bounds=st.tuples(*[st.none() | st.integers(-8, 8)] * 2),
    step=st.sampled_from([None, 1, 2, -1, -3]),
)
def test_slices_are_those_of_a_list(
    arrays: list[Matrix], bounds: tuple[int | None, int | None], step: int | None
) -> None:
    wanted = slice(*bounds, step)
    part = MultiVectors.from_arrays(arrays)[wanted]
    assert isinstance(part, MultiVectors)
    assert equal(part, arrays[wanted])
    assert part.dim == arrays[0].shape[1]


@given(arrays=matrices(), data=st.data())
def test_concat_of_pieces_is_the_whole(arrays: list[Matrix], data: st.DataObject) -> None:
    vectors = MultiVectors.from_arrays(arrays)
    cut = data.draw(st.integers(0, len(arrays)))
    assert MultiVectors.concat([vectors[:cut], vectors[cut:]]) == vectors
    assert MultiVectors.concat([vectors]) == vectors
    assert equal(MultiVectors.concat([vectors, vectors]), arrays + arrays)


@given(arrays=matrices())
def test_pickle(arrays: list[Matrix]) -> None:
    vectors = MultiVectors.from_arrays(arrays)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(vectors, protocol))
        assert again == vectors
        assert not again.data.flags.writeable
    part = pickle.dumps(vectors[:1])
    assert len(part) < len(pickle.dumps(vectors)) + 200, "a slice pickles its own rows only"
    assert pickle.loads(part) == vectors[:1]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("multivectors") / "vectors.safetensors"


@given(arrays=matrices(FLOATS.filter(np.isfinite)))
def test_save_and_load(arrays: list[Matrix], file: Path) -> None:
    vectors = MultiVectors.from_arrays(arrays)
    vectors.save(file)
    again = MultiVectors.load(str(file))
    assert again == vectors
    assert again.data.dtype == np.float32
    assert not again.data.flags.writeable


@given(arrays=matrices(SMALL))
def test_save_and_load_half_precision(arrays: list[Matrix], file: Path) -> None:
    vectors = MultiVectors.from_arrays(arrays)
    half = vectors.astype("float16")
    assert half.data.dtype == np.float16
    assert half.astype("float32") == vectors
    assert half != vectors, "equal rows of another dtype are another value"
    half.save(file)
    again = MultiVectors.load(file)
    assert again == half
    assert again.data.dtype == np.float16
    assert MultiVectors.from_arrays(list(half)) == half, "float16 stays float16"
    assert pickle.loads(pickle.dumps(half)) == half


@given(arrays=matrices())
def test_views_and_read_only(arrays: list[Matrix]) -> None:
    vectors = MultiVectors.from_arrays(arrays)
    contiguous = vectors[1:]
    for array in (vectors.data, vectors.offsets, *vectors, contiguous.data, contiguous.offsets):
        assert not array.flags.writeable
    for index, matrix in enumerate(vectors):
        if matrix.size:
            assert np.shares_memory(matrix, vectors.data), index
            with pytest.raises(ValueError, match="read-only"):
                matrix[0, 0] = 1
    if contiguous.data.size:
        assert np.shares_memory(contiguous.data, vectors.data)
    assert MultiVectors.from_arrays(arrays) == vectors, "the arrays given were not changed"


def test_it_is_a_sequence_and_no_key() -> None:
    eye = np.eye(2, dtype=np.float32)
    vectors = MultiVectors.from_arrays([eye, 2 * eye])
    assert [matrix[0, 0] for matrix in reversed(vectors)] == [2, 1]
    for index in (2, -3):
        with pytest.raises(IndexError):
            vectors[index]
    with pytest.raises(TypeError):
        hash(vectors)
    with pytest.raises(AttributeError):
        vectors.data = eye  # type: ignore[misc]
    assert vectors != [eye, 2 * eye]


def test_a_file_of_safetensors_reads_elsewhere(tmp_path: Path) -> None:
    """The file is an ordinary safetensors file: the package of that name reads and writes it."""
    safetensors = pytest.importorskip("safetensors.numpy")
    vectors = MultiVectors.from_arrays([np.eye(3), np.ones((2, 3))])
    vectors.save(tmp_path / "ours")
    arrays = safetensors.load_file(tmp_path / "ours")
    assert set(arrays) == {"data", "offsets"}
    assert np.array_equal(arrays["data"], vectors.data)
    assert np.array_equal(arrays["offsets"], vectors.offsets)
    safetensors.save_file(arrays, tmp_path / "theirs")
    assert MultiVectors.load(tmp_path / "theirs") == vectors


UNIT = np.array([[0.6, 0.8], [0.0, -1.0], [0.3, 0.3]], np.float32)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4"])
def test_rows_of_a_user_come_out_in_float32(dtype: str) -> None:
    given_rows = np.asfortranarray(UNIT.astype(dtype))
    rows = checked_rows("vectors", given_rows, 2)
    assert rows.dtype == np.float32
    assert rows.flags.c_contiguous
    assert np.array_equal(rows, given_rows)
    assert checked_rows("vectors", UNIT.tolist(), 2).tolist() == UNIT.tolist()
    assert checked_rows("vectors", UNIT, 2) is UNIT
    assert checked_rows("vectors", UNIT[:0], 2).shape == (0, 2)


def with_row(row: list[float], dtype: str = "f8") -> npt.NDArray[Any]:
    return np.vstack([UNIT, np.array([row], dtype)])


BAD_ROWS: list[tuple[Any, type[ValueError], str]] = [
    (UNIT[0], ShapeError, "1-D"),
    (UNIT[None], ShapeError, "3-D"),
    ([[1.0], [0.0, 1.0]], ShapeError, "different lengths"),
    (np.eye(3), ShapeError, "rows of 3, wanted 2"),
    (MultiVectors.from_arrays([UNIT]), ShapeError, r"vectors\[0\]"),
    (UNIT.astype(int), ArgumentError, "int64"),
    (UNIT.astype(object), ArgumentError, "object"),
    (None, ArgumentError, "NoneType"),
    (np.ma.masked_array(UNIT, UNIT > 0), ArgumentError, "masked"),
    (with_row([0.0, np.nan]), ArgumentError, "NaN at row 3, column 1"),
    (with_row([-np.inf, 0.0], "f2"), ArgumentError, "-inf at row 3, column 0"),
    (with_row([1e39, 0.0]), ArgumentError, "float32"),
    (with_row([0.0, 0.0]), ArgumentError, "row 3 all zeros.*leave"),
    (with_row([0.0, -0.0], "f2"), ArgumentError, "row 3 all zeros.*leave"),
]


@pytest.mark.parametrize(("rows", "error", "says"), BAD_ROWS)
@pytest.mark.parametrize("unit", [True, False])
def test_rows_that_no_model_makes_are_refused(rows: Any, error: type[ValueError], says: str, unit: bool) -> None:
    with pytest.raises(error, match=f"^vectors: got .*{says}") as caught:
        checked_rows("vectors", rows, 2, unit=unit)
    assert getattr(caught.value, "argument", "vectors") == "vectors"


def test_rows_longer_than_unit_rows_are_refused_unless_the_model_has_such() -> None:
    assert checked_rows("vectors", with_row([0.0, 1.009]), 2).shape == (4, 2)
    with pytest.raises(ArgumentError, match=r"^vectors: got row 3 of length 1\.020, wanted unit rows: divide"):
        checked_rows("vectors", with_row([0.0, 1.02]), 2)
    assert checked_rows("vectors", with_row([0.0, 1.02]), 2, unit=False).shape == (4, 2)
