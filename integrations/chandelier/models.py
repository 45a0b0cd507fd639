"""`ColBERT`: text in, one unit vector a token out."""

from __future__ import annotations

import json
import operator
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, overload

import numpy as np
import numpy.typing as npt

from chandelier import _core
from chandelier.exceptions import ArgumentError
from chandelier.hub import HubOptions, locate, snapshot
from chandelier.maths import checked_pooling, maxsim_matrix
from chandelier.multivectors import Float32Array, FloatArray, Matrices, MultiVectors, checked_count
from chandelier.portions import PORTION_BYTES, TextStream, portions, text_bytes
from chandelier.ranking import Ranked, check_prompt_names, ranked

if TYPE_CHECKING:
    from chandelier.explanation import Explanation

__all__ = ["ColBERT", "Progress", "Ranked", "Tokens", "from_bert"]

Progress: TypeAlias = bool | Callable[[int], object]
"""Whether to show a bar, or what is to be told how many texts are done."""

Result = TypeVar("Result")

STREAM_TEXTS = 4096
STREAM_THREAD_BYTES = 8 << 20
"""What a stream encodes at once: some thirty micro-batches a thread, so that little is lost while the last ones end."""

# What `ColBERT` takes an argument to be that is not given; all others are None.
_DEFAULTS = {"device": "cpu", "dtype": "float32", "from_bert": False, "local_files_only": False}


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """The tokens of one text, as the model sees them: what was cut off is not among them; see `ColBERT.windows`.

    Attributes:
        ids: `(n,)` int64, prefix, special and expansion tokens included.
        attention_mask: `(n,)` bool; False for the expansion tokens of a query that nobody attends to.
        keep: `(n,)` bool; row `i` of the encoded matrix belongs to the `i`-th token that is kept.
        tokens: The `n` tokens as the vocabulary spells them.
        offsets: `(n, 2)` int64: the first character of the text given, and the one behind the last; `(0, 0)` for
            tokens that stand for no part of it.
    """

    ids: npt.NDArray[np.int64]
    attention_mask: npt.NDArray[np.bool_]
    keep: npt.NDArray[np.bool_]
    tokens: list[str]
    offsets: npt.NDArray[np.int64]


