"""`ColBERTRanker`."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from haystack import Document, component, default_from_dict, default_to_dict

from chandelier.exceptions import ArgumentError
from chandelier.models import ColBERT
from chandelier.multivectors import checked_count
from chandelier.portions import checked_text
from chandelier.rerank import CACHE_BYTES, Reranked, Reranker, explanation_notes, without_notes
from chandelier.scores import Normalization

__all__ = ["ColBERTRanker"]


@component
class ColBERTRanker:
    """Puts documents in the order of their MaxSim with a query.

    Nothing is loaded before `warm_up`, which a pipeline calls before it runs, and a first run outside of one. Models
    are shared by all of a process that name the same checkpoint with the same settings.

    Documents that come more than once, by id, are ranked once: the one with the highest score that it came with, as
    Haystack's own rankers do it.

    Args:
        model: The checkpoint's folder or hub name, or an open `ColBERT`.
        top_k: How many to return; None for all.
        score_normalization: `"query_length"` divides a MaxSim by the query's vectors, so that scores lie between -1
            and 1 (what `scale_score` is to other rankers); `"none"` leaves the sum. Neither is a probability.
        score_threshold: The lowest score to return; None for all.
        long_documents: `"truncate"` reads the beginning of a text that is longer than the model reads, and marks the
            document with `meta["truncated"] = True`; `"window"` reads it in windows, the best of which is its score.
        window_overlap: Tokens that neighbouring windows share; None for a quarter of a window.
        explain: Say in `meta["explanation"]` which words matched; see `chandelier.rerank.explanation_notes`.
        cache_bytes: How many bytes of encoded documents to keep for later calls; 0 for none.
        meta_fields_to_embed: Metadata that is read in front of the text, where it is there and not empty.
        embedding_separator: What stands between them and before the text.
        model_kwargs: Arguments of `ColBERT` for a model that is given by name, but for `token`.

    Raises:
        ArgumentError: If an argument is none of these; it names the argument.

    Examples:
        >>> from haystack import Document
        >>> ranker = ColBERTRanker("tests/goldens/a_bert_pylate/checkpoint", top_k=1)
        >>> documents = [Document(content="Bread needs flour."), Document(content="Paris is in France.")]
        >>> best = ranker.run("where is paris?", documents)["documents"][0]
        >>> best.content, round(best.score, 2)
        ('Paris is in France.', 0.85)
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | ColBERT,
        *,
        top_k: int | None = 10,
        score_normalization: Normalization = "query_length",
        score_threshold: float | None = None,
        long_documents: Literal["truncate", "window"] = "truncate",
        window_overlap: int | None = None,
        explain: bool = False,
        cache_bytes: int = CACHE_BYTES,
        meta_fields_to_embed: Sequence[str] | None = None,
        embedding_separator: str = "\n",
        model_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        self._top_k = None if top_k is None else checked_count("top_k", top_k)
        options: dict[str, Any] = {
            "score_normalization": score_normalization,
            "score_threshold": score_threshold,
            "long_documents": long_documents,
            "window_overlap": window_overlap,
            "explain": explain,
            "cache_bytes": cache_bytes,
        }
        self._reranker = Reranker(model, top_n=self._top_k, model_kwargs=model_kwargs, **options)
        self._options: dict[str, Any] = {
            "top_k": self._top_k,
            **{name: value.item() if isinstance(value, np.generic) else value for name, value in options.items()},
            "meta_fields_to_embed": _checked_fields(meta_fields_to_embed),
            "embedding_separator": checked_text("embedding_separator", embedding_separator),
        }

    def to_dict(self) -> dict[str, Any]:
        """The component as plain JSON; of an open model what it was opened with, and never a token."""
        model = self._reranker.model_arguments
        name = model.pop("model_name_or_path")
        return default_to_dict(self, model=name, model_kwargs=model or None, **self._options)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ColBERTRanker:
        """The component that `to_dict` described; nothing is loaded."""
        return default_from_dict(cls, data)

    def warm_up(self) -> None:
        """Open the model now."""
        self._reranker.warm_up()

    async def warm_up_async(self) -> None:
        """Open the model now, in a worker thread."""
        await asyncio.to_thread(self.warm_up)

    @component.output_types(documents=list[Document])
    def run(
        self,
        query: str,
        documents: list[Document],
        top_k: int | None = None,
        score_threshold: float | None = None,
    ) -> dict[str, list[Document]]:
        """Rank documents.

        Args:
            query: The question.
            documents: What is to be ranked; not changed.
            top_k: How many to return; None for what the component says.
            score_threshold: The lowest score to return; None for what the component says.

        Returns:
            `documents`: the best first, ties in the order given, with their `score`.

        Raises:
            ArgumentError: If the query asks nothing, or a document has no text; it names the document.
            ModelError: As `ColBERT`, with the first run; so are `FileNotFoundError` and `HubError`.
        """
        given = _distinct(documents)
        texts, headers = self._texts(given)
        options = self._per_run(top_k, score_threshold)
        return {"documents": _ranked(given, headers, self._reranker.rerank(query, texts, **options))}

    @component.output_types(documents=list[Document])
    async def run_async(
        self,
        query: str,
        documents: list[Document],
        top_k: int | None = None,
        score_threshold: float | None = None,
    ) -> dict[str, list[Document]]:
        """As `run`, in a worker thread: the event loop goes on, and what is cancelled stops."""
        given = _distinct(documents)
        texts, headers = self._texts(given)
        options = self._per_run(top_k, score_threshold)
        return {"documents": _ranked(given, headers, await self._reranker.arerank(query, texts, **options))}

    def _per_run(self, top_k: int | None, score_threshold: float | None) -> dict[str, Any]:
        return {
            "top_n": None if top_k is None else checked_count("top_k", top_k),
            "score_threshold": score_threshold,
        }

    def _texts(self, documents: list[Document]) -> tuple[list[str], list[int]]:
        """What is read of each document, and how many characters of that stand before its own text."""
        texts, headers = [], []
        for document in documents:
            if document.content is None:
                message = f"documents: {document.id!r} has no content, wanted text; leave it out"
                raise ArgumentError(message, argument="documents")
            values = (document.meta.get(name) for name in self._options["meta_fields_to_embed"] or ())
            parts = [str(value) for value in values if value is not None and value != ""]
            header = "".join(part + self._options["embedding_separator"] for part in parts)
            texts.append(header + document.content)
            headers.append(len(header))
        return texts, headers


