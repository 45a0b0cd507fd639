"""The data of the stores' benchmark, the same on every side: rows from a fixed seed, made a block at a time.

How long a full scan takes hardly depends on what the rows say. Real texts come from `corpus.py`, and for recall from
`examples/python_docs.py`. Only numpy is needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

SEED = 20_26
BLOCK = 1_000
TOP = 10
DEPTHS = (20, 50, 100, 200, 500)
"""Candidates."""

FILTER = {"group": 3}
"""Keeps a tenth of the documents."""

WORST_GAP = {"float32": 2e-6, "float16": 5e-4}
"""Of a score, for each row of the query: what MaxSim of rounded rows may differ from float64's."""


@dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    texts: int = 200
    stored: tuple[int, ...] = (1_000, 20_000)
    rows: tuple[int, int] = (40, 60)
    queries: int = 5
    query_rows: int = 32
    uploaded: int = 48
    uploaded_rows: int = 300
    passages: int = 2_000
    questions: int = 200


QUICK = Sizes(
    texts=5,
    stored=(12, 40),
    rows=(1, 5),
    queries=2,
    query_rows=4,
    uploaded=3,
    uploaded_rows=4,
    passages=30,
    questions=5,
)


@dataclass(frozen=True)
class Data:
    """Unit rows.

    Args:
        sizes: How many.
        dim: How long.
    """

    sizes: Sizes
    dim: int

    def documents(self, count: int) -> Iterator[tuple[int, np.ndarray[Any, Any]]]:
        """The number and the rows `(rows, dim)` of each document; a smaller count gives the first of them."""
        import numpy as np

        low, high = self.sizes.rows
        for start in range(0, count, BLOCK):
            random = np.random.default_rng([SEED, start])
            lengths = random.integers(low, high + 1, BLOCK)
            rows = self._unit(random, int(lengths.sum()))
            for number, part in enumerate(np.split(rows, np.cumsum(lengths)[:-1]), start):
                if number < count:
                    yield number, part

    def queries(self) -> list[np.ndarray[Any, Any]]:
        """`(rows, dim)` each."""
        import numpy as np

        random = np.random.default_rng([SEED, 1, 1])
        return [self._unit(random, self.sizes.query_rows) for _ in range(self.sizes.queries)]

    def uploaded(self) -> list[np.ndarray[Any, Any]]:
        """Documents `(rows, dim)` of one length."""
        import numpy as np

        random = np.random.default_rng([SEED, 2, 2])
        return [self._unit(random, self.sizes.uploaded_rows) for _ in range(self.sizes.uploaded)]

    def _unit(self, random: np.random.Generator, rows: int) -> np.ndarray[Any, Any]:
        import numpy as np

        found = random.standard_normal((rows, self.dim), np.float32)
        found /= np.linalg.norm(found.astype(np.float64), axis=1, keepdims=True).astype(np.float32)
        return found


def metadata(number: int) -> dict[str, int]:
    """Of a document; see `FILTER`."""
    return {"group": number % 10, "number": number}


def passes(number: int) -> bool:
    """Whether `FILTER` keeps a document."""
    return metadata(number)["group"] == FILTER["group"]
