"""`ColBERTRerank`: LangChain's documents in a better order."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from langchain_core.callbacks import Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from pydantic import (
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    SkipValidation,
    ValidationError,
    field_serializer,
    model_validator,
)
from pydantic_core import InitErrorDetails
from typing_extensions import Self, TypedDict, override

from chandelier.exceptions import ArgumentError
from chandelier.langchain.documents import SCORE, Count, checked_documents
from chandelier.models import ColBERT
from chandelier.rerank import CACHE_BYTES, OPTIONS, Reranked, Reranker, explanation_notes, without_notes
from chandelier.scores import Normalization
from chandelier.shared import ModelHandle, checked_settings

__all__ = ["ColBERTRerank", "RerankInput"]

NOTES = ("truncated", "explanation")


class RerankInput(TypedDict):
    """What `ColBERTRerank.as_runnable()` takes."""

    query: str
    documents: Sequence[Document]


class _Rerank(RunnableLambda[RerankInput, list[Document]]):
    """Knows its types, for LangServe and the like.

    Not by `with_types`: a binding takes the span's parent from what runs around it, not from the callbacks it is given.
    """

    @property
    @override
    def InputType(self) -> type[RerankInput]:
        return RerankInput

    @property
    @override
    def OutputType(self) -> type[list[Document]]:
        return list[Document]


class ColBERTRerank(BaseDocumentCompressor):
    """Orders documents by their MaxSim with a query, each with `relevance_score` in its metadata.

    Works wherever a compressor does: `TwoStageRetriever`, and `ContextualCompressionRetriever` or
    `DocumentCompressorPipeline` of langchain-classic; in LCEL by `as_runnable()`. Each call is a span of its own in
    traces. The documents that come out are copies, with their ids and all of their metadata, but for what an earlier
    rerank noted in it, and what has the name of something that is noted now.

    Nothing is loaded before the first call. Models and encoded documents are shared by all in the process that name the
    same checkpoint with the same settings, so an object may be made for every request.

    Args:
        model: The checkpoint's folder or hub name, or an open `ColBERT`.
        top_n: How many to return; None for all.
        score_normalization: `"query_length"` divides MaxSim by the query's vectors, `"none"` leaves it; see
            `chandelier.scores.Scoring`.
        score_threshold: The lowest score to return, after normalisation; None for all.
        long_documents: `"truncate"` reads the beginning of a text longer than the model's `document_length` and notes
            `truncated` in its metadata; `"window"` reads all of it in windows, of which the best is its score.
        window_overlap: Tokens that neighbouring windows share; None for a quarter of a window.
        explain: Whether to say which words matched: `explanation` in the metadata, see
            `chandelier.rerank.explanation_notes`.
        metadata_keys: Metadata that is read too, as lines `key: value` before the text, in this order; a document
            without a key lacks its line.
        score_key: The key of the metadata that the score goes to.
        cache_bytes: How many bytes of encoded documents to keep for later calls, 64 MiB by default; 0 for none.
        model_kwargs: Arguments of `ColBERT` for a model that is given by name, but for `token`.

    Raises:
        ValidationError: If an argument is none of these; it is a `ValueError`.

    Examples:
        >>> rerank = ColBERTRerank(model="tests/goldens/a_bert_pylate/checkpoint", top_n=1)
        >>> documents = [Document("Bread needs flour.", id="a"), Document("Paris is in France.", id="b")]
        >>> rerank.compress_documents(documents, "where is paris?")
        [Document(id='b', metadata={'relevance_score': 0.8...}, page_content='Paris is in France.')]
    """

    model_config = ConfigDict(
        extra="forbid", arbitrary_types_allowed=True, protected_namespaces=(), hide_input_in_errors=True
    )

    model: Annotated[str | os.PathLike[str] | ColBERT, SkipValidation]
    top_n: Count | None = 3
    score_normalization: Normalization = "query_length"
    score_threshold: float | None = None
    long_documents: Literal["truncate", "window"] = "truncate"
    window_overlap: Count | None = None
    explain: bool = False
    metadata_keys: list[str] = Field(default_factory=list)
    score_key: str = SCORE
    cache_bytes: Count = CACHE_BYTES
    model_kwargs: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _checked(self) -> Self:
        if self.score_key in NOTES:
            message = f"score_key: got {self.score_key!r}, where something else goes, wanted another name"
            raise ArgumentError(message, argument="score_key")
        self.model_kwargs = checked_settings(self.model_kwargs, "model_kwargs")
        reranker = self._reranker()
        if not isinstance(self.model, ColBERT):
            self.model = reranker.name
        return self

    @model_validator(mode="wrap")
    @classmethod
    def _without_inputs(cls, given: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:
        """Its errors tell nothing that was given, in `errors()` neither: there may be a token in it."""
        try:
            return validate(given)
        except ValidationError as error:
            title, found = error.title, error.errors()
        told = [InitErrorDetails(type=e["type"], loc=e["loc"], input=None, ctx=e.get("ctx", {})) for e in found]
        raise ValidationError.from_exception_data(title, told, hide_input=True)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ColBERTRerank) and type(self) is type(other) and self._closed() == other._closed()

    @override
    def __getstate__(self) -> dict[Any, Any]:
        """A pickle holds no open model: who unpickles it opens one when it is needed, and shares it."""
        return {**super().__getstate__(), "__dict__": self._closed()}

    def _closed(self) -> dict[str, Any]:
        """The fields, with what opens a model again instead of an open one."""
        if not isinstance(self.model, ColBERT):
            return self.__dict__
        settings = ModelHandle(self.model).pinned_arguments
        return {**self.__dict__, "model": settings.pop("model_name_or_path"), "model_kwargs": settings}

    @field_serializer("model")
    def _name(self, model: str | os.PathLike[str] | ColBERT) -> str:
        return str(model.arguments["model_name_or_path"]) if isinstance(model, ColBERT) else os.fspath(model)

    @field_serializer("model_kwargs")
    def _arguments(self, model_kwargs: dict[str, Any]) -> dict[str, Any]:
        """Of an open model the arguments that it was opened with."""
        arguments = self.model.arguments if isinstance(self.model, ColBERT) else model_kwargs
        return {name: value for name, value in arguments.items() if name != "model_name_or_path"}

    @override
    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """The documents, best first, ties in the order given.

        Raises:
            ArgumentError: If the query asks nothing, or what is no document is among them.
            ModelError: As `ColBERT`, with the first call; so are `FileNotFoundError` and `HubError`.
        """
        return self.as_runnable().invoke(RerankInput(query=query, documents=documents), _traced(callbacks))

    @override
    async def acompress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """As `compress_documents`, in a worker thread; what is cancelled stops encoding."""
        return await self.as_runnable().ainvoke(RerankInput(query=query, documents=documents), _traced(callbacks))

    def as_runnable(self) -> Runnable[RerankInput, list[Document]]:
        """The same for LCEL: takes `{"query": ..., "documents": [...]}`, gives the documents, best first."""
        return _Rerank(self._compress, afunc=self._acompress, name=type(self).__name__)

    def warm_up(self) -> None:
        """Open the model now, so that the first call does not wait for it."""
        self._reranker().warm_up()

    def _compress(self, asked: RerankInput) -> list[Document]:
        query, documents, headers = self._read(asked)
        found = self._reranker().rerank(query, _texts(documents, headers))
        return [self._ranked(each, documents[each.index], headers[each.index]) for each in found]

    async def _acompress(self, asked: RerankInput) -> list[Document]:
        query, documents, headers = self._read(asked)
        found = await self._reranker().arerank(query, _texts(documents, headers))
        return [self._ranked(each, documents[each.index], headers[each.index]) for each in found]

    def _read(self, asked: RerankInput) -> tuple[str, list[Document], list[str]]:
        """The query, the documents, and what of each one's metadata is read before its text."""
        if not isinstance(asked, dict) or set(asked) != {"query", "documents"}:
            got = f"a dict of {sorted(asked)}" if isinstance(asked, dict) else type(asked).__name__
            raise ArgumentError(f"input: got {got}, wanted {{'query': ..., 'documents': [...]}}", argument="input")
        documents = checked_documents(asked["documents"])
        return asked["query"], documents, [self._header(document) for document in documents]

    def _header(self, document: Document) -> str:
        values = {key: document.metadata.get(key) for key in self.metadata_keys}
        return "".join(f"{key}: {value}\n" for key, value in values.items() if value is not None)

    def _ranked(self, found: Reranked, document: Document, header: str) -> Document:
        notes: dict[str, Any] = {self.score_key: found.score}
        if found.truncated:
            notes["truncated"] = True
        if found.explanation is not None:
            notes["explanation"] = explanation_notes(found.explanation, len(header))
        return document.model_copy(update={"metadata": {**without_notes(document.metadata), **notes}})

    def _reranker(self) -> Reranker:
        return Reranker(**{name: getattr(self, name) for name in OPTIONS})


def _texts(documents: list[Document], headers: list[str]) -> list[str]:
    return [header + document.page_content for header, document in zip(headers, documents, strict=True)]


def _traced(callbacks: Callbacks | None) -> RunnableConfig | None:
    """Without callbacks the span belongs to whatever runs already."""
    return None if callbacks is None else RunnableConfig(callbacks=callbacks)