def _distinct(documents: list[Document]) -> list[Document]:
    """Of the documents with one id the one with the highest score, at the place of the first."""
    if not isinstance(documents, list) or not all(isinstance(document, Document) for document in documents):
        raise ArgumentError("documents: wanted a list of haystack's Document", argument="documents")
    best: dict[str, Document] = {}
    for document in documents:
        if document.id not in best or _score(document) > _score(best[document.id]):
            best[document.id] = document
    return list(best.values())


def _score(document: Document) -> float:
    return -math.inf if document.score is None else document.score


def _ranked(documents: list[Document], headers: list[int], found: list[Reranked]) -> list[Document]:
    """The documents in the order found, each with its score and what is to be told about it."""
    ranked = []
    for each in found:
        document = documents[each.index]
        meta = without_notes(document.meta)
        if each.truncated:
            meta["truncated"] = True
        if each.explanation is not None:
            meta["explanation"] = explanation_notes(each.explanation, headers[each.index])
        ranked.append(replace(document, score=each.score, meta=meta))
    return ranked


def _checked_fields(names: Sequence[str] | None) -> list[str] | None:
    if names is None:
        return None
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        message = f"meta_fields_to_embed: got {names!r}, wanted a list of names"
        raise ArgumentError(message, argument="meta_fields_to_embed")
    return list(names)
