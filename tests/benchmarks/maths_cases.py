"""The data of the maths benchmark, the same on every side, and what each group of figures is about.

Rows are random unit vectors from a fixed seed: how long MaxSim, an encoding or a linkage takes hardly depends on what
the rows say. Only numpy is needed, and only to make them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np

SEED = 20_26
MUVERA = {"ksim": 5, "dprojections": 16, "repetitions": 20, "seed": 42}
POOL_FACTOR, PROTECTED_TOKENS = 2, 1
POOLED_TOKENS = (72, 180, 300)
TOP = 10


@dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    dim: int = 128
    documents: int = 1000
    tokens: int = 161
    ragged: tuple[int, int] = (22, 300)
    queries: int = 32
    query_tokens: int = 32
    encoded: int = 100
    encoded_tokens: int = 128
    pooled: int = 40


QUICK = Sizes(dim=16, documents=12, tokens=9, ragged=(1, 20), queries=3, query_tokens=4, encoded=4, pooled=2)


@dataclass(frozen=True)
class Group:
    """Figures that compare with each other: the same work, by several sides in several forms."""

    title: str
    unit: str = "ms a call"
    per_second: float = 1e3  # how many of the unit a second and a call has
    products: int = 0  # multiplications of the matrix product that the work consists of, if it does


def groups(sizes: Sizes) -> dict[str, Group]:
    """All groups, in the order of the table."""
    s = sizes
    query = f"one query {s.query_tokens} x {s.dim}"
    documents = f"{s.documents} documents of {s.tokens} tokens"
    product = s.query_tokens * s.dim * s.documents * s.tokens
    low, high = s.ragged
    a_document = ("us a document", 1e6 / s.encoded)
    found = {
        "maxsim": Group(f"MaxSim, {query}, {documents}", products=product),
        "maxsim_float16": Group(f"MaxSim, {query}, {documents} in float16", products=product),
        "maxsim_ragged": Group(f"MaxSim, {query}, {s.documents} documents of {low} to {high} tokens"),
        "top_k": Group(f"Best {TOP} by MaxSim, {query}, {documents}", products=product),
        "maxsim_matrix": Group(f"MaxSim, {s.queries} queries, {documents}", products=product * s.queries),
        "fde_documents": Group(f"MUVERA, {s.encoded} documents of {s.encoded_tokens} tokens", *a_document),
        "fde_queries": Group(f"MUVERA, {s.encoded} queries of {s.query_tokens} tokens", "us a query", a_document[1]),
    }
    for tokens in POOLED_TOKENS:
        title = f"Pooling by {POOL_FACTOR}, {s.pooled} documents of {tokens} tokens"
        found[f"pool_{tokens}"] = Group(title, "us a document", 1e6 / s.pooled)
    return found


class Data:
    """Each kind of input, made when first asked for, whatever else was made before."""

    def __init__(self, sizes: Sizes) -> None:
        self.sizes = sizes

    def _unit(self, stream: int, *shape: int) -> np.ndarray[Any, np.dtype[np.float32]]:
        import numpy as np

        rows = np.random.default_rng([SEED, stream]).standard_normal(shape, np.float32)
        rows /= np.linalg.norm(rows.astype(np.float64), axis=-1, keepdims=True).astype(np.float32)
        return rows

    @cached_property
    def query(self) -> np.ndarray[Any, Any]:
        """(tokens, dim)."""
        return self._unit(1, self.sizes.query_tokens, self.sizes.dim)

    @cached_property
    def queries(self) -> np.ndarray[Any, Any]:
        """(queries, tokens, dim)."""
        return self._unit(2, self.sizes.queries, self.sizes.query_tokens, self.sizes.dim)

    @cached_property
    def documents(self) -> np.ndarray[Any, Any]:
        """(documents, tokens, dim)."""
        return self._unit(3, self.sizes.documents, self.sizes.tokens, self.sizes.dim)

    @cached_property
    def ragged_offsets(self) -> np.ndarray[Any, Any]:
        """(documents + 1,) int64."""
        import numpy as np

        low, high = self.sizes.ragged
        lengths = np.random.default_rng([SEED, 4]).integers(low, high + 1, self.sizes.documents)
        return np.concatenate([[0], np.cumsum(lengths)])

    @cached_property
    def ragged(self) -> np.ndarray[Any, Any]:
        """(rows, dim), all documents end to end."""
        return self._unit(5, int(self.ragged_offsets[-1]), self.sizes.dim)

    @cached_property
    def encoded_documents(self) -> np.ndarray[Any, Any]:
        """(documents, tokens, dim), for fixed-dimensional encodings."""
        return self._unit(6, self.sizes.encoded, self.sizes.encoded_tokens, self.sizes.dim)

    @cached_property
    def encoded_queries(self) -> np.ndarray[Any, Any]:
        """(queries, tokens, dim), for fixed-dimensional encodings."""
        return self._unit(7, self.sizes.encoded, self.sizes.query_tokens, self.sizes.dim)

    def pooled(self, tokens: int) -> np.ndarray[Any, Any]:
        """(documents, tokens, dim), to be pooled."""
        return self._unit(1000 + tokens, self.sizes.pooled, tokens, self.sizes.dim)


class Mapped(NamedTuple):
    """The documents in mapped files, (documents, tokens, dim) each; a page is read when it is first touched."""

    float32: np.ndarray[Any, Any]
    float16: np.ndarray[Any, Any]

    @classmethod
    def write(cls, folder: Path, data: Data) -> None:
        """Makes the files."""
        import numpy as np

        for dtype in cls._fields:
            np.save(folder / f"documents.{dtype}.npy", data.documents.astype(dtype))

    @classmethod
    def open(cls, folder: Path) -> Mapped:
        """Maps the files."""
        import numpy as np

        return cls(*(np.load(folder / f"documents.{dtype}.npy", mmap_mode="r") for dtype in cls._fields))


def split(rows: Any, offsets: Any) -> list[Any]:
    """The matrix of each text, as views."""
    return [rows[start:end] for start, end in pairwise(offsets)]


def joined(matrices: Sequence[Any]) -> tuple[Any, Any]:
    """Ragged matrices as something that compares: how many rows each has, and all rows."""
    import numpy as np

    return np.array([len(matrix) for matrix in matrices]), np.concatenate(matrices)
