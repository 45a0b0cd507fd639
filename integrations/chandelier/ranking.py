"""A query and documents in, the documents in the order of their scores out: `ColBERT.rerank`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from chandelier.exceptions import ArgumentError
from chandelier.maths import top_k
from chandelier.multivectors import Matrices, MultiVectors, checked_count

if TYPE_CHECKING:
    from chandelier.models import ColBERT, Progress

__all__ = ["Ranked", "check_prompt_names", "ranked"]


@dataclass(frozen=True, slots=True)
class Ranked:
    """One document of a reranked list.

    Attributes:
        index: Its place in the list that was given.
        score: Its MaxSim with the query.
        text: The document, or None where matrices were given.
    """

    index: int
    score: float
    text: str | None


def ranked(
    model: ColBERT,
    query: str,
    documents: Iterable[str] | Matrices,
    k: int | None,
    prompt_names: tuple[str | None, str | None],
    progress: Progress,
) -> list[Ranked]:
    """The work of `ColBERT.rerank`; `prompt_names` are those of the query and of the documents."""
    if not isinstance(query, str):
        raise ArgumentError(f"query: got {type(query).__name__}, wanted a str, one query a call", argument="query")
    if k is not None:
        checked_count("top_k", k)
    check_prompt_names(model, query_prompt_name=prompt_names[0], document_prompt_name=prompt_names[1])
    rows = model._encode([query], "query", True, prompt_name=prompt_names[0])[0]
    texts: list[str] | None = None
    vectors: Matrices
    if isinstance(documents, MultiVectors):
        vectors = documents
    elif isinstance(documents, (str, bytes, dict, np.ndarray)) or not isinstance(documents, Iterable):
        got = type(documents).__name__
        raise ArgumentError(f"documents: got {got}, wanted a list of str or of matrices", argument="documents")
    else:
        items: list[Any] = list(documents)
        if items and isinstance(items[0], np.ndarray):
            vectors = MultiVectors.from_arrays(items)
        else:
            texts = items
            named = prompt_names[1]
            vectors = model._encode(texts, "documents", False, prompt_name=named, progress=progress)
    if not len(vectors):
        return []
    indices, scores = top_k(rows, vectors, len(vectors) if k is None else int(k))
    return [
        Ranked(index, score, None if texts is None else texts[index])
        for index, score in zip(indices.tolist(), scores.tolist(), strict=True)
    ]


def check_prompt_names(model: ColBERT, **names: str | None) -> None:
    """Blames the argument that names a prompt which is none, where there are two such arguments."""
    for argument, name in names.items():
        if name is not None and not isinstance(name, str):
            got = type(name).__name__
            raise ArgumentError(f"{argument}: got {got}, wanted a str or None", argument=argument)
        if name is not None and name not in model.prompts:
            wanted = f"wanted one of the model's prompts, {list(model.prompts)}"
            raise ArgumentError(f"{argument}: got {name!r}, {wanted}", argument=argument)
