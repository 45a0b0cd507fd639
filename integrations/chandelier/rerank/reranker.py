"""`Reranker`: a query and texts in, the texts in order out, as frameworks want it."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import Any, Literal, TypeAlias

from chandelier.exceptions import ArgumentError, ShapeError
from chandelier.explanation import Explanation
from chandelier.maths import maxsim
from chandelier.models import ColBERT
from chandelier.multivectors import Float32Array, FloatArray, checked_count
from chandelier.portions import checked_text
from chandelier.rerank.cache import shared_cache
from chandelier.scores import Normalization, Scoring, checked_bool, checked_question
from chandelier.shared import ModelHandle

__all__ = ["CACHE_BYTES", "OPTIONS", "Reranked", "Reranker"]

LOG = logging.getLogger("chandelier")
CACHE_BYTES = 64 << 20
PORTION = 256
"""Texts whose rows are held at once: 256 of 180 rows of 128 dimensions are 24 MB."""

PLACE_BYTES = 120
"""A pair of numbers in a list."""

_Watch: TypeAlias = Callable[[int], None]
"""What long work calls now and then: it raises if nobody waits for the result any more."""


@dataclass(frozen=True, slots=True)
class Reranked:
    """One document of a reranked list.

    Attributes:
        index: Its place in the list that was given.
        score: Its score, as `score_normalization` says.
        truncated: Whether the model did not read all of it.
        window: The first character, and the one behind the last, of the window that scored highest; None for a text
            that was read as one.
        explanation: Which words matched, if that was asked for.
    """

    index: int
    score: float
    truncated: bool = False
    window: tuple[int, int] | None = None
    explanation: Explanation | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class _Piece:
    """What is encoded as one: a document, or a window of it."""

    document: int
    text: str
    window: tuple[int, int] | None


class Reranker:
    """Orders texts by their MaxSim with a query: what the adapters of all frameworks share.

    Nothing is opened before it is needed. Models are shared by all of a process that name the same checkpoint with the
    same settings (`chandelier.shared`), and so are rows of documents. Threads may share a reranker; it pickles and
    copies without weights.

    Args:
        model: The checkpoint's folder or hub name, or an open `ColBERT`.
        top_n: How many to return; None for all.
        score_normalization: `"query_length"` or `"none"`; see `chandelier.scores.Scoring`.
        score_threshold: The lowest score to return, after normalisation; None for all.
        long_documents: What becomes of a text longer than the model's `document_length`. `"truncate"` reads its
            beginning, as PyLate does, marks it `truncated` and says so in the log once; `"window"` reads it in windows
            that overlap, and the best window is its score.
        window_overlap: Tokens that neighbouring windows share; None for a quarter of a window.
        explain: Whether to say which words matched; costs about as much as encoding what is returned once more.
        cache_bytes: How many bytes of encoded documents to keep for later calls, 64 MiB by default; 0 to keep and use
            none. All rerankers of one open model share what is kept, as much as the most generous of them allows.
        model_kwargs: Arguments of `ColBERT` for a model that is given by name, but for `token`.

    Raises:
        ArgumentError: If an argument is none of these; it names the argument.

    Examples:
        >>> reranker = Reranker("tests/goldens/a_bert_pylate/checkpoint", top_n=1)
        >>> best = reranker.rerank("where is paris?", ["Bread needs flour.", "Paris is in France."])
        >>> [(each.index, round(each.score, 2)) for each in best]
        [(1, 0.85)]
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | ColBERT,
        *,
        top_n: int | None = None,
        score_normalization: Normalization = "query_length",
        score_threshold: float | None = None,
        long_documents: Literal["truncate", "window"] = "truncate",
        window_overlap: int | None = None,
        explain: bool = False,
        cache_bytes: int = CACHE_BYTES,
        model_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        self._handle = ModelHandle(model, model_kwargs)
        self._top_n = None if top_n is None else checked_count("top_n", top_n)
        self._scoring = Scoring(score_normalization, score_threshold)
        if long_documents not in ("truncate", "window"):
            got = f"got {long_documents!r}, wanted 'truncate' or 'window'"
            raise ArgumentError(f"long_documents: {got}", argument="long_documents")
        self._has_windows = long_documents == "window"
        if window_overlap is not None:
            window_overlap = checked_count("window_overlap", window_overlap, least=0)
            if not self._has_windows:
                message = "window_overlap: wanted only with long_documents='window'"
                raise ArgumentError(message, argument="window_overlap")
        self._overlap = window_overlap
        self._explain = checked_bool("explain", explain)
        self._cache_bytes = checked_count("cache_bytes", cache_bytes, least=0, most=(1 << 63) - 1)

    @property
    def name(self) -> str:
        """The model's folder or hub name."""
        return self._handle.name

    @property
    def model_arguments(self) -> dict[str, Any]:
        """What opens the model again, as plain JSON: `chandelier.shared.shared_model(**reranker.model_arguments)`."""
        return self._handle.arguments

    @property
    def model(self) -> ColBERT:
        """The model, opened now if it was not yet."""
        return self._handle.open()

    def warm_up(self) -> None:
        """Open the model now, so that the first call does not wait for it."""
        self._handle.open()

    def rerank(
        self,
        query: str,
        documents: Sequence[str],
        *,
        top_n: int | None = None,
        score_threshold: float | None = None,
    ) -> list[Reranked]:
        """The documents, best first, ties in the order given.

        Args:
            query: The question.
            documents: The texts; equal ones are encoded once, and each keeps its place.
            top_n: How many to return; None for what the reranker says.
            score_threshold: The lowest score to return; None for what the reranker says.

        Raises:
            ArgumentError: If the query asks nothing, or a document is no str; it names the document.
            ModelError: As `ColBERT`, with the first call; so are `FileNotFoundError` and `HubError`.
        """
        return self._rank(query, documents, top_n, score_threshold, threading.Event())

    async def arerank(
        self,
        query: str,
        documents: Sequence[str],
        *,
        top_n: int | None = None,
        score_threshold: float | None = None,
    ) -> list[Reranked]:
        """As `rerank`, in a worker thread: the event loop goes on. What is cancelled stops encoding."""
        stop = threading.Event()
        work = partial(self._rank, query, documents, top_n, score_threshold, stop)
        try:
            return await asyncio.get_running_loop().run_in_executor(None, copy_context().run, work)
        finally:
            stop.set()

    def _rank(
        self,
        query: str,
        documents: Sequence[str],
        top_n: int | None,
        score_threshold: float | None,
        stop: threading.Event,
    ) -> list[Reranked]:
        question = checked_question(query)
        texts = _checked_texts(documents)
        top_n = self._top_n if top_n is None else checked_count("top_n", top_n)
        scoring = self._scoring if score_threshold is None else replace(self._scoring, threshold=score_threshold)
        if not texts:
            return []
        model, watch = self.model, partial(_stop_if, stop)
        rows = model.encode_queries([question], progress=watch)[0]
        pieces, truncated = self._pieces(model, texts, watch)
        best: dict[int, tuple[float, tuple[int, int] | None]] = {}
        waiting = iter(pieces)
        while portion := list(islice(waiting, PORTION)):
            for piece, score in zip(portion, self._maxsim(model, rows, portion, watch), strict=True):
                if piece.document not in best or score > best[piece.document][0]:
                    best[piece.document] = score, piece.window
        found = [
            Reranked(index, scoring.score(maxsim, len(rows)), index in truncated, window)
            for index, (maxsim, window) in sorted(best.items())
        ]
        found.sort(key=lambda each: -each.score)
        kept = [each for each in found if scoring.passes(each.score)][:top_n]
        return [self._explained(model, question, texts, each, watch) for each in kept] if self._explain else kept

    def _pieces(self, model: ColBERT, texts: list[str], watch: _Watch) -> tuple[list[_Piece], set[int]]:
        """What is to be encoded, and which documents are not read to their end."""
        if not self._has_windows:
            whole = self._read_whole(model, texts, watch)
            cut = {index for index, text in enumerate(texts) if not whole[text]}
            if cut:
                _tell(model, len(cut), len(texts))
            return [_Piece(index, text, None) for index, text in enumerate(texts)], cut
        windows = self._windows(model, texts, watch)
        pieces = []
        for index, text in enumerate(texts):
            if len(windows[text]) > 1:
                pieces += [_Piece(index, text[start:end], (start, end)) for start, end in windows[text]]
            else:
                pieces.append(_Piece(index, text, None))
        return pieces, set()

    def _read_whole(self, model: ColBERT, texts: list[str], watch: _Watch) -> dict[str, bool]:
        """Of each text whether the model reads it to its end; white space there is no loss."""

        def make(texts: list[str]) -> list[bool]:
            return model.reads_whole([text.rstrip() for text in texts], progress=watch)

        return shared_cache(model, self._cache_bytes).completed("whole", texts, make, lambda _: 0, watch)

    def _windows(self, model: ColBERT, texts: list[str], watch: _Watch) -> dict[str, list[tuple[int, int]]]:
        """The windows of each text."""

        def make(asked: list[str]) -> list[list[tuple[int, int]]]:
            try:
                return model.windows(asked, overlap=self._overlap, progress=watch)
            except ArgumentError as error:
                raise _in_own_words(error, asked, texts) from None

        kind, cache = f"windows, overlap {self._overlap}", shared_cache(model, self._cache_bytes)
        return cache.completed(kind, texts, make, lambda places: PLACE_BYTES * len(places), watch)

    def _maxsim(self, model: ColBERT, query: Float32Array, pieces: list[_Piece], watch: _Watch) -> list[float]:
        rows = self._rows(model, [piece.text for piece in pieces], watch)
        for piece in pieces:
            if not len(rows[piece.text]):
                message = "a skiplist leaves no row of it, so nothing can be compared; leave it out"
                raise ShapeError(f"documents[{piece.document}]: {message}")
        scores: list[float] = maxsim(query, [rows[piece.text] for piece in pieces]).tolist()
        return scores

    def _rows(self, model: ColBERT, texts: list[str], watch: _Watch) -> dict[str, FloatArray]:
        """The rows of each text."""

        def make(texts: list[str]) -> list[FloatArray]:
            encoded = model.encode_documents(texts, progress=watch)
            # What is kept are copies: a view would keep all that was encoded with it.
            return [matrix.copy() for matrix in encoded] if self._cache_bytes else list(encoded)

        cache = shared_cache(model, self._cache_bytes)
        return cache.completed("rows", texts, make, lambda matrix: int(matrix.nbytes), watch)

    def _explained(self, model: ColBERT, query: str, texts: list[str], found: Reranked, watch: _Watch) -> Reranked:
        watch(0)
        return replace(found, explanation=model.explain(query, texts[found.index], window=found.window))