class ColBERT:
    """A ColBERT model from a checkpoint: a folder, or a repository of the hub.

    The format is found out: PyLate's, Stanford's (`HF_ColBERT`) or that of sentence-transformers 6
    (`MultiVectorEncoder`), whose prompts, expansion and token pooling are applied as there.

    A str that is no folder and reads as `"name"` or `"organisation/name"` is looked up in the hub: what the cache lacks
    is fetched, and only what the model needs. The cache and the switches are those of `huggingface_hub` (`HF_HOME`,
    `HF_TOKEN`, `HF_ENDPOINT`, `HF_HUB_OFFLINE`, ...). Where the hub cannot be reached the cache serves, with a warning.

    A handle is immutable: threads may share it, `copy.deepcopy` gives the same handle, and pickling stores the path and
    the arguments; of a hub model the name and the commit, so that the same weights are opened again, and never the
    token, which must then come from `HF_TOKEN` or the hub's own login. Every setting left at None is as the checkpoint
    says; `info()` tells what that is.

    Args:
        model_name_or_path: The checkpoint's folder, or its hub name.
        device: Where to compute: `"cpu"`; `"cuda"`, `"cuda:1"` or `"metal"` in a build with that feature.
        dtype: What to compute in: `"float32"`, exact to the reference; `"bfloat16"`; on the CPU also `"int8"`, on a GPU
            `"float16"`. On the CPU the two reduced ones are those of the layers' weights and of what is multiplied with
            them, all else is float32: rows of MiniLM then have a cosine of at least 0.9998 (bfloat16) and 0.998 (int8)
            with those of float32. `"auto"` is the fastest that costs at most 0.005 of nDCG@10 by the README's table,
            chosen when the model is opened, on each machine anew: on the CPU `"int8"`, else `"bfloat16"`, where the
            processor has an instruction for it, else `"float32"`; on a GPU `"float32"`, for which there is no table.
            `"float64"` is there to check the others by: many times slower, not for a forked child. Rows come out as
            float32.
        revision: A branch, tag or commit of the hub's repository; None for its main branch.
        cache_dir: Where the hub's snapshots are kept, instead of the hub's own place.
        token: The hub's access token, instead of `HF_TOKEN` or the one that was logged in with; False for none.
        local_files_only: Whether to ask nobody and take what the cache has.
        query_length: Tokens of a query, prefix and special tokens included.
        document_length: Most tokens of a document, prefix and special tokens included.
        query_prefix: The token put before queries; `""` for none.
        document_prefix: The token put before documents; `""` for none.
        skiplist_words: Tokens whose document rows are dropped; `[]` for none. Words that are no tokens of the model
            are dropped with a warning.
        do_query_expansion: Whether queries are filled up to `query_length` with mask tokens whose rows count.
        attend_to_expansion_tokens: Whether the other tokens see those mask tokens.
        threads: Most threads of a call; None for what the environment variable `CHANDELIER_THREADS` says, else for all
            cores that the process may use (affinity and the cgroup's quota). Calls at once share the cores: each has at
            least its own thread, and more while all of the process are no more than that. No row depends on it.

    Raises:
        FileNotFoundError: If the folder or a file that it needs does not exist; for a hub name a `HubMissingError`.
        HubError: If the hub did not give the model, or could not be asked; it names repository and revision.
        ModelError: If the checkpoint cannot be used as it is; it names file and key.
        ArgumentError: If an argument is out of range, or `CHANDELIER_THREADS` instead of `threads`; it names it.
        DeviceError: If the device is unknown or not compiled in.

    Examples:
        >>> model = ColBERT("tests/goldens/a_bert_pylate/checkpoint")
        >>> model.dim, model.query_length, model.document_length
        (32, 32, 180)
        >>> documents = model.encode_documents(["Paris is the capital of France.", "Bread needs flour."])
        >>> queries = model.encode_queries(["what is the capital of france?"])
        >>> documents[0].shape, queries[0].shape, model.similarity(queries, documents).shape
        ((11, 32), (32, 32), (1, 2))
    """

    __slots__ = ("__weakref__", "_arguments", "_hub", "_model", "_name", "_path", "_revision")

    def __init__(
        self,
        model_name_or_path: str | os.PathLike[str],
        *,
        device: str = "cpu",
        dtype: str = "float32",
        revision: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
        query_length: int | None = None,
        document_length: int | None = None,
        query_prefix: str | None = None,
        document_prefix: str | None = None,
        skiplist_words: Iterable[str] | None = None,
        do_query_expansion: bool | None = None,
        attend_to_expansion_tokens: bool | None = None,
        threads: int | None = None,
    ) -> None:
        self._open(
            model_name_or_path,
            HubOptions(revision, cache_dir, token, local_files_only),
            from_bert=False,
            device=device,
            dtype=dtype,
            query_length=query_length,
            document_length=document_length,
            query_prefix=query_prefix,
            document_prefix=document_prefix,
            skiplist_words=skiplist_words,
            do_query_expansion=do_query_expansion,
            attend_to_expansion_tokens=attend_to_expansion_tokens,
            threads=threads,
        )

    def _open(self, path: str | os.PathLike[str], hub: HubOptions, *, from_hub: bool = False, **arguments: Any) -> None:
        found = snapshot(os.fspath(path), hub) if from_hub else locate(path, hub)
        self._name = os.fspath(path)
        self._path, self._revision = found.folder, found.revision
        self._hub = hub
        if found.warning is not None:
            warnings.warn(found.warning, stacklevel=3)
        self._model = _core.Model(self._path, **arguments)
        skiplist = self.info()["skiplist_words"]
        if arguments["skiplist_words"] is not None:
            arguments["skiplist_words"] = skiplist["value"]  # what a generator gave is gone
        for name in ("query_length", "document_length", "threads"):
            if arguments[name] is not None:
                arguments[name] = operator.index(arguments[name])  # numpy's are no JSON
        self._arguments = arguments
        unknown = self._model.unknown_skiplist_words
        if unknown and skiplist["origin"] != "default":
            message = f"{self._name}: skiplist words {unknown} are no tokens of this model, so they skip nothing"
            warnings.warn(message, stacklevel=3)

    def __reduce__(self) -> tuple[Any, ...]:
        if self._revision is None:
            return _reopen, (self._path, HubOptions(), self._arguments)
        hub = replace(self._hub, revision=self._revision, token=None)
        return _reopen, (self._name, hub, {**self._arguments, "from_hub": True})

    def __copy__(self) -> ColBERT:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> ColBERT:
        return self

    def __repr__(self) -> str:
        return f"ColBERT({self._name!r}, dim={self.dim}, device={self.device!r}, dtype={self.dtype!r})"

    @property
    def name(self) -> str:
        """The path or the hub name that was given."""
        return self._name

    @property
    def revision(self) -> str | None:
        """The commit of a hub model that was opened; None for a folder."""
        return self._revision

    @property
    def arguments(self) -> dict[str, Any]:
        """What the handle was opened with, as plain JSON: `ColBERT(**model.arguments)` opens it again.

        `model_name_or_path`, of a folder the absolute path, and whatever is not at its default, but never the token. A
        handle of `from_bert` also has `from_bert: True`, for `chandelier.shared.shared_model`. To hold a hub model to
        its commit, set `revision` to `model.revision`.

        Examples:
            >>> ColBERT("tests/goldens/a_bert_pylate/checkpoint", query_length=24).arguments
            {'model_name_or_path': '/...tests/goldens/a_bert_pylate/checkpoint', 'query_length': 24}
        """
        hub = {name: getattr(self._hub, name) for name in ("revision", "cache_dir", "local_files_only")}
        given = {name: value for name, value in {**hub, **self._arguments}.items() if value != _DEFAULTS.get(name)}
        if "skiplist_words" in given:
            given["skiplist_words"] = list(given["skiplist_words"])
        return {"model_name_or_path": self._path if self._revision is None else self._name, **given}

    @property
    def dim(self) -> int:
        """The length of a row."""
        return self._model.dim

    @property
    def device(self) -> str:
        """Where the model computes."""
        return str(self._arguments["device"])

    @property
    def dtype(self) -> str:
        """What the model computes in; with `dtype="auto"` what that was found to be here."""
        return self._model.dtype

    @property
    def threads(self) -> int:
        """Most threads of a call."""
        return self._model.threads

    @property
    def query_length(self) -> int:
        """Tokens of a query, prefix and special tokens included."""
        return int(self.info()["query_length"]["value"])

    @property
    def document_length(self) -> int:
        """Most tokens of a document, prefix and special tokens included."""
        return int(self.info()["document_length"]["value"])

    @property
    def prompts(self) -> dict[str, str]:
        """The checkpoint's named prompts, used on request as `prompt_name`.

        A checkpoint of sentence-transformers 6 applies its "query" and "document" without being asked; `prompt=""`
        turns that off.
        """
        return dict(self.info()["prompts"])

    @property
    def fingerprint(self) -> str:
        """What makes vectors comparable: weights, Dense chain, normalisation and prefixes.

        Device, dtype and lengths do not count. 64 hexadecimal digits (BLAKE3), computed from the checkpoint's files
        when first asked for.

        Raises:
            ModelError: If a weights file changed since the model was opened.
            FileNotFoundError: If it is gone.
        """
        return self._model.fingerprint()

    def info(self) -> dict[str, Any]:
        """What was read from the checkpoint; every setting as `{"value": ..., "origin": ...}`.

        Examples:
            >>> ColBERT("tests/goldens/a_bert_pylate/checkpoint", query_length=24).info()["query_length"]
            {'value': 24, 'origin': 'argument'}
        """
        commit = {} if self._revision is None else {"revision": self._revision}
        return {"name": self._name, **commit, **json.loads(self._model.info())}

    def encode_queries(
        self,
        texts: Iterable[str],
        *,
        prompt: str | None = None,
        prompt_name: str | None = None,
        batch_tokens: int | None = None,
        progress: Progress = False,
    ) -> MultiVectors:
        """Encode queries, in order.

        Args:
            texts: The queries; an empty list gives an empty result.
            prompt: Put before every text; `""` also turns off a prompt that the checkpoint applies by itself.
            prompt_name: The name of one of `prompts`, instead of `prompt`.
            batch_tokens: Tokens of a micro-batch (256 if None, at most 4096); the rows do not depend on it.
            progress: Show a tqdm bar on stderr, or in the notebook. Or a function, called on this thread about every 50
                ms and at the end with the number of texts done so far: what it raises ends the call, and comes out.

        Returns:
            One float32 matrix of unit rows a query: `(query_length, dim)` with query expansion, else
            `(tokens, dim)`.

        Raises:
            ArgumentError: If `texts` is not a list of str (it names the index), or a prompt is unknown.
            KeyboardInterrupt: On Ctrl-C, at once.
        """
        return self._encode(
            texts, "texts", True, prompt=prompt, prompt_name=prompt_name, batch_tokens=batch_tokens, progress=progress
        )

    def encode_documents(
        self,
        texts: Iterable[str],
        *,
        pool_factor: int = 1,
        protected_tokens: int = 1,
        prompt: str | None = None,
        prompt_name: str | None = None,
        batch_tokens: int | None = None,
        progress: Progress = False,
    ) -> MultiVectors:
        """Encode documents, in order; see `encode_queries` for the other arguments.

        Args:
            texts: The documents; an empty list gives an empty result.
            pool_factor: How many rows become one, for a smaller index: the same as `pool_tokens` of the result. A
                checkpoint that pools by itself has done so before.
            protected_tokens: How many rows at the start `pool_factor` leaves alone.
            prompt: Put before every text.
            prompt_name: The name of one of `prompts`.
            batch_tokens: Tokens of a micro-batch.
            progress: Show a bar, or a function that is told.

        Returns:
            One float32 matrix of unit rows `(tokens, dim)` a document: cut at `document_length` tokens, without the
            rows of skiplist tokens. Rows that were pooled are means, and no longer of length 1.

        Examples:
            >>> model = ColBERT("tests/goldens/a_bert_pylate/checkpoint")
            >>> [len(rows) for rows in model.encode_documents(["one, two, three", ""], batch_tokens=512)]
            [8, 3]
            >>> [len(rows) for rows in model.encode_documents(["one, two, three", ""], pool_factor=2)]
            [4, 2]
        """
        pooling = checked_pooling(pool_factor, protected_tokens)
        return self._encode(
            texts,
            "texts",
            False,
            pooling=pooling,
            prompt=prompt,
            prompt_name=prompt_name,
            batch_tokens=batch_tokens,
            progress=progress,
        )

    def encode_documents_iter(
        self,
        texts: Iterable[str],
        *,
        pool_factor: int = 1,
        protected_tokens: int = 1,
        prompt: str | None = None,
        prompt_name: str | None = None,
        batch_tokens: int | None = None,
    ) -> Iterator[Float32Array]:
        """Encode a stream of documents, of any length, in memory that does not grow with it.

        Texts are taken on the thread that asks for rows, when the rows of those before have been given out: as many as
        are encoded at once, 4,096 or fewer, which may take 32 MiB with their rows, or 8 MiB a thread if that is more.
        While one is tokenised, which it is to its end, it takes about a hundred times its size. For a bar, wrap the
        texts in tqdm.

        Args:
            texts: The documents, a generator say.
            pool_factor: As for `encode_documents`, and so are the others.
            protected_tokens: How many rows at the start `pool_factor` leaves alone.
            prompt: Put before every text.
            prompt_name: The name of one of `prompts`.
            batch_tokens: Tokens of a micro-batch.

        Yields:
            A text's own float32 matrix `(tokens, dim)`, in order: the same to the last bit as of `encode_documents`.

        Raises:
            ArgumentError: If an argument is not of its kind, at once. If what comes from `texts` is no str: it names
                the index, counted from the start of the stream, and comes after the rows of all texts before it. So
                does an error that `texts` raises.

        Examples:
            >>> model = ColBERT("tests/goldens/a_bert_pylate/checkpoint")
            >>> lines = (f"line {number}" for number in range(1000))
            >>> sum(len(rows) for rows in model.encode_documents_iter(lines)) / 1000
            7.128
        """
        stream = TextStream("texts", texts)
        encode = partial(
            self.encode_documents,
            pool_factor=pool_factor,
            protected_tokens=protected_tokens,
            prompt=prompt,
            prompt_name=prompt_name,
            batch_tokens=batch_tokens,
        )
        encode([])  # what is wrong with the other arguments is told now
        size = partial(text_bytes, dim=self.dim, document_length=self.document_length)
        room = max(PORTION_BYTES, self.threads * STREAM_THREAD_BYTES)
        return _streamed(stream, portions(stream, size, STREAM_TEXTS, room), encode)

    @overload
    def encode(  # type: ignore[overload-overlap]  # a str is an iterable of str, and comes first
        self,
        sentences: str,
        *,
        is_query: bool = ...,
        pool_factor: int = ...,
        protected_tokens: int = ...,
        prompt: str | None = ...,
        prompt_name: str | None = ...,
        batch_tokens: int | None = ...,
        progress: Progress = ...,
        batch_size: int | None = ...,
        show_progress_bar: bool | None = ...,
    ) -> FloatArray: ...

    @overload
    def encode(
        self,
        sentences: Iterable[str],
        *,
        is_query: bool = ...,
        pool_factor: int = ...,
        protected_tokens: int = ...,
        prompt: str | None = ...,
        prompt_name: str | None = ...,
        batch_tokens: int | None = ...,
        progress: Progress = ...,
        batch_size: int | None = ...,
        show_progress_bar: bool | None = ...,
    ) -> list[FloatArray]: ...

    def encode(
        self,
        sentences: str | Iterable[str],
        *,
        is_query: bool = False,
        pool_factor: int = 1,
        protected_tokens: int = 1,
        prompt: str | None = None,
        prompt_name: str | None = None,
        batch_tokens: int | None = None,
        progress: Progress = False,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
    ) -> FloatArray | list[FloatArray]:
        """Encode with PyLate's spelling: a list of arrays, or one array for a single str.

        Args:
            sentences: The texts, or one text.
            is_query: Whether they are queries.
            pool_factor: As for `encode_documents`; queries are never pooled, as in PyLate.
            protected_tokens: How many rows at the start are not pooled.
            prompt: As for `encode_queries`, and so are `prompt_name`, `batch_tokens` and `progress`.
            prompt_name: The name of one of `prompts`.
            batch_tokens: Tokens of a micro-batch.
            progress: Show a bar.
            batch_size: PyLate's; accepted and not needed, since batches are cut by tokens and change no row.
            show_progress_bar: PyLate's word for `progress`.

        Examples:
            >>> model = ColBERT("tests/goldens/a_bert_pylate/checkpoint")
            >>> model.encode("what is the capital of france?", is_query=True).shape
            (32, 32)
        """
        if batch_size is not None:
            checked_count("batch_size", batch_size)
        progress = progress if show_progress_bar is None else show_progress_bar
        single = isinstance(sentences, str)
        texts = [sentences] if isinstance(sentences, str) else sentences
        pooling = checked_pooling(pool_factor, protected_tokens)
        vectors = self._encode(
            texts,
            "sentences",
            is_query,
            pooling=pooling,
            prompt=prompt,
            prompt_name=prompt_name,
            batch_tokens=batch_tokens,
            progress=progress,
        )
        return vectors[0] if single else list(vectors)

    def similarity(self, queries: Matrices, documents: Matrices) -> Float32Array:
        """Score matrices that are already encoded: MaxSim, `(queries, documents)` float32; see `maxsim_matrix`."""
        return maxsim_matrix(queries, documents)

    def rerank(
        self,
        query: str,
        documents: Sequence[str] | Matrices,
        *,
        top_k: int | None = None,
        query_prompt_name: str | None = None,
        document_prompt_name: str | None = None,
        progress: Progress = False,
    ) -> list[Ranked]:
        """Order documents by their MaxSim with a query, best first, ties in input order.

        Args:
            query: The query.
            documents: Texts, or matrices that are already encoded.
            top_k: How many to return; None for all.
            query_prompt_name: The name of the prompt of the query, for a checkpoint that wants one.
            document_prompt_name: The same of documents given as texts.
            progress: As for `encode_documents`, while documents given as texts are encoded.

        Raises:
            ArgumentError: If an argument is not of its kind; it names the argument.

        Examples:
            >>> model = ColBERT("tests/goldens/a_bert_pylate/checkpoint")
            >>> texts = ["Bread needs flour.", "Paris is the capital of France."]
            >>> [ranked.index for ranked in model.rerank("what is the capital of france?", texts, top_k=1)]
            [1]
        """
        return ranked(self, query, documents, top_k, (query_prompt_name, document_prompt_name), progress)

    def explain(
        self,
        query: str,
        document: str,
        *,
        window: tuple[int, int] | None = None,
        query_prompt_name: str | None = None,
        document_prompt_name: str | None = None,
    ) -> Explanation:
        """Find out why a document has its score: which of its words answered which words of the query.

        Args:
            query: The query.
            document: The document; what is beyond `document_length` tokens adds nothing to the score, and the
                explanation says how much that is.
            window: The first character, and the one behind the last, of the only part to look at: one of `windows`. The
                explanation is still in characters of the whole document.
            query_prompt_name: As for `rerank`, and so is `document_prompt_name`.
            document_prompt_name: The name of the prompt of the document.

        Raises:
            ArgumentError: If an argument is not of its kind; it names the argument.
            ModelError: If the checkpoint pools rows by itself: a pooled row stands for several tokens, so none can be
                named.
            ShapeError: If a skiplist leaves a text without a row.

        Examples:
            >>> model = ColBERT("tests/goldens/a_bert_pylate/checkpoint")
            >>> explanation = model.explain("what is the capital?", "Paris is the capital of France.")
            >>> explanation.similarities.shape
            (32, 11)
            >>> match = explanation.matches[explanation.query_tokens.index("capital")]
            >>> start, end = match.span
            >>> match.document_token, explanation.document[start:end]
            ('capital', 'capital')
        """
        prompts = {"query_prompt_name": query_prompt_name, "document_prompt_name": document_prompt_name}
        check_prompt_names(self, **prompts)
        window = None if window is None else _checked_window(window)
        from chandelier.explanation import Explanation  # a sixth of what importing chandelier would take

        return Explanation.own(query, document, self._model.explain(query, document, window=window, **prompts))

    def tokenize_queries(
        self, texts: Iterable[str], *, prompt: str | None = None, prompt_name: str | None = None
    ) -> list[Tokens]:
        """The tokens of queries, as `encode_queries` sees them with the same prompt.

        Examples:
            >>> model = ColBERT("tests/goldens/a_bert_pylate/checkpoint")
            >>> tokens = model.tokenize_queries(["the moon"])[0]
            >>> tokens.tokens[:5], tokens.offsets[:5].tolist()
            (['[CLS]', '[Q] ', 'the', 'moon', '[SEP]'], [[0, 0], [0, 0], [0, 3], [4, 8], [0, 0]])
            >>> int(tokens.attention_mask.sum()), int(tokens.keep.sum())
            (5, 32)
        """
        return self._tokenize(texts, True, prompt, prompt_name)

    def tokenize_documents(
        self, texts: Iterable[str], *, prompt: str | None = None, prompt_name: str | None = None
    ) -> list[Tokens]:
        """The tokens of documents, as `encode_documents` sees them; see `tokenize_queries`.

        Examples:
            >>> model = ColBERT("tests/goldens/a_bert_pylate/checkpoint")
            >>> tokens = model.tokenize_documents(["the moon"], prompt="the sea: ")[0]
            >>> tokens.tokens, tokens.offsets[-3:].tolist()
            (['[CLS]', '[D] ', 'the', 'sea', ':', 'the', 'moon', '[SEP]'], [[0, 3], [4, 8], [0, 0]])
        """
        return self._tokenize(texts, False, prompt, prompt_name)

    def reads_whole(
        self,
        texts: Iterable[str],
        *,
        prompt: str | None = None,
        prompt_name: str | None = None,
        progress: Progress = False,
    ) -> list[bool]:
        """Tell which documents `encode_documents` reads to their end; of the others it cuts off a part.

        The arguments are those of `encode_documents`.

        Raises:
            ArgumentError: If `texts` is not a list of str, or a prompt is unknown.

        Examples:
            >>> model = ColBERT("tests/goldens/a_bert_pylate/checkpoint", document_length=12)
            >>> model.reads_whole(["the moon", "the moon moves the sea " * 9])
            [True, False]
        """
        work = partial(self._model.reads_whole, prompt=prompt, prompt_name=prompt_name)
        return _followed(work, texts, progress, "looking at documents")

    def windows(
        self,
        texts: Iterable[str],
        *,
        overlap: int | None = None,
        prompt: str | None = None,
        prompt_name: str | None = None,
        progress: Progress = False,
    ) -> list[list[tuple[int, int]]]:
        """Find parts of documents that the model reads whole: what does not fit `encode_documents` cuts off.

        A window is as long as can be: that it fits was found by tokenising it alone. Windows begin and end between
        words, inside a word only if no window holds it, and together hold every character but white space at their
        ends.

        Args:
            texts: The documents.
            overlap: The most tokens that a window shares with the next; none of a word that is longer. None for a
                quarter of the tokens that a text may have.
            prompt: Put before every window, as before every text in `encode_documents`.
            prompt_name: The name of one of `prompts`.
            progress: Show a bar, or a function that is told, as in `encode_documents`.

        Returns:
            For each document a list of `(start, end)`, its first character and the one behind its last, in order;
            `[(0, len(text))]` for one that is read whole.

        Raises:
            ArgumentError: If `texts` is not a list of str, or one of them has a character of more tokens than a window
                (it names the index); if the prompt leaves no tokens for a text, or the overlap all of them.

        Examples:
            >>> model = ColBERT("tests/goldens/a_bert_pylate/checkpoint", document_length=12)
            >>> text = "The moon moves the sea, and the lighthouse keeper lights the lamp for the ships."
            >>> for start, end in model.windows([text])[0]:
            ...     print(text[start:end])
            The moon moves the sea, and the
            and the lighthouse keeper lights the
            the lamp for the ships.
            >>> model.windows(["the moon"])
            [[(0, 8)]]
        """
        work = partial(self._model.windows, overlap=overlap, prompt=prompt, prompt_name=prompt_name)
        return _followed(work, texts, progress, "cutting documents")

    def _tokenize(
        self, texts: Iterable[str], is_query: bool, prompt: str | None, prompt_name: str | None
    ) -> list[Tokens]:
        found = self._model.tokenize(texts, is_query=is_query, prompt=prompt, prompt_name=prompt_name)
        return [Tokens(*parts) for parts in found]

    def _encode(
        self,
        texts: Iterable[str],
        argument: str,
        is_query: bool,
        *,
        prompt: str | None = None,
        prompt_name: str | None = None,
        pooling: tuple[int, int] = (1, 1),
        batch_tokens: int | None = None,
        progress: Progress = False,
    ) -> MultiVectors:
        work = partial(
            self._model.encode,
            argument=argument,
            is_query=is_query,
            prompt=prompt,
            prompt_name=prompt_name,
            pooling=pooling,
            batch_tokens=batch_tokens,
        )
        parts = _followed(work, texts, progress, "encoding queries" if is_query else "encoding documents")
        return MultiVectors.own(*parts)


