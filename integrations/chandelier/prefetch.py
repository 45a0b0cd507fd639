"""Prefetch encoders: one vector a text, by which a store finds the candidates that MaxSim then ranks."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from chandelier import _core
from chandelier.multivectors import Float32Array, Matrices, checked_count, in_place

__all__ = ["MeanVector", "Muvera", "PrefetchEncoder"]


@runtime_checkable
class PrefetchEncoder(Protocol):
    """What a store wants of a prefetch encoder: candidates are the documents with the largest inner products."""

    @property
    def size(self) -> int:
        """How many values an encoding has."""

    @property
    def fingerprint(self) -> str:
        """What makes encodings comparable: a store refuses those of another fingerprint."""

    def encode_queries(self, queries: Matrices) -> Float32Array:
        """One encoding a query: `(queries, size)` float32."""

    def encode_documents(self, documents: Matrices) -> Float32Array:
        """One encoding a document: `(documents, size)` float32."""


@dataclass(frozen=True)
class Muvera:
    """MUVERA's fixed dimensional encodings: long vectors whose inner products imitate MaxSim (arXiv 2405.19504).

    Rows fall into `2**ksim` clusters, by the sides of `ksim` random hyperplanes on which they lie. A query adds up the
    rows of each cluster, a document averages them; the result is projected to `dprojections` values by random signs,
    and all of it is repeated `repetitions` times with other hyperplanes and signs.

    The encodings are those of FastEmbed's `Muvera` (0.9) with the same numbers and the same seed, within 1e-5 of the
    largest value, so a collection that was built with the one can be searched with the other:

    | here | `ksim` | `dprojections` | `repetitions` | `seed` |
    | --- | --- | --- | --- | --- |
    | FastEmbed | `k_sim` | `dim_proj` | `r_reps` | `random_seed` |

    Other implementations of MUVERA draw other numbers: their encodings cannot be mixed with these.

    Larger is better and slower; at equal size more repetitions do more than a larger `ksim`. Qdrant takes vectors of
    at most 65,535 values. How good the candidates are depends on the texts: measure with `recall_probe` before you rely
    on them, and compare with `MeanVector`.

    Args:
        dim: The length of a row, at most 65,536.
        ksim: Hyperplanes a repetition, from 0.
        dprojections: Values a cluster, at most `dim`; with `dim` of them nothing is projected.
        repetitions: How often it is all repeated.
        seed: A seed of numpy's `default_rng`, from 0 to 2**128 - 1.

    Attributes:
        size: `repetitions * 2**ksim * dprojections`, at most 2**24.

    Raises:
        ArgumentError: If a number is out of its range, or the size or the random matrices would be too large.

    Examples:
        >>> import numpy as np
        >>> muvera = Muvera(128)
        >>> muvera.size
        10240
        >>> documents = np.random.default_rng(0).normal(size=(2, 30, 128)) / 128**0.5
        >>> encodings = muvera.encode_documents(list(documents))
        >>> queries = muvera.encode_queries([documents[1, :8]])
        >>> encodings.shape, int((queries @ encodings.T).argmax())
        ((2, 10240), 1)
    """

    dim: int
    ksim: int = field(default=5, kw_only=True)
    dprojections: int = field(default=16, kw_only=True)
    repetitions: int = field(default=20, kw_only=True)
    seed: int = field(default=42, kw_only=True)
    _encoder: _core.Muvera = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        numbers = {
            "dim": checked_count("dim", self.dim),
            "ksim": checked_count("ksim", self.ksim, least=0),
            "dprojections": checked_count("dprojections", self.dprojections),
            "repetitions": checked_count("repetitions", self.repetitions),
            "seed": checked_count("seed", self.seed, least=0, most=(1 << 128) - 1),
        }
        # Past the lock of a frozen dataclass; numpy's integers have become Python's.
        self.__dict__.update(numbers, _encoder=_core.Muvera(**numbers))

    def __reduce__(self) -> tuple[Any, ...]:
        options = {name: getattr(self, name) for name in ("ksim", "dprojections", "repetitions", "seed")}
        return partial(type(self), **options), (self.dim,)

    @property
    def size(self) -> int:
        """How many values an encoding has."""
        return self._encoder.size

    @property
    def fingerprint(self) -> str:
        """What makes encodings comparable: the implementation and all numbers that this was made with."""
        return self._encoder.fingerprint

    @property
    def hyperplanes(self) -> npt.NDArray[np.float64]:
        """The normal vectors of the hyperplanes, `(repetitions, dim, ksim)`: FastEmbed's `simhash_vectors`."""
        return self._encoder.hyperplanes()

    @property
    def signs(self) -> npt.NDArray[np.int8]:
        """The signs that project, `(repetitions, dim, dprojections)`; none, `(repetitions, dim, 0)`, if nothing is."""
        return self._encoder.signs()

    def encode_queries(self, queries: Matrices) -> Float32Array:
        """Encode queries: the rows of a cluster are added up.

        Args:
            queries: `MultiVectors` or a list of `(tokens, dim)` arrays, float32 or float16.

        Returns:
            `(queries, size)` float32.

        Raises:
            ShapeError: If a matrix is not 2-D, has no rows, or rows of another length; it names the query.
            ArgumentError: If a value is NaN or infinite, or the encodings do not fit into memory.
        """
        return self._encoder.encode(*in_place("queries", queries, self.dim, "this Muvera"), True)

    def encode_documents(self, documents: Matrices) -> Float32Array:
        """Encode documents: the rows of a cluster are averaged.

        An empty cluster holds the first row of the nearest cluster with rows, by the hyperplanes between the two; of
        several the one with the lowest number.

        Args:
            documents: `MultiVectors` or a list of `(tokens, dim)` arrays, float32 or float16.

        Returns:
            `(documents, size)` float32.

        Raises:
            ShapeError: If a matrix is not 2-D, has no rows, or rows of another length; it names the document.
            ArgumentError: If a value is NaN or infinite, or the encodings do not fit into memory.
        """
        return self._encoder.encode(*in_place("documents", documents, self.dim, "this Muvera"), False)


