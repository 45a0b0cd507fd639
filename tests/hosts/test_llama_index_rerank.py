"""LlamaIndex: `ColBERTRerank`, under the contract of all hosts and what LlamaIndex wants beyond it."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hosts_contract import LONG, QUESTION, TEXTS, AsyncRerankContract, Item, RerankContract, Result, exact_scores
from llama_index.core.bridge.pydantic import ValidationError
from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload
from llama_index.core.schema import (
    BaseNode,
    Document,
    ImageDocument,
    ImageNode,
    IndexNode,
    MediaResource,
    MetadataMode,
    Node,
    NodeWithScore,
    QueryBundle,
    TextNode,
)
from llama_index_trace import Callbacks, traced

from chandelier import ColBERT
from chandelier.exceptions import ArgumentError
from chandelier.llama_index import ColBERTRerank
from chandelier.llama_index.nodes import explained
from chandelier.shared import SHARED

NOTES = ("truncated", "explanation", "retrieval_score")


def read(nodes: list[NodeWithScore]) -> list[Result]:
    return [
        Result(
            each.node_id,
            each.node.get_content(MetadataMode.NONE),
            {key: value for key, value in each.metadata.items() if key not in NOTES},
            each.get_score(raise_error=True),
            each.metadata.get("truncated", False),
            each.metadata.get("explanation"),
        )
        for each in nodes
    ]


class TestRerank(RerankContract):
    def component(self, model: Any, **options: Any) -> ColBERTRerank:
        return ColBERTRerank(model=model, metadata_mode=MetadataMode.NONE, **options)

    def documents(self, items: list[Item]) -> list[NodeWithScore]:
        return [NodeWithScore(node=TextNode(id_=item.id, text=item.text, metadata=item.metadata)) for item in items]

    def read(self, documents: list[NodeWithScore]) -> list[Result]:
        return read(documents)

    def rerank(self, component: ColBERTRerank, query: str, documents: list[Any]) -> list[Any]:
        return component.postprocess_nodes(documents, query_str=query)


class TestRerankInALoop(AsyncRerankContract, TestRerank):
    rerank = AsyncRerankContract.rerank

    async def arerank(self, component: ColBERTRerank, query: str, documents: list[Any]) -> list[Any]:
        return await component.apostprocess_nodes(documents, QueryBundle(query))


@pytest.fixture
def checkpoint(goldens: Path) -> str:
    return str(goldens / "a_bert_pylate" / "checkpoint")


Call = Callable[..., list[NodeWithScore]]


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest) -> Call:
    """`postprocess_nodes`, or `apostprocess_nodes` to its end."""
    if request.param == "sync":
        return lambda component, *arguments, **options: component.postprocess_nodes(*arguments, **options)
    return lambda component, *arguments, **options: asyncio.run(component.apostprocess_nodes(*arguments, **options))


def scored(*nodes: BaseNode, score: float | None = 0.25) -> list[NodeWithScore]:
    return [NodeWithScore(node=node, score=score) for node in nodes]


class TestWhatIsScored:
    def test_the_text_with_the_metadata_that_is_embedded(self, checkpoint: str, tiny: ColBERT) -> None:
        node = TextNode(text="The moon.", metadata={"title": "Tides", "id": 7}, excluded_embed_metadata_keys=["id"])
        modes = {
            MetadataMode.EMBED: "title: Tides\n\nThe moon.",
            MetadataMode.NONE: "The moon.",
            MetadataMode.ALL: "title: Tides\nid: 7\n\nThe moon.",
        }
        for mode, text in modes.items():
            (found,) = ColBERTRerank(model=checkpoint, metadata_mode=mode).postprocess_nodes(
                scored(node), query_str=QUESTION
            )
            assert found.score == pytest.approx(exact_scores(tiny, QUESTION, [text])[0], abs=1e-6)
        assert ColBERTRerank(model=checkpoint).metadata_mode is MetadataMode.EMBED

    @pytest.mark.parametrize(
        "template", ["{metadata_str}\n\n{content}", "{content}\n--\n{metadata_str}", "<{content}>"]
    )
    @pytest.mark.parametrize("text", ["the moon salt", "  The moon, salt of the sea. \n", "moon salt"])
    def test_explanations_leave_the_metadata_out(self, minilm: ColBERT, template: str, text: str) -> None:
        node = TextNode(text=text, metadata={"title": "a moon salted"}, text_template=template)
        rerank = ColBERTRerank(model=minilm, explain=True)
        (found,) = rerank.postprocess_nodes(scored(node), query_str="salt on the moon")
        explanation = found.metadata["explanation"]
        assert "salt" in [span["text"] for span in explanation["spans"]]
        for span in explanation["spans"]:
            assert text[span["start"] : span["end"]] == span["text"] != ""
            assert 0 <= explanation["seen"][0] <= span["start"] < span["end"] <= explanation["seen"][1] <= len(text)

    @pytest.mark.parametrize("kind", [TextNode, Document])
    @pytest.mark.parametrize(
        ("template", "text", "title"),
        [
            ("Title: {content} / {metadata_str}", "T", "T"),
            ("{content} is what {metadata_str} says, not moon", "moon", "the moon"),
            ("moon: {metadata_str} {content} moon", "moon", "moon"),
            ("{metadata_str} {content} {metadata_str}", " moon\n", "moon"),
            ("  {{moon}} {content}", "moon", "moon"),
        ],
    )
    def test_spans_are_in_the_own_text_wherever_else_it_stands(
        self, checkpoint: str, kind: Any, template: str, text: str, title: str
    ) -> None:
        node = kind(text=text, metadata={"title": title}, text_template=template)
        scored_text = node.get_content(MetadataMode.EMBED)
        before = template.split("{content}")[0].format(metadata_str=f"title: {title}").lstrip()
        explanation = ColBERT(checkpoint).explain(scored_text, scored_text)
        header = len(before)
        wanted = [
            (span.start - header, span.weight)
            for span in explanation.spans()
            if header <= span.start and span.end <= header + len(text)
        ]
        found = explained(node, explanation)
        assert wanted
        assert [(span["start"], span["weight"]) for span in found["spans"]] == wanted

    def test_a_node_that_adds_to_its_text_in_a_way_of_its_own(self, checkpoint: str) -> None:
        class Dated(TextNode):
            def get_content(self, metadata_mode: MetadataMode = MetadataMode.NONE) -> str:
                return self.text if metadata_mode == MetadataMode.NONE else f"1969: {self.text}"

        rerank = ColBERTRerank(model=checkpoint, explain=True)
        (found,) = rerank.postprocess_nodes(scored(Dated(text="the moon")), query_str="the moon")
        assert [span["text"] for span in found.metadata["explanation"]["spans"]] == ["the", "moon"]
        (found,) = rerank.postprocess_nodes(scored(Dated(text="9")), query_str="the moon")
        assert found.metadata["explanation"]["spans"] == [], "which 9 is not known"

    def test_a_node_that_changes_its_text_has_no_spans_rather_than_wrong_ones(self, checkpoint: str) -> None:
        class Loud(TextNode):
            def get_content(self, metadata_mode: MetadataMode = MetadataMode.NONE) -> str:
                return self.text if metadata_mode == MetadataMode.NONE else self.text.upper()

        rerank = ColBERTRerank(model=checkpoint, explain=True)
        (found,) = rerank.postprocess_nodes(scored(Loud(text="the moon")), query_str="the moon")
        assert found.metadata["explanation"] == {"seen": [0, 0], "spans": []}

    @pytest.mark.parametrize(
        "node",
        [
            ImageNode(id_="odd", image_url="http://localhost/a.png", metadata={"file": "a.png"}),
            Node(id_="odd", image_resource=MediaResource(url="http://localhost/a.png")),
            Node(id_="odd", audio_resource=MediaResource(path="a.wav"), text_resource=MediaResource(text="")),
            Node(id_="odd"),
            ImageDocument(id_="odd", image="aGVsbG8="),
        ],
        ids=lambda node: node.class_name(),
    )
    def test_a_node_without_text_is_refused_by_its_name(self, checkpoint: str, call: Call, node: BaseNode) -> None:
        nodes = scored(TextNode(text="a"), node)
        with traced() as trace, pytest.raises(ArgumentError, match=r"nodes\[1\]: got the \w+ 'odd', which has no text"):
            call(ColBERTRerank(model=checkpoint), nodes, query_str=QUESTION)
        assert not trace.named("ReRank")

    def test_every_class_of_nodes_stays_what_it_is(self, checkpoint: str) -> None:
        inner = TextNode(text="inside")
        nodes: list[BaseNode] = [
            IndexNode(text="Paris is the capital of France.", index_id="france", obj=inner),
            ImageNode(text="a map of France", image_url="http://localhost/a.png"),
            Node(text_resource=MediaResource(text="The moon.")),
            Document(text="The sea.", metadata={"page": 1}),
            Document(text=""),
        ]
        rerank = ColBERTRerank(model=checkpoint, explain=True, keep_retrieval_score=True)
        found = {each.node_id: each.node for each in rerank.postprocess_nodes(scored(*nodes), query_str=QUESTION)}
        for node in nodes:
            other = found[node.node_id]
            assert type(other) is type(node)
            assert other.get_content(MetadataMode.EMBED) == node.get_content(MetadataMode.EMBED)
            assert {**other.metadata, **node.metadata} == other.metadata
        index_node = found[nodes[0].node_id]
        assert isinstance(index_node, IndexNode)
        assert (index_node.index_id, index_node.obj) == ("france", inner)

    @pytest.mark.parametrize("nodes", [[TextNode(text="a")], ["text"], [None]], ids=["node", "str", "None"])
    def test_what_is_no_node_with_score_is_refused(self, checkpoint: str, call: Call, nodes: list[Any]) -> None:
        with pytest.raises(ArgumentError, match=r"nodes\[0\]: got \w+, wanted a NodeWithScore"):
            call(ColBERTRerank(model=checkpoint), nodes, query_str=QUESTION)

    @pytest.mark.parametrize("nodes", [None, "text", 3], ids=repr)
    def test_what_is_no_list_is_refused(self, checkpoint: str, call: Call, nodes: Any) -> None:
        with pytest.raises(ArgumentError, match=r"nodes: got \w+, wanted a list of NodeWithScore"):
            call(ColBERTRerank(model=checkpoint), nodes, query_str=QUESTION)


class TestNotes:
    def test_the_score_of_the_retrieval_can_be_kept(self, checkpoint: str, call: Call) -> None:
        nodes = [
            NodeWithScore(node=TextNode(id_="a", text="The moon."), score=3.5),
            NodeWithScore(node=TextNode(id_="b", text="The sea.")),
        ]
        kept = call(ColBERTRerank(model=checkpoint, keep_retrieval_score=True), nodes, query_str=QUESTION)
        assert {each.node_id: each.metadata["retrieval_score"] for each in kept} == {"a": 3.5, "b": None}
        assert all(each.score not in (3.5, None) for each in kept)
        again = call(ColBERTRerank(model=checkpoint), kept, query_str="the moon")
        assert {each.node_id: each.metadata["retrieval_score"] for each in again} == {"a": 3.5, "b": None}
        plain = call(ColBERTRerank(model=checkpoint), nodes, query_str=QUESTION)
        assert all(each.metadata == {} for each in plain)
        assert {id(each.node) for each in plain} == {id(each.node) for each in nodes}, "nothing to copy"

    def test_notes_reach_neither_the_prompt_nor_the_next_score(self, checkpoint: str) -> None:
        node = TextNode(text=LONG, metadata={"title": "Tides"}, excluded_llm_metadata_keys=["title"])
        rerank = ColBERTRerank(model=checkpoint, explain=True, keep_retrieval_score=True)
        once = rerank.postprocess_nodes(scored(node), query_str=QUESTION)
        assert {"truncated", "explanation", "retrieval_score", "title"} == set(once[0].metadata)
        for mode in (MetadataMode.LLM, MetadataMode.EMBED):
            assert once[0].get_content(mode) == node.get_content(mode)
        assert rerank.postprocess_nodes(once, query_str=QUESTION)[0].score == once[0].score

    def test_metadata_that_only_has_such_a_name_is_kept(self, checkpoint: str) -> None:
        metadata = {"truncated": "by the editor", "explanation": "Tides are made by the moon."}
        found = ColBERTRerank(model=checkpoint).postprocess_nodes(
            scored(TextNode(text="The moon.", metadata=metadata)), query_str=QUESTION
        )
        assert found[0].metadata == metadata

    def test_so_is_what_the_user_hides(self, checkpoint: str) -> None:
        metadata = {"truncated": "by the editor", "explanation": {"seen": "by many"}}
        hidden = list(metadata)
        node = TextNode(
            text="The moon.",
            metadata=metadata,
            excluded_llm_metadata_keys=hidden,
            excluded_embed_metadata_keys=hidden,
        )
        (found,) = ColBERTRerank(model=checkpoint).postprocess_nodes(scored(node), query_str=QUESTION)
        assert found.node is node

    def test_notes_are_json(self, checkpoint: str) -> None:
        rerank = ColBERTRerank(model=checkpoint, explain=True)
        (found,) = rerank.postprocess_nodes(scored(TextNode(text=LONG)), query_str=QUESTION)
        assert json.loads(json.dumps(found.metadata)) == found.metadata


class TestEvents:
    def nodes(self) -> list[NodeWithScore]:
        return scored(*(TextNode(id_=f"id-{index}", text=text) for index, text in enumerate(TEXTS)))

    @pytest.mark.parametrize(("top_n", "told"), [(3, 3), (None, 7)])
    def test_a_pair_of_each_kind(self, checkpoint: str, call: Call, top_n: int | None, told: int) -> None:
        callbacks, nodes = Callbacks(), self.nodes()
        rerank = ColBERTRerank(model=checkpoint, top_n=top_n, callback_manager=callbacks.manager)
        with traced() as trace:
            found = call(rerank, nodes, query_str=QUESTION)
        start, end = trace.named("ReRank")
        assert (start.class_name(), end.class_name()) == ("ReRankStartEvent", "ReRankEndEvent")
        assert (start.query.query_str, start.top_n, start.model_name) == (QUESTION, told, checkpoint)
        assert [each.score for each in start.nodes] == [0.25] * 7, "not rewritten later"
        assert [each.node_id for each in start.nodes] == [each.node_id for each in nodes]
        assert end.nodes == found
        (first, begun), (second, done) = callbacks.of(CBEventType.RERANKING)
        assert (first, second) == ("start", "end")
        assert begun == {
            EventPayload.NODES: nodes,
            EventPayload.MODEL_NAME: checkpoint,
            EventPayload.QUERY_STR: QUESTION,
            EventPayload.TOP_K: told,
        }
        assert done == {EventPayload.NODES: found}

    def test_a_span_of_its_own(self, checkpoint: str, call: Call) -> None:
        with traced() as trace:
            call(ColBERTRerank(model=checkpoint), self.nodes(), query_str=QUESTION)
        (chain,), (span,) = trace.chains(), trace.spans.completed_spans
        assert chain in (["ColBERTRerank._postprocess_nodes"], ["ColBERTRerank._apostprocess_nodes"])
        assert {event.span_id for event in trace.named("ReRank")} == {span.id_}

    def test_pairs_also_for_nothing(self, tmp_path: Path, call: Call) -> None:
        callbacks = Callbacks()
        rerank = ColBERTRerank(model=str(tmp_path / "never-opened"), callback_manager=callbacks.manager)
        with traced() as trace:
            assert call(rerank, [], query_str=QUESTION) == []
        assert [event.nodes for event in trace.named("ReRank")] == [[], []]
        assert [edge for edge, _ in callbacks.of(CBEventType.RERANKING)] == ["start", "end"]

    def test_a_failure_is_an_end_too(self, tmp_path: Path, call: Call) -> None:
        callbacks = Callbacks()
        rerank = ColBERTRerank(model=str(tmp_path / "not-there"), callback_manager=callbacks.manager)
        with traced() as trace, pytest.raises(FileNotFoundError) as caught:
            call(rerank, self.nodes(), query_str=QUESTION)
        names = [event.class_name() for event in trace.events.events]
        assert names == ["ReRankStartEvent", "ExceptionEvent", "SpanDropEvent"]
        assert trace.named("Exception")[0].exception is caught.value
        assert not trace.spans.open_spans
        assert [edge for edge, _ in callbacks.of(CBEventType.RERANKING)] == ["start", "end"]
        assert callbacks.of(CBEventType.RERANKING)[1][1] == {EventPayload.EXCEPTION: caught.value}

    async def test_so_is_a_cancellation(self, minilm: ColBERT) -> None:
        callbacks = Callbacks()
        rerank = ColBERTRerank(model=minilm, cache_bytes=0, callback_manager=callbacks.manager)
        nodes = scored(*(TextNode(text=f"{index}: {LONG[:600]}") for index in range(100)))
        with traced() as trace:
            task = asyncio.create_task(rerank.apostprocess_nodes(nodes, query_str=QUESTION))
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert [event.class_name() for event in trace.events.events[:2]] == ["ReRankStartEvent", "ExceptionEvent"]
        assert [edge for edge, _ in callbacks.of(CBEventType.RERANKING)] == ["start", "end"]
        assert not trace.spans.open_spans

    @pytest.mark.parametrize("query", [None, QueryBundle(""), QueryBundle(" \n")], ids=["None", "empty", "white"])
    @pytest.mark.parametrize("count", [0, 2])
    def test_the_query_is_looked_at_first(
        self, checkpoint: str, call: Call, query: QueryBundle | None, count: int
    ) -> None:
        callbacks = Callbacks()
        rerank = ColBERTRerank(model=checkpoint, callback_manager=callbacks.manager)
        with traced() as trace, pytest.raises(ArgumentError, match="query"):
            call(rerank, self.nodes()[:count], query)
        assert not trace.named("ReRank")
        assert not callbacks.calls


OPTIONS: dict[str, Any] = {
    "top_n": None,
    "metadata_mode": MetadataMode.LLM,
    "keep_retrieval_score": True,
    "score_normalization": "none",
    "score_threshold": 0.5,
    "long_documents": "window",
    "window_overlap": 3,
    "explain": True,
    "cache_bytes": 0,
    "model_kwargs": {"query_length": 24, "skiplist_words": [".", ","]},
}


class TestSerialisation:
    @pytest.mark.parametrize(
        "copied",
        [
            lambda one: ColBERTRerank.from_dict(one.to_dict()),
            lambda one: ColBERTRerank.from_json(one.to_json()),
            lambda one: ColBERTRerank(**one.model_dump()),
            lambda one: ColBERTRerank.model_validate_json(one.model_dump_json()),
            lambda one: pickle.loads(pickle.dumps(one)),
            copy.deepcopy,
            lambda one: one.model_copy(),
        ],
        ids=["to_dict", "to_json", "model_dump", "model_dump_json", "pickle", "deepcopy", "model_copy"],
    )
    def test_every_option_comes_back_and_nothing_is_opened(
        self, tmp_path: Path, copied: Callable[[ColBERTRerank], ColBERTRerank]
    ) -> None:
        opened = dict(SHARED.models)
        rerank = ColBERTRerank(model=tmp_path / "not-yet-there", **OPTIONS)
        assert rerank.model == str(tmp_path / "not-yet-there")
        other = copied(rerank)
        assert other is not rerank
        assert other.to_dict() == rerank.to_dict()
        assert rerank.to_dict() == {
            "class_name": "ColBERTRerank",
            "model": str(tmp_path / "not-yet-there"),
            **OPTIONS,
        }
        assert SHARED.models == opened

    @pytest.mark.parametrize(
        "copied",
        [lambda one: ColBERTRerank.from_json(one.to_json()), lambda one: pickle.loads(pickle.dumps(one))],
        ids=["json", "pickle"],
    )
    def test_an_open_model_is_written_as_what_opens_it_again(
        self, checkpoint: str, copied: Callable[[ColBERTRerank], ColBERTRerank]
    ) -> None:
        model = ColBERT(checkpoint, query_length=21)
        rerank = ColBERTRerank(model=model)
        opened = dict(SHARED.models)
        other = copied(rerank)
        assert SHARED.models == opened
        assert (other.model, other.model_kwargs) == (checkpoint, {"query_length": 21})
        nodes = scored(TextNode(text=TEXTS[1]), TextNode(text=TEXTS[2]))
        assert other.postprocess_nodes(nodes, query_str=QUESTION) == rerank.postprocess_nodes(nodes, query_str=QUESTION)
        assert rerank.model is model

    def test_a_pickle_leaves_the_component_as_it_was(self, checkpoint: str) -> None:
        class Locked(Callbacks):
            def __init__(self) -> None:
                super().__init__()
                self.lock = threading.Lock()  # which no pickle takes

        manager = CallbackManager([Locked()])
        rerank = ColBERTRerank(model=checkpoint, callback_manager=manager)
        pickle.dumps(rerank)
        assert rerank.callback_manager is manager

    @pytest.mark.parametrize(
        "given",
        [
            {"token": "hf_secret"},
            {"hf_token": "hf_secret"},
            {"model_kwargs": {"token": "hf_secret"}},
            {"model_kwargs": {"hf_token": "hf_secret", "query_length": 24}},
            {"model_kwargs": {"token": "hf_secret"}, "top_n": 0},
            {"model_kwargs": {"token": "hf_secret"}, "model": 5},
        ],
        ids=str,
    )
    def test_a_token_is_in_no_error(self, checkpoint: str, given: dict[str, Any]) -> None:
        for made in (
            lambda: ColBERTRerank(**{"model": checkpoint, **given}),
            lambda: ColBERTRerank(**given),
            lambda: ColBERTRerank.from_dict({"model": checkpoint, **given}),
            lambda: ColBERTRerank.model_validate_json(json.dumps({"model": checkpoint, **given})),
        ):
            with pytest.raises(ValidationError, match="token") as caught:
                made()
            for text in (str(caught.value), repr(caught.value.errors()), caught.value.json()):
                assert "hf_secret" not in text
        assert "hf_secret" in str(given)

    def test_what_is_unknown_is_refused_there_too(self, checkpoint: str) -> None:
        written = ColBERTRerank(model=checkpoint).to_dict()
        with pytest.raises(ValueError, match="topn"):
            ColBERTRerank.from_dict({**written, "topn": 3})
        with pytest.raises(ValueError, match="class_name"):
            ColBERTRerank(**{**written, "class_name": "CohereRerank"})

    @pytest.mark.parametrize("model", [None, 3, "", ["a"], b"a"], ids=repr)
    def test_what_is_no_model_is_refused(self, model: Any) -> None:
        with pytest.raises(ValueError, match="model"):
            ColBERTRerank(model=model)

    def test_fields_can_be_set(self, checkpoint: str) -> None:
        rerank, nodes = ColBERTRerank(model=checkpoint), scored(*(TextNode(text=text) for text in TEXTS))
        rerank.top_n = 2
        assert len(rerank.postprocess_nodes(nodes, query_str=QUESTION)) == 2
        strict = rerank.model_copy(update={"score_threshold": 1.5})
        assert strict.postprocess_nodes(nodes, query_str=QUESTION) == []
        rerank.top_n = 0
        with pytest.raises(ArgumentError, match="top_n"):
            rerank.postprocess_nodes(nodes, query_str=QUESTION)

    def test_warm_up_opens_the_model(self, checkpoint: str) -> None:
        rerank = ColBERTRerank(model=checkpoint, model_kwargs={"document_length": 97})
        before = len(SHARED.models)
        rerank.warm_up()
        assert len(SHARED.models) == before + 1

    def test_it_has_a_schema(self) -> None:
        assert set(ColBERTRerank.model_json_schema()["properties"]) >= {"model", "top_n", "model_kwargs"}
