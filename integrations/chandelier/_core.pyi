from collections.abc import Callable, Iterable
from os import PathLike
from typing import Any, final

import numpy as np
import numpy.typing as npt

__all__ = [
    "Candidates",
    "Model",
    "Muvera",
    "PlaidBuilder",
    "PlaidSegment",
    "__version__",
    "build_info",
    "check_rows",
    "load_multivectors",
    "locate_multivectors",
    "maxsim",
    "maxsim_matrix",
    "mean_vectors",
    "plaid_partitions",
    "pool_tokens",
    "save_multivectors",
    "share_found",
    "short_decimals",
    "top_k",
    "top_k_each",
]
__version__: str

def build_info() -> dict[str, Any]: ...
def maxsim(
    query: npt.NDArray[Any],
    documents: npt.NDArray[Any] | list[npt.NDArray[Any]],
    offsets: npt.NDArray[np.int64] | None,
    subset: npt.NDArray[np.int64] | None,
) -> npt.NDArray[np.float32]: ...
def maxsim_matrix(
    queries: npt.NDArray[Any],
    query_offsets: npt.NDArray[np.int64],
    documents: npt.NDArray[Any] | list[npt.NDArray[Any]],
    offsets: npt.NDArray[np.int64] | None,
) -> npt.NDArray[np.float32]: ...
def top_k(
    query: npt.NDArray[Any],
    documents: npt.NDArray[Any] | list[npt.NDArray[Any]],
    offsets: npt.NDArray[np.int64] | None,
    k: int,
    subset: npt.NDArray[np.int64] | None,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]: ...
def top_k_each(
    queries: npt.NDArray[Any],
    query_offsets: npt.NDArray[np.int64],
    documents: npt.NDArray[Any] | list[npt.NDArray[Any]],
    offsets: npt.NDArray[np.int64] | None,
    k: int,
) -> npt.NDArray[np.int64]: ...
def plaid_partitions(tokens: int) -> int: ...
def mean_vectors(
    dim: int, texts: npt.NDArray[Any] | list[Any], offsets: npt.NDArray[np.int64] | None
) -> npt.NDArray[np.float32]: ...
def pool_tokens(
    data: npt.NDArray[Any], offsets: npt.NDArray[np.int64], pool_factor: float, protected_tokens: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]: ...
def share_found(found: list[list[str]], wanted: list[list[str]]) -> tuple[float, float, float]: ...
def short_decimals(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]: ...
def check_rows(name: str, rows: npt.NDArray[np.float32], unit: bool) -> None: ...
def save_multivectors(path: str, data: npt.NDArray[Any], offsets: npt.NDArray[np.int64]) -> None: ...
def load_multivectors(path: str) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]: ...
def locate_multivectors(path: str) -> tuple[bool, int, int, npt.NDArray[np.int64]]: ...

@final
class Model:
    def __new__(
        cls,
        path: str,
        *,
        from_bert: bool,
        device: str,
        dtype: str,
        query_length: int | None,
        document_length: int | None,
        query_prefix: str | None,
        document_prefix: str | None,
        skiplist_words: Iterable[str] | None,
        do_query_expansion: bool | None,
        attend_to_expansion_tokens: bool | None,
        threads: int | None,
    ) -> Model: ...
    @property
    def dim(self) -> int: ...
    @property
    def dtype(self) -> str: ...
    @property
    def threads(self) -> int: ...
    @property
    def unknown_skiplist_words(self) -> list[str]: ...
    def info(self) -> str: ...
    def fingerprint(self) -> str: ...
    def encode(
        self,
        texts: Iterable[str],
        *,
        argument: str,
        is_query: bool,
        prompt: str | None,
        prompt_name: str | None,
        pooling: tuple[int, int],
        batch_tokens: int | None,
        on_progress: Callable[[int], object] | None,
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]: ...
    def tokenize(
        self, texts: Iterable[str], *, is_query: bool, prompt: str | None, prompt_name: str | None
    ) -> list[
        tuple[
            npt.NDArray[np.int64],
            npt.NDArray[np.bool_],
            npt.NDArray[np.bool_],
            list[str],
            npt.NDArray[np.int64],
        ]
    ]: ...
    def reads_whole(
        self,
        texts: Iterable[str],
        *,
        prompt: str | None,
        prompt_name: str | None,
        on_progress: Callable[[int], object] | None,
    ) -> list[bool]: ...
    def windows(
        self,
        texts: Iterable[str],
        *,
        overlap: int | None,
        prompt: str | None,
        prompt_name: str | None,
        on_progress: Callable[[int], object] | None,
    ) -> list[list[tuple[int, int]]]: ...
    def explain(
        self,
        query: str,
        document: str,
        *,
        window: tuple[int, int] | None,
        query_prompt_name: str | None,
        document_prompt_name: str | None,
    ) -> tuple[
        float,
        npt.NDArray[np.float32],
        tuple[list[str], list[tuple[int, int] | None], tuple[int, int]],
        tuple[list[str], list[tuple[int, int] | None], tuple[int, int]],
        list[tuple[int, float, float]],
        list[tuple[int, int, float, float, list[int]]],
    ]: ...

@final
class Muvera:
    def __new__(cls, dim: int, ksim: int, dprojections: int, repetitions: int, seed: int) -> Muvera: ...
    @property
    def size(self) -> int: ...
    @property
    def fingerprint(self) -> str: ...
    def hyperplanes(self) -> npt.NDArray[np.float64]: ...
    def signs(self) -> npt.NDArray[np.int8]: ...
    def encode(
        self, texts: npt.NDArray[Any] | list[Any], offsets: npt.NDArray[np.int64] | None, is_query: bool
    ) -> npt.NDArray[np.float32]: ...

@final
class Candidates:
    def __new__(cls, queries: int, depth: int) -> Candidates: ...
    def add(self, queries: npt.NDArray[np.float32], vectors: npt.NDArray[np.float32]) -> None: ...
    def recall(self, wanted: npt.NDArray[np.int64], depths: list[int]) -> list[tuple[float, float, float]]: ...

@final
class PlaidBuilder:
    def __new__(cls, sample: npt.NDArray[Any], nbits: int, partitions: int) -> PlaidBuilder: ...
    def add(self, rows: npt.NDArray[np.int64], data: npt.NDArray[Any], offsets: npt.NDArray[np.int64]) -> None: ...
    def write(self, path: str | PathLike[str]) -> None: ...

@final
class PlaidSegment:
    def __new__(cls, path: str | PathLike[str]) -> PlaidSegment: ...
    @property
    def rows(self) -> npt.NDArray[np.int64]: ...
    @property
    def documents(self) -> int: ...
    @property
    def tokens(self) -> int: ...
    @property
    def dim(self) -> int: ...
    @property
    def nbits(self) -> int: ...
    @property
    def partitions(self) -> int: ...
    def search(
        self,
        query: npt.NDArray[np.float32],
        k: int,
        n_ivf_probe: int | None,
        n_full_scores: int,
        places: npt.NDArray[np.int64] | None,
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]: ...