@dataclass(frozen=True)
class MeanVector:
    """The normalised mean of a text's rows: one small vector, and on some texts the better one to find candidates by.

    Args:
        dim: The length of a row.

    Attributes:
        size: The same.

    Raises:
        ArgumentError: If `dim` is no whole number of at least 1.

    Examples:
        >>> import numpy as np
        >>> mean = MeanVector(2)
        >>> mean.encode_documents([np.array([[0.0, 3.0], [0.0, 4.0]])]).tolist()
        [[0.0, 1.0]]
    """

    dim: int

    def __post_init__(self) -> None:
        self.__dict__["dim"] = checked_count("dim", self.dim)

    @property
    def size(self) -> int:
        """How many values an encoding has."""
        return self.dim

    @property
    def fingerprint(self) -> str:
        """What makes encodings comparable."""
        return f"mean-{self.dim}"

    def encode_queries(self, queries: Matrices) -> Float32Array:
        """Encode queries: one unit vector each, `(queries, size)` float32; zeros if the rows cancel out.

        Args:
            queries: `MultiVectors` or a list of `(tokens, dim)` arrays, float32 or float16.

        Raises:
            ShapeError: If a matrix is not 2-D, has no rows, or rows of another length; it names the query.
            ArgumentError: If a value is NaN or infinite.
        """
        return _core.mean_vectors(self.dim, *in_place("queries", queries, self.dim, "this MeanVector"))

    def encode_documents(self, documents: Matrices) -> Float32Array:
        """Encode documents; see `encode_queries`."""
        return _core.mean_vectors(self.dim, *in_place("documents", documents, self.dim, "this MeanVector"))