def from_bert(
    path: str | os.PathLike[str],
    *,
    device: str = "cpu",
    dtype: str = "float32",
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
    query_length: int | None = None,
    document_length: int | None = None,
    query_prefix: str | None = None,
    document_prefix: str | None = None,
    skiplist_words: Iterable[str] | None = None,
    do_query_expansion: bool | None = None,
    attend_to_expansion_tokens: bool | None = None,
    threads: int | None = None,
) -> ColBERT:
    """Open any BERT-like sentence-transformer that has no projection, for late interaction over its hidden states.

    Such a model was not trained for ColBERT, and nothing in it says how to use it so: there is no prefix and no query
    expansion unless asked for, and `document_length` is the transformer's `max_seq_length`. All arguments and errors
    are those of `ColBERT`; a checkpoint with a Dense is refused.

    Examples:
        >>> from_bert("tests/goldens/a_bert_pylate/checkpoint")
        Traceback (most recent call last):
        chandelier.exceptions.ModelError: ... has a Dense module; from_bert is for models without one
    """
    return _reopen(
        path,
        HubOptions(revision, cache_dir, token, local_files_only),
        dict(
            from_bert=True,
            device=device,
            dtype=dtype,
            query_length=query_length,
            document_length=document_length,
            query_prefix=query_prefix,
            document_prefix=document_prefix,
            skiplist_words=skiplist_words,
            do_query_expansion=do_query_expansion,
            attend_to_expansion_tokens=attend_to_expansion_tokens,
            threads=threads,
        ),
    )


