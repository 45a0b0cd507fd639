"""`MultiVectors`: one matrix a text, stored end to end. The value that flows between all parts of chandelier."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias, cast, overload

import numpy as np
import numpy.typing as npt

from chandelier import _core
from chandelier.exceptions import ArgumentError, ShapeError

__all__ = ["Matrices", "MultiVectors"]

FloatArray: TypeAlias = npt.NDArray[np.floating[Any]]
Float32Array: TypeAlias = npt.NDArray[np.float32]


class MultiVectors(Sequence[FloatArray]):
    """A read-only sequence of `(tokens, dim)` matrices, one a text.

    The matrices may have different numbers of rows; they are stored end to end, and indexing gives views.

    Args:
        data: All rows, `(rows, dim)`, float32 or float16 (for storage). Not copied if it is such an array: leave it
            alone afterwards.
        offsets: `(texts + 1,)` int64; the rows of text `i` are `data[offsets[i]:offsets[i + 1]]`.

    Raises:
        ShapeError: If the two do not fit together.
        ArgumentError: If one is no array of numbers of the kind wanted.

    Examples:
        >>> import numpy as np
        >>> vectors = MultiVectors.from_arrays([np.eye(3), np.ones((2, 3))])
        >>> len(vectors), vectors[1].shape, vectors.offsets.tolist()
        (2, (2, 3), [0, 3, 5])
        >>> vectors[:1] == MultiVectors.from_arrays([np.eye(3)])
        True
    """

    __slots__ = ("_data", "_offsets")

    def __init__(self, data: npt.ArrayLike, offsets: npt.ArrayLike) -> None:
        rows = _matrix("data", data, "data")
        dtype = np.float16 if rows.dtype == np.float16 else np.float32
        self._data = _frozen(_require(rows, dtype, "data", "data"))
        self._offsets = _frozen(_checked_offsets(offsets, len(self._data)))

    @property
    def data(self) -> FloatArray:
        """All rows, `(rows, dim)`, read-only."""
        return self._data

    @property
    def offsets(self) -> npt.NDArray[np.int64]:
        """`(texts + 1,)` int64, read-only: where each text's rows begin, and at the end the number of rows."""
        return self._offsets

    @property
    def dim(self) -> int:
        """The length of a row."""
        return int(self._data.shape[1])

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @overload
    def __getitem__(self, index: int) -> FloatArray: ...

    @overload
    def __getitem__(self, index: slice) -> MultiVectors: ...

    def __getitem__(self, index: int | slice) -> FloatArray | MultiVectors:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step != 1:
                return MultiVectors.from_arrays([self[i] for i in range(start, stop, step)], dim=self.dim)
            stop = max(start, stop)
            begin, end = self._offsets[start], self._offsets[stop]
            return MultiVectors(self._data[begin:end], self._offsets[start : stop + 1] - begin)
        try:
            place = range(len(self))[index]
        except IndexError:
            raise IndexError(f"index {index} is out of range for MultiVectors of {len(self)} texts") from None
        return self._data[self._offsets[place] : self._offsets[place + 1]]

    def __iter__(self) -> Iterator[FloatArray]:
        return (self[index] for index in range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, MultiVectors):
            return NotImplemented
        return (
            self._data.dtype == other._data.dtype
            and np.array_equal(self._offsets, other._offsets)
            and np.array_equal(self._data, other._data)
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"MultiVectors(texts={len(self)}, rows={len(self._data)}, dim={self.dim}, dtype={self._data.dtype})"

    def __reduce__(self) -> tuple[Any, ...]:
        return MultiVectors, (self._data, self._offsets)

    @classmethod
    def own(cls, data: FloatArray, offsets: npt.NDArray[np.int64]) -> MultiVectors:
        """The same as the constructor, for arrays that nobody else holds: they are locked for good."""
        data.flags.writeable = offsets.flags.writeable = False
        return cls(data, offsets)

    @classmethod
    def from_arrays(cls, arrays: Iterable[npt.ArrayLike], *, dim: int | None = None) -> MultiVectors:
        """Join `(tokens, dim)` matrices.

        Args:
            arrays: The matrices; float16 if all of them are, else converted to float32.
            dim: The length of a row, needed only if there may be no matrix.

        Raises:
            ShapeError: If a matrix is not 2-D or its rows have another length; the message names its index.
            ArgumentError: If an item is no array of floats, or nothing says how long a row is.

        Examples:
            >>> MultiVectors.from_arrays([], dim=128)
            MultiVectors(texts=0, rows=0, dim=128, dtype=float32)
        """
        vectors = _join("arrays", arrays, empty_dim=None if dim is None else checked_count("dim", dim))
        if dim is not None and vectors.dim != dim:
            raise ShapeError(f"arrays[0]: got rows of {vectors.dim}, wanted dim {dim}")
        return vectors

    @classmethod
    def concat(cls, parts: Iterable[MultiVectors]) -> MultiVectors:
        """Append several `MultiVectors` of the same `dim`.

        Examples:
            >>> part = MultiVectors.from_arrays([np.eye(2)])
            >>> len(MultiVectors.concat([part, part]))
            2
        """
        if not isinstance(parts, Iterable):
            raise _wrong("parts", "parts", parts, "a list of MultiVectors")
        parts = list(parts)
        for index, part in enumerate(parts):
            if not isinstance(part, MultiVectors):
                raise _wrong("parts", f"parts[{index}]", part, "MultiVectors")
            if part.dim != parts[0].dim:
                raise ShapeError(f"parts[{index}]: got rows of {part.dim}, wanted {parts[0].dim}, as parts[0] has")
        matrices = [matrix for part in parts for matrix in part]
        return _join("parts", matrices, empty_dim=parts[0].dim if parts else None)

    def astype(self, dtype: npt.DTypeLike) -> MultiVectors:
        """Convert to `"float16"`, which halves the size in memory and on disk, or back to `"float32"`.

        Examples:
            >>> MultiVectors.from_arrays([np.eye(2)]).astype("float16")
            MultiVectors(texts=1, rows=2, dim=2, dtype=float16)
        """
        try:
            wanted = np.dtype(dtype)
        except TypeError:
            wanted = np.dtype(object)
        if wanted not in (np.float32, np.float16):
            message = f"dtype: got {dtype!r}, wanted 'float32' or 'float16'"
            raise ArgumentError(message, argument="dtype")
        return MultiVectors(
            _require(self._data, np.float16 if wanted == np.float16 else np.float32, "data", "dtype"), self._offsets
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a safetensors file with `data` and `offsets`, whole or not at all.

        Raises:
            OSError: If the file cannot be written; `FileNotFoundError` if its folder does not exist.
        """
        _core.save_multivectors(checked_path("path", path), self._data, self._offsets)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, mmap: bool = False) -> MultiVectors:
        """Read what `save` wrote.

        Args:
            path: The file.
            mmap: Leave the rows in the file and map them: the file may be larger than the memory, and nothing is read
                before it is used. It must stay as it is meanwhile; `save` replaces files and changes none.

        Raises:
            FileNotFoundError: If there is no such file.
            ModelError: If the file holds something else; it names file and key.
        """
        file = checked_path("path", path)
        if not mmap:
            return cls.own(*_core.load_multivectors(file))
        half, start, dim, offsets = _core.locate_multivectors(file)
        shape = (int(offsets[-1]), dim)
        if not shape[0]:  # an empty range cannot be mapped
            return cls.own(*_core.load_multivectors(file))
        data = np.memmap(file, np.float16 if half else np.float32, "r", start, shape)
        return cls(np.asarray(data), offsets)


Matrices: TypeAlias = MultiVectors | Iterable[npt.ArrayLike]
"""What every function that takes several texts' matrices accepts."""


def as_multivectors(name: str, matrices: Matrices, dim: int | None = None, other: str = "") -> MultiVectors:
    """Matrices in float32, in one piece; their rows must be as long as those of `other`, if it says how long."""
    if not isinstance(matrices, MultiVectors):
        # How long the rows of no matrix at all are does not matter.
        vectors = _join(name, matrices, dtype=np.float32, empty_dim=dim or 1)
    else:
        vectors = matrices if matrices.data.dtype == np.float32 else matrices.astype(np.float32)
    if dim is not None and len(vectors) and vectors.dim != dim:
        raise ShapeError(f"{name}[0]: got rows of {vectors.dim}, wanted {dim}, as {other} has")
    return vectors


def in_place(
    name: str, matrices: Matrices, dim: int, other: str
) -> tuple[FloatArray | list[FloatArray], npt.NDArray[np.int64] | None]:
    """Matrices where they lie, in float32 or float16: rows and offsets of `MultiVectors`, or a list and None."""
    if isinstance(matrices, MultiVectors):
        if not len(matrices):
            return [], None  # how long the rows of no matrix at all are does not matter
        if matrices.dim != dim:
            raise ShapeError(f"{name}[0]: got rows of {matrices.dim}, wanted {dim}, as {other} has")
        return matrices.data, matrices.offsets
    texts: list[FloatArray] = []
    for index, value in enumerate(_list(name, matrices)):
        # What is right already is taken without a further look: there may be a hundred thousand of them.
        if (
            type(value) is np.ndarray
            and value.ndim == 2
            and value.shape[1] == dim
            and (value.dtype == np.float32 or value.dtype == np.float16)
            and value.flags.c_contiguous
            and value.flags.aligned
        ):
            texts.append(value)
            continue
        matrix = _matrix(f"{name}[{index}]", value, name)
        if matrix.shape[1] != dim:
            raise ShapeError(f"{name}[{index}]: got rows of {matrix.shape[1]}, wanted {dim}, as {other} has")
        dtype = np.float16 if matrix.dtype == np.float16 else np.float32
        texts.append(_require(matrix, dtype, f"{name}[{index}]", name))
    return texts, None


def as_matrix(name: str, matrix: npt.ArrayLike, argument: str | None = None) -> Float32Array:
    """A `(tokens, dim)` matrix in float32, C-contiguous and aligned; errors are about `argument`, `name` by default."""
    argument = argument or name
    return _require(_matrix(name, matrix, argument), np.float32, name, argument)


def checked_rows(name: str, matrix: npt.ArrayLike, dim: int, *, unit: bool = True) -> Float32Array:
    """A `(tokens, dim)` matrix that a user brings instead of a text, as a model might have made it.

    There may be no rows. float16, float32 and float64 are taken; what is float32 in C order already is not copied.

    Args:
        name: What errors call it.
        matrix: The matrix.
        dim: How long the model's rows are.
        unit: Whether the model normalises its rows, `info()["normalize"]`: then none may be longer than 1.01. Means of
            unit rows, as pooling makes them, are shorter and pass.

    Raises:
        ShapeError: If it is not 2-D or its rows have another length.
        ArgumentError: If it is no array of floats, a value is NaN or infinite, a row is all zeros (padding) or longer
            than a unit row; row and column are named.

    Examples:
        >>> checked_rows("vectors", np.array([[0.6, 0.8]]), 2).dtype
        dtype('float32')
        >>> checked_rows("vectors", np.array([[0.6, 0.8], [0.0, 0.0]]), 2)
        Traceback (most recent call last):
        chandelier.exceptions.ArgumentError: vectors: got row 1 all zeros, wanted no padding: leave such rows out
    """
    rows = as_matrix(name, matrix)
    if rows.shape[1] != dim:
        raise ShapeError(f"{name}: got rows of {rows.shape[1]}, wanted {dim}, as the model has")
    _core.check_rows(name, rows, unit)
    return rows


def checked_path(name: str, path: str | os.PathLike[str]) -> str:
    """A path as a str that the file system can take."""
    try:
        text = os.fspath(path)
    except TypeError:
        raise _wrong(name, name, path, "a path") from None
    if not isinstance(text, str) or not text or "\0" in text:
        raise _wrong(name, name, path, "a path: a str that is not empty, or an os.PathLike")
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        raise _wrong(name, name, path, "a path without lone surrogates") from None
    return text


def _join(
    name: str,
    arrays: Iterable[npt.ArrayLike],
    *,
    dtype: type[np.floating[Any]] | None = None,
    empty_dim: int | None = None,
) -> MultiVectors:
    matrices = [_matrix(f"{name}[{index}]", array, name) for index, array in enumerate(_list(name, arrays))]
    if not matrices and empty_dim is None:
        raise ArgumentError(f"{name}: got no matrix, wanted at least one or dim=", argument=name)
    dim = matrices[0].shape[1] if matrices else empty_dim
    for index, matrix in enumerate(matrices):
        if matrix.shape[1] != dim:
            raise ShapeError(f"{name}[{index}]: got rows of {matrix.shape[1]}, wanted {dim}, as {name}[0] has")
    if dtype is None:
        dtype = np.float16 if matrices and all(m.dtype == np.float16 for m in matrices) else np.float32
    offsets = np.cumsum([0, *map(len, matrices)], dtype=np.int64)
    matrices = [_require(matrix, dtype, f"{name}[{index}]", name) for index, matrix in enumerate(matrices)]
    rows = [np.empty((0, cast(int, dim)), dtype), *matrices]
    return MultiVectors.own(np.concatenate(rows), offsets)


def _list(name: str, arrays: Iterable[npt.ArrayLike]) -> Iterable[npt.ArrayLike]:
    if isinstance(arrays, (np.ndarray, str, bytes, dict)) or not isinstance(arrays, Iterable):
        raise _wrong(name, name, arrays, "a list of 2-D arrays, one a text")
    return arrays


def _matrix(place: str, value: npt.ArrayLike, argument: str) -> FloatArray:
    if isinstance(value, MultiVectors):
        got = f"MultiVectors of {len(value)} texts"
        raise ShapeError(f"{place}: got {got}, wanted one matrix (tokens, dim), {argument}[0] say")
    if isinstance(value, np.ma.MaskedArray):
        raise ArgumentError(f"{place}: got a masked array, wanted one whose rows all count", argument=argument)
    try:
        array = np.asarray(value)
    except ValueError:  # nested lists of different lengths
        raise ShapeError(f"{place}: got rows of different lengths, wanted a 2-D array (tokens, dim)") from None
    if array.dtype.kind != "f":
        got = type(value).__name__ if array.ndim == 0 else f"dtype {array.dtype}"
        raise ArgumentError(f"{place}: got {got}, wanted a 2-D array of floats", argument=argument)
    if array.ndim != 2 or array.shape[1] == 0:
        got = f"a {array.ndim}-D array of shape {array.shape}"
        raise ShapeError(f"{place}: got {got}, wanted (tokens, dim) with dim of at least 1")
    return array


def _require(array: FloatArray, dtype: type[np.floating[Any]], place: str, argument: str) -> npt.NDArray[Any]:
    with np.errstate(over="ignore"):
        result: npt.NDArray[Any] = np.require(array, dtype, ["C_CONTIGUOUS", "ALIGNED"])
    if result.itemsize < array.itemsize and np.isinf(result).any() and not np.isinf(array).any():
        message = f"{place}: got values that {np.dtype(dtype)} cannot hold, wanted smaller ones"
        raise ArgumentError(message, argument=argument)
    return result


def checked_count(name: str, value: int, least: int = 1, most: int = (1 << 31) - 1) -> int:
    """A whole number in a range; `bool` is none, numpy's integers are."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not least <= value <= most:
        got = value if isinstance(value, (int, float, str)) else type(value).__name__
        raise ArgumentError(f"{name}: got {got!r}, wanted a whole number from {least} to {most}", argument=name)
    return int(value)


def checked_subset(value: npt.ArrayLike | None) -> npt.NDArray[np.int64] | None:
    """Indices of documents in int64; whether they rise and exist is for the core to say."""
    if value is None:
        return None
    wanted = "a 1-D array of int64 indices"
    if isinstance(value, np.ma.MaskedArray):
        raise ArgumentError(f"subset: got a masked array, wanted {wanted}", argument="subset")
    try:
        array = np.asarray(value)
    except ValueError:  # nested lists of different lengths
        raise ShapeError(f"subset: got lists of different lengths, wanted {wanted}") from None
    if isinstance(value, Sequence) and array.shape == (0,):
        return np.zeros(0, np.int64)  # numpy takes an empty list for float64
    if array.dtype.kind not in "iu" or not np.can_cast(array.dtype, np.int64):
        hint = "; np.flatnonzero makes them from a mask" if array.dtype == np.bool_ else ""
        got = type(value).__name__ if array.ndim == 0 else f"dtype {array.dtype}"
        raise ArgumentError(f"subset: got {got}, wanted {wanted}{hint}", argument="subset")
    if array.ndim != 1:
        raise ShapeError(f"subset: got shape {array.shape}, wanted {wanted}")
    return np.require(array, np.int64, ["C_CONTIGUOUS", "ALIGNED"])


def _checked_offsets(value: npt.ArrayLike, rows: int) -> npt.NDArray[np.int64]:
    array = np.asarray(value)
    if array.dtype.kind not in "iu":
        raise ArgumentError(f"offsets: got dtype {array.dtype}, wanted int64", argument="offsets")
    if array.ndim != 1 or array.size == 0:
        raise ShapeError(f"offsets: got shape {array.shape}, wanted (texts + 1,)")
    offsets = np.array(array, dtype=np.int64)
    if offsets[0] != 0 or offsets[-1] != rows or np.any(offsets[:-1] > offsets[1:]):
        raise ShapeError(f"offsets: got {_brief(offsets)}, wanted a rising list from 0 to {rows}, the number of rows")
    return offsets


def _frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    view: npt.NDArray[Any] = array.view()
    view.flags.writeable = False
    return view


def _brief(offsets: npt.NDArray[np.int64]) -> str:
    return np.array2string(offsets, threshold=8, edgeitems=3)


def _wrong(argument: str, place: str, value: object, wanted: str) -> ArgumentError:
    return ArgumentError(f"{place}: got {type(value).__name__}, wanted {wanted}", argument=argument)
