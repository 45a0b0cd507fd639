"""`ColBERTRerank`: puts retrieved nodes in the order of their MaxSim with the query."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from llama_index.core.bridge.pydantic import (
    ConfigDict,
    Field,
    field_serializer,
    field_validator,
    model_validator,
)
from llama_index.core.callbacks import CBEventType, EventPayload
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.events.exception import ExceptionEvent
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import BaseNode, MetadataMode, NodeWithScore, QueryBundle

from chandelier.exceptions import ArgumentError
from chandelier.llama_index.nodes import explained, noted, text_to_score, without_own_notes
from chandelier.models import ColBERT
from chandelier.rerank import CACHE_BYTES, OPTIONS, Reranked, Reranker
from chandelier.scores import Normalization, checked_question
from chandelier.shared import KNOBS, ModelHandle, checked_place, checked_settings

__all__ = ["ColBERTRerank"]

dispatcher = get_dispatcher(__name__)


@dataclass(frozen=True)
class _Task:
    """One call, checked: nothing that is wrong with the input shows itself after the first event."""

    query: QueryBundle
    given: list[NodeWithScore]
    nodes: list[BaseNode]
    texts: list[str]


class ColBERTRerank(BaseNodePostprocessor):
    """Puts retrieved nodes in the order of their MaxSim with the query.

    Nothing is opened before it is needed; then all of a process that name the same checkpoint share it. What comes in
    is never changed: new `NodeWithScore`s come out, best first. The metadata of a node may have gained `truncated`
    (True, where the model did not read all of it), `explanation` and `retrieval_score`, which language models and
    embeddings do not get to see.

    Args:
        model: The checkpoint's folder or hub name, or an open `ColBERT`.
        top_n: How many to return; None for all.
        metadata_mode: Which metadata is scored with the text: by default what is embedded with it.
        keep_retrieval_score: Whether to keep the score that a node came with as `retrieval_score`.
        score_normalization: `"query_length"` divides the MaxSim by the query's vectors; `"none"` leaves it.
        score_threshold: The lowest score to return, after normalisation; None for all.
        long_documents: `"truncate"` reads the beginning of a text longer than the model's `document_length`;
            `"window"` reads all of it in windows that overlap, of which the best is its score.
        window_overlap: Tokens that neighbouring windows share; None for a quarter of a window.
        explain: Whether to say which words matched.
        cache_bytes: How many bytes of encoded texts to keep for later calls; 0 for none.
        model_kwargs: Arguments of `ColBERT` for a model that is given by name, but for `token`.

    Raises:
        ValidationError: Of pydantic, a `ValueError`: if an argument is none of these.

    Examples:
        >>> from llama_index.core.schema import NodeWithScore, TextNode
        >>> rerank = ColBERTRerank(model="tests/goldens/a_bert_pylate/checkpoint", top_n=1)
        >>> nodes = [NodeWithScore(node=TextNode(text=text)) for text in ["Bread needs flour.", "Paris is in France."]]
        >>> [(node.text, round(node.score, 2)) for node in rerank.postprocess_nodes(nodes, query_str="where is paris?")]
        [('Paris is in France.', 0.85)]
    """

    model_config = ConfigDict(
        arbitrary_types_allowed=True, extra="forbid", protected_namespaces=(), hide_input_in_errors=True
    )

    model: str | os.PathLike[str] | ColBERT
    top_n: int | None = 5
    metadata_mode: MetadataMode = MetadataMode.EMBED
    keep_retrieval_score: bool = False
    score_normalization: Normalization = "query_length"
    score_threshold: float | None = None
    long_documents: Literal["truncate", "window"] = "truncate"
    window_overlap: int | None = None
    explain: bool = False
    cache_bytes: int = CACHE_BYTES
    model_kwargs: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def class_name(cls) -> str:
        """The name by which LlamaIndex knows a component that it wrote."""
        return "ColBERTRerank"

    def warm_up(self) -> None:
        """Open the model now, so that the first call does not wait for it."""
        self._reranker().warm_up()

    def _reranker(self) -> Reranker:
        """The work is its; made for each call, since fields can be set."""
        return Reranker(**{name: getattr(self, name) for name in OPTIONS})

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        task, reranker = self._task(nodes, query_bundle), self._reranker()
        with self._told(task, reranker.name) as found:
            found += self._found(task, reranker.rerank(task.query.query_str, task.texts))
        return found

    @dispatcher.span
    async def _apostprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        task, reranker = self._task(nodes, query_bundle), self._reranker()
        with self._told(task, reranker.name) as found:
            found += self._found(task, await reranker.arerank(task.query.query_str, task.texts))
        return found

    def _task(self, nodes: list[NodeWithScore], query: QueryBundle | None) -> _Task:
        if query is None:
            message = "query_bundle: got none, wanted a question; postprocess_nodes(nodes, query_str=...)"
            raise ArgumentError(message, argument="query_bundle")
        checked_question(query.query_str)
        if isinstance(nodes, (str, bytes)) or not isinstance(nodes, Sequence):
            message = f"nodes: got {type(nodes).__name__}, wanted a list of NodeWithScore"
            raise ArgumentError(message, argument="nodes")
        for index, node in enumerate(nodes):
            if not isinstance(node, NodeWithScore):
                message = f"nodes[{index}]: got {type(node).__name__}, wanted a NodeWithScore: NodeWithScore(node=...)"
                raise ArgumentError(message, argument="nodes")
        fresh = [without_own_notes(node.node) for node in nodes]
        texts = [text_to_score(node, self.metadata_mode, f"nodes[{index}]") for index, node in enumerate(fresh)]
        return _Task(query, list(nodes), fresh, texts)

    @contextmanager
    def _told(self, task: _Task, model_name: str) -> Iterator[list[NodeWithScore]]:
        """Both kinds of events around a call, which fills the list; each start has its end, whatever happens."""
        found: list[NodeWithScore] = []
        top_n = len(task.given) if self.top_n is None else self.top_n
        dispatcher.event(ReRankStartEvent(query=task.query, nodes=task.given, top_n=top_n, model_name=model_name))
        payload: dict[str, Any] = {
            EventPayload.NODES: task.given,
            EventPayload.MODEL_NAME: model_name,
            EventPayload.QUERY_STR: task.query.query_str,
            EventPayload.TOP_K: top_n,
        }
        try:
            with self.callback_manager.event(CBEventType.RERANKING, payload=payload) as event:
                yield found
                event.on_end(payload={EventPayload.NODES: found})
        except BaseException as error:
            dispatcher.event(ExceptionEvent(exception=error))
            raise
        dispatcher.event(ReRankEndEvent(nodes=found))

    def _found(self, task: _Task, reranked: list[Reranked]) -> list[NodeWithScore]:
        found = []
        for each in reranked:
            node, notes = task.nodes[each.index], dict[str, Any]()
            if self.keep_retrieval_score:
                notes["retrieval_score"] = task.given[each.index].score
            if each.truncated:
                notes["truncated"] = True
            if each.explanation is not None:
                notes["explanation"] = explained(node, each.explanation)
            found.append(NodeWithScore(node=noted(node, notes), score=each.score))
        return found

    @model_validator(mode="before")
    @classmethod
    def _known(cls, fields: Any) -> Any:
        """The fields without the name of the class, which `model_dump` writes too.

        Pydantic's errors hold what was given, so nothing under an unknown name, a token for instance, goes further.
        """
        if not isinstance(fields, dict):
            return fields
        known = {name: value if name in cls.model_fields else "..." for name, value in fields.items()}
        if fields.get("class_name") == cls.class_name():
            del known["class_name"]
        settings = known.get("model_kwargs")
        if isinstance(settings, Mapping):
            known["model_kwargs"] = {name: value if name in KNOBS else "..." for name, value in settings.items()}
        return known

    @field_validator("model", mode="plain")
    @classmethod
    def _model_by_name(cls, model: Any) -> Any:
        return checked_place("model", model) if isinstance(model, (str, os.PathLike)) else model

    @field_validator("model_kwargs", mode="before")
    @classmethod
    def _plain_settings(cls, settings: Any) -> dict[str, Any]:
        return checked_settings(settings, "model_kwargs")

    @model_validator(mode="after")
    def _is_sound(self) -> ColBERTRerank:
        self._reranker()
        return self

    @field_serializer("model")
    def _model_written(self, model: Any) -> str:
        return str(ModelHandle(model, self.model_kwargs).arguments["model_name_or_path"])

    @field_serializer("model_kwargs")
    def _settings_written(self, settings: dict[str, Any]) -> dict[str, Any]:
        arguments = ModelHandle(self.model, settings).arguments
        return {name: value for name, value in arguments.items() if name != "model_name_or_path"}

    def __getstate__(self) -> dict[str, Any]:
        """The fields as they are written: a pickle holds no weights, and no open model."""
        fields = self.model_dump()
        del fields["class_name"]
        return {"__dict__": fields}