def _followed(work: Callable[..., Result], texts: Iterable[str], progress: Progress, what: str) -> Result:
    """The result of `work(texts, on_progress=...)`, which is shown or told meanwhile."""
    if callable(progress):
        return work(texts, on_progress=progress)
    if not isinstance(progress, bool):
        wanted = "True, False or a function that is told how many texts are done"
        raise ArgumentError(f"progress: got {progress!r}, wanted {wanted}", argument="progress")
    if not progress or isinstance(texts, str):
        return work(texts, on_progress=None)
    from tqdm.auto import tqdm  # 30 ms that only a bar is worth

    texts = list(texts) if isinstance(texts, Iterable) else texts
    with tqdm(total=len(texts), desc=what, unit=f" {what.split()[-1]}") as bar:
        return work(texts, on_progress=lambda done: bar.update(done - bar.n))


def _streamed(
    stream: TextStream, portions: Iterator[list[str]], encode: Callable[[list[str]], MultiVectors]
) -> Iterator[Float32Array]:
    """Each text's own rows: who keeps some does not keep those that were encoded with them."""
    for portion in portions:
        yield from (rows.copy() for rows in encode(portion))
    if stream.failure is not None:
        raise stream.failure


def _reopen(path: str | os.PathLike[str], hub: HubOptions, arguments: dict[str, Any]) -> ColBERT:
    model = ColBERT.__new__(ColBERT)
    model._open(path, hub, **arguments)
    return model


def _checked_window(window: tuple[int, int]) -> tuple[int, int]:
    """Two places; whether they are in the text is for the core to say."""
    try:
        start, end = window
    except (TypeError, ValueError):
        wanted = "two characters' places, the first and the one behind the last"
        raise ArgumentError(f"window: got {window!r}, wanted {wanted}", argument="window") from None
    return checked_count("window", start, least=0), checked_count("window", end, least=0)