OPTIONS = tuple(inspect.signature(Reranker).parameters)
"""The names of its arguments, which components of hosts have as fields."""


class _Stopped(Exception):
    """Ends work that nobody waits for any more."""


def _stop_if(stop: threading.Event, _: int) -> None:
    if stop.is_set():
        raise _Stopped


_TOLD: set[tuple[str, int]] = set()


def _tell(model: ColBERT, count: int, of: int) -> None:
    """Says once for each model and length that documents are cut."""
    told = model.name, model.document_length
    if told in _TOLD:
        return
    _TOLD.add(told)
    LOG.warning(
        "%s reads %d tokens of a document: %d of these %d are longer, scored by their beginning, and marked "
        "`truncated`; long_documents='window' reads all of them. (Not said again.)",
        *told,
        count,
        of,
    )


def _in_own_words(error: ArgumentError, asked: list[str], texts: list[str]) -> ArgumentError:
    """An error of `ColBERT.windows` about some of the texts, as the reranker's own."""
    message = str(error)
    if error.argument == "overlap":
        return ArgumentError(f"window_{message}", argument="window_overlap")
    place = re.match(r"texts\[(\d+)\]", message)
    if place is None:
        return error
    index = texts.index(asked[int(place[1])])
    return ArgumentError(f"documents[{index}]{message[place.end() :]}", argument="documents")


def _checked_texts(documents: Iterable[str]) -> list[str]:
    if isinstance(documents, (str, bytes, Mapping)) or not isinstance(documents, Iterable):
        got = type(documents).__name__
        raise ArgumentError(f"documents: got {got}, wanted a list of str", argument="documents")
    return [checked_text(f"documents[{index}]", text) for index, text in enumerate(documents)]
