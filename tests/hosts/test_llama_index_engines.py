"""LlamaIndex: both components in its query engines, fusion, tools and workflows, and the trace that shows them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from llama_index.core.base.response.schema import Response
from llama_index.core.callbacks import CBEventType
from llama_index.core.indices.query.query_transform.base import HyDEQueryTransform
from llama_index.core.llms import MockLLM
from llama_index.core.postprocessor import SimilarityPostprocessor
from llama_index.core.query_engine import RetrieverQueryEngine, TransformQueryEngine
from llama_index.core.retrievers import QueryFusionRetriever
from llama_index.core.schema import TextNode
from llama_index.core.tools import QueryEngineTool, RetrieverTool
from llama_index.core.workflow import Context, Event, StartEvent, StopEvent, Workflow, step
from llama_index_trace import Callbacks, traced

from chandelier import ColBERT
from chandelier.llama_index import ColBERTRerank, ColBERTRetriever

FACTS = {
    "paris": "Paris is the capital of France.",
    "berlin": "Berlin is the capital of Germany.",
    "bread": "Bread needs flour, water and salt.",
    "moon": "The moon moves the sea.",
    "rome": "All roads lead to Rome, they say in Italy.",
}
QUESTION = "what is the capital of france?"


@pytest.fixture(scope="module")
def retriever(minilm: ColBERT) -> Iterator[ColBERTRetriever]:
    nodes = [TextNode(id_=id, text=text, metadata={"topic": id}) for id, text in FACTS.items()]
    retriever = ColBERTRetriever.from_nodes(nodes, minilm, similarity_top_k=4)
    with retriever.store:
        yield retriever


def rerank(minilm: ColBERT, **options: Any) -> ColBERTRerank:
    return ColBERTRerank(model=minilm, top_n=2, explain=True, keep_retrieval_score=True, **options)


@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_query_engine_answers_from_the_right_text_and_its_trace_shows_how(
    retriever: ColBERTRetriever, minilm: ColBERT, way: str
) -> None:
    callbacks = Callbacks()
    engine = RetrieverQueryEngine.from_args(
        retriever, llm=MockLLM(), node_postprocessors=[rerank(minilm)], callback_manager=callbacks.manager
    )
    with traced() as trace:
        response = engine.query(QUESTION) if way == "sync" else asyncio.run(engine.aquery(QUESTION))
    assert isinstance(response, Response)
    assert len(response.source_nodes) == 2
    assert response.source_nodes[0].node_id == "paris"
    assert response.response is not None  # a mock model says its prompt again
    assert FACTS["paris"] in response.response
    assert FACTS["bread"] not in response.response
    assert "explanation" not in response.response
    a = "" if way == "sync" else "a"
    chains = {chain[0]: chain for chain in trace.chains()}
    engine_chain = [f"RetrieverQueryEngine._{a}query", f"RetrieverQueryEngine.{a}query"]
    assert chains[f"ColBERTRerank._{a}postprocess_nodes"][1:] == engine_chain
    assert chains[f"ColBERTRetriever._{a}retrieve"][1:] == [f"ColBERTRetriever.{a}retrieve", *engine_chain]
    names = [event.class_name() for event in trace.events.events]
    order = ["RetrievalStartEvent", "RetrievalEndEvent", "ReRankStartEvent", "ReRankEndEvent", "SynthesizeStartEvent"]
    assert [name for name in names if name in order] == order
    assert [edge for edge, _ in callbacks.of(CBEventType.RERANKING)] == ["start", "end"]


def test_a_threshold_of_the_host_cuts_on_the_score(retriever: ColBERTRetriever, minilm: ColBERT) -> None:
    best, *others = retriever.retrieve(QUESTION)
    assert best.score is not None
    engine = RetrieverQueryEngine.from_args(
        retriever, llm=MockLLM(), node_postprocessors=[SimilarityPostprocessor(similarity_cutoff=best.score - 1e-4)]
    )
    assert [node.node_id for node in engine.query(QUESTION).source_nodes] == [best.node_id]  # type: ignore[union-attr]
    assert all(node.score is not None and node.score < best.score for node in others)


@pytest.mark.parametrize("use_async", [False, True])
def test_fusion_of_two_retrievers(retriever: ColBERTRetriever, use_async: bool) -> None:
    few = ColBERTRetriever(retriever.store, similarity_top_k=1)
    fusion = QueryFusionRetriever(
        [retriever, few],
        llm=MockLLM(),
        num_queries=1,
        similarity_top_k=3,
        mode="reciprocal_rerank",  # type: ignore[arg-type]
        use_async=use_async,
    )
    assert next(node.node_id for node in fusion.retrieve(QUESTION)) == "paris"
    assert next(node.node_id for node in asyncio.run(fusion.aretrieve(QUESTION))) == "paris"


def test_a_question_of_several_texts(retriever: ColBERTRetriever) -> None:
    engine = TransformQueryEngine(
        RetrieverQueryEngine.from_args(retriever, llm=MockLLM()), HyDEQueryTransform(llm=MockLLM())
    )
    assert engine.query(QUESTION).source_nodes[0].node_id == "paris"


async def test_tools_of_an_agent(retriever: ColBERTRetriever, minilm: ColBERT) -> None:
    tool = RetrieverTool.from_defaults(retriever, node_postprocessors=[rerank(minilm)])
    for output in (tool.call(QUESTION), await tool.acall(QUESTION)):
        assert FACTS["paris"] in output.content
        assert "explanation" not in output.content
        assert output.content.count("topic:") == 2
    engine = RetrieverQueryEngine.from_args(retriever, llm=MockLLM(), node_postprocessors=[rerank(minilm)])
    output = await QueryEngineTool.from_defaults(engine, name="facts").acall(QUESTION)
    assert FACTS["paris"] in output.content


class Retrieved(Event):
    query: str
    nodes: list[Any]


class Search(Workflow):
    """Two steps: retrieve, rerank."""

    def __init__(self, retriever: ColBERTRetriever, rerank: ColBERTRerank) -> None:
        super().__init__(timeout=60)
        self.retriever, self.rerank = retriever, rerank

    @step
    async def retrieve(self, ctx: Context, start: StartEvent) -> Retrieved:
        return Retrieved(query=start.query, nodes=await self.retriever.aretrieve(start.query))

    @step
    async def order(self, ctx: Context, retrieved: Retrieved) -> StopEvent:
        return StopEvent(result=await self.rerank.apostprocess_nodes(retrieved.nodes, query_str=retrieved.query))


async def test_a_workflow(retriever: ColBERTRetriever, minilm: ColBERT) -> None:
    search = Search(retriever, rerank(minilm))
    questions = {QUESTION: "paris", "what do I need to bake?": "bread", "why are there tides?": "moon"}
    with traced() as trace:
        found = await asyncio.gather(*(search.run(query=question) for question in questions))
    assert [nodes[0].node_id for nodes in found] == list(questions.values())
    chains = trace.chains()
    assert sum(chain[0] == "ColBERTRetriever._aretrieve" for chain in chains) == len(questions)
    assert sum(chain[0] == "ColBERTRerank._apostprocess_nodes" for chain in chains) == len(questions)
