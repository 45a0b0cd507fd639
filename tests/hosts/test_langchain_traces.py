"""What a trace shows: retrieval and rerank as spans of their own, under the right parents, failures included."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hosts_contract import QUESTION, items
from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_classic.retrievers.document_compressors import DocumentCompressorPipeline
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableConfig, RunnableLambda

from chandelier import ArgumentError, ColBERT, LocalStore
from chandelier import Document as Entry
from chandelier.langchain import ColBERTRerank, ColBERTRetriever, ColBERTVectorStore, TwoStageRetriever


class Recorder(BaseCallbackHandler):
    """Keeps every span: its kind, its name, how it ended, and under which it ran."""

    def __init__(self) -> None:
        self.spans: dict[UUID, dict[str, Any]] = {}

    def _start(self, kind: str, given: Any, run_id: UUID, parent_run_id: UUID | None, **kwargs: Any) -> None:
        metadata = kwargs.get("metadata") or {}
        self.spans[run_id] = {
            "kind": kind, "name": kwargs["name"], "given": given, "parent": parent_run_id, "metadata": metadata
        }  # fmt: skip

    def on_retriever_start(self, serialized: Any, query: str, *, run_id: UUID, **kwargs: Any) -> None:
        self._start("retriever", query, run_id, **kwargs)

    def on_chain_start(self, serialized: Any, inputs: Any, *, run_id: UUID, **kwargs: Any) -> None:
        self._start("chain", inputs, run_id, **kwargs)

    def on_retriever_end(self, documents: Any, *, run_id: UUID, **kwargs: Any) -> None:
        self.spans[run_id]["result"] = documents

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **kwargs: Any) -> None:
        self.spans[run_id]["result"] = outputs

    def on_retriever_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        self.spans[run_id]["error"] = error

    on_chain_error = on_retriever_error

    def tree(self) -> list[tuple[str, str, str | None]]:
        """Kind, name and the parent's name of each span, in the order in which they began."""
        assert all(("result" in span) != ("error" in span) for span in self.spans.values()), "each ends once"
        return [
            (span["kind"], span["name"], self.spans[span["parent"]]["name"] if span["parent"] else None)
            for span in self.spans.values()
        ]

    def named(self, name: str) -> dict[str, Any]:
        (span,) = (span for span in self.spans.values() if span["name"] == name)
        return span


@pytest.fixture
def store(tiny: ColBERT) -> Any:
    with LocalStore(tiny) as store:
        store.upsert(Entry(item.id, item.text, item.metadata) for item in items())
        yield store


def joined(kind: Any, store: Any) -> Any:
    first, second = ColBERTRetriever(store=store, k=5), ColBERTRerank(model=store.model, top_n=2)
    if kind is TwoStageRetriever:
        return TwoStageRetriever(retriever=first, reranker=second)
    return ContextualCompressionRetriever(base_retriever=first, base_compressor=second)


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("kind", [TwoStageRetriever, ContextualCompressionRetriever])
async def test_retrieval_and_rerank_are_spans_of_their_own(store: Any, kind: Any, asynchronous: bool) -> None:
    recorder = Recorder()
    retriever = joined(kind, store)
    config: Any = {"callbacks": [recorder]}
    found = await retriever.ainvoke(QUESTION, config) if asynchronous else retriever.invoke(QUESTION, config)
    name = kind.__name__
    assert recorder.tree() == [
        ("retriever", name, None),
        ("retriever", "ColBERTRetriever", name),
        ("chain", "ColBERTRerank", name),
    ]
    searched, reranked = recorder.named("ColBERTRetriever"), recorder.named("ColBERTRerank")
    assert searched["given"] == reranked["given"]["query"] == QUESTION
    assert searched["result"] == reranked["given"]["documents"]
    assert len(searched["result"]) == 5
    assert reranked["result"] == recorder.named(name)["result"] == found
    told = {key: value for key, value in searched["metadata"].items() if key.startswith("ls_")}
    assert told == {
        "ls_retriever_name": "colbert",
        "ls_vector_store_provider": "LocalStore",
        "ls_embedding_provider": "chandelier",
        "ls_embedding_model": store.model.name,
    }


def beside_others(retriever: Any) -> Any:
    """Before another step, and called by a function of the user's own, which hands its config on."""

    async def in_a_loop(query: str, config: RunnableConfig) -> Any:
        return await retriever.ainvoke(query, config)

    called = RunnableLambda(lambda query, config: retriever.invoke(query, config), afunc=in_a_loop, name="mine")
    return {"in a sequence": retriever | RunnableLambda(len), "in a function": called}


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("place", ["in a sequence", "in a function"])
@pytest.mark.parametrize("kind", [TwoStageRetriever, ContextualCompressionRetriever])
async def test_a_chain_around_two_stages_takes_no_span_from_them(
    store: Any, kind: Any, place: str, asynchronous: bool
) -> None:
    chain = beside_others(joined(kind, store))[place]
    recorder = Recorder()
    config: Any = {"callbacks": [recorder]}
    await chain.ainvoke(QUESTION, config) if asynchronous else chain.invoke(QUESTION, config)
    parents = {name: parent for _, name, parent in recorder.tree()}
    assert parents["ColBERTRetriever"] == parents["ColBERTRerank"] == kind.__name__
    assert parents[kind.__name__] == ("mine" if place == "in a function" else "RunnableSequence")


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_runnable_belongs_to_the_callbacks_that_it_is_given(store: Any, asynchronous: bool) -> None:
    """As in a retriever of the user's own, which runs inside a chain and hands its callbacks on."""
    runnable = ColBERTRerank(model=store.model).as_runnable()
    given = {"query": QUESTION, "documents": ColBERTRetriever(store=store).invoke(QUESTION)}

    class Mine(BaseRetriever):
        def _get_relevant_documents(self, query: str, *, run_manager: Any) -> Any:
            return runnable.invoke(given, {"callbacks": run_manager.get_child()})

        async def _aget_relevant_documents(self, query: str, *, run_manager: Any) -> Any:
            return await runnable.ainvoke(given, {"callbacks": run_manager.get_child()})

    recorder = Recorder()
    config: Any = {"callbacks": [recorder]}
    chain = Mine() | RunnableLambda(len)
    await chain.ainvoke(QUESTION, config) if asynchronous else chain.invoke(QUESTION, config)
    assert ("chain", "ColBERTRerank", "Mine") in recorder.tree()


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_rerank_without_callbacks_belongs_to_what_runs(store: Any, asynchronous: bool) -> None:
    """As in a function of the user's own, who has no callbacks at hand."""
    rerank = ColBERTRerank(model=store.model)
    documents = ColBERTRetriever(store=store).invoke(QUESTION)

    async def in_a_loop(query: str) -> Any:
        return await rerank.acompress_documents(documents, query)

    mine = RunnableLambda(lambda query: rerank.compress_documents(documents, query), afunc=in_a_loop, name="mine")
    recorder = Recorder()
    config: Any = {"callbacks": [recorder]}
    found = await mine.ainvoke(QUESTION, config) if asynchronous else mine.invoke(QUESTION, config)
    assert found == rerank.compress_documents(documents, QUESTION)
    if not asynchronous or sys.version_info >= (3, 11):  # before, LangChain cannot hand the context on to a task
        assert recorder.tree() == [("chain", "mine", None), ("chain", "ColBERTRerank", "mine")]
        assert recorder.named("ColBERTRerank")["result"] == found


async def test_a_pipeline_and_a_runnable_have_the_span_too(store: Any) -> None:
    rerank = ColBERTRerank(model=store.model)
    documents = ColBERTRetriever(store=store).invoke(QUESTION)
    recorder = Recorder()
    DocumentCompressorPipeline(transformers=[rerank]).compress_documents(documents, QUESTION, callbacks=[recorder])
    await rerank.as_runnable().ainvoke({"query": QUESTION, "documents": documents}, {"callbacks": [recorder]})
    assert recorder.tree() == [("chain", "ColBERTRerank", None)] * 2


@pytest.mark.parametrize("kind", [TwoStageRetriever, ContextualCompressionRetriever])
async def test_a_failure_is_seen_where_it_happened(store: Any, kind: Any, tmp_path: Path) -> None:
    retriever = joined(kind, store)
    recorder = Recorder()
    with pytest.raises(ArgumentError, match="query"):
        await retriever.ainvoke(" ", {"callbacks": [recorder]})
    searched = [("retriever", "ColBERTRetriever", kind.__name__)] if kind is ContextualCompressionRetriever else []
    assert recorder.tree() == [("retriever", kind.__name__, None), *searched]
    assert all(isinstance(span["error"], ArgumentError) for span in recorder.spans.values())
    recorder = Recorder()
    broken = ColBERTRerank(model=tmp_path / "not-there")
    two = TwoStageRetriever(retriever=ColBERTRetriever(store=store), reranker=broken)
    with pytest.raises(FileNotFoundError):
        two.invoke(QUESTION, {"callbacks": [recorder]})
    assert "error" in recorder.named("ColBERTRerank")
    assert "result" in recorder.named("ColBERTRetriever")


async def test_one_of_a_batch_fails_alone(store: Any) -> None:
    retriever = joined(TwoStageRetriever, store)
    queries = ["the moon", " ", QUESTION]
    for found in (
        retriever.batch(queries, return_exceptions=True),
        await retriever.abatch(queries, return_exceptions=True),
    ):
        assert [type(one) for one in found] == [list, ArgumentError, list]
        assert found[2] == retriever.invoke(QUESTION)


async def test_events(store: Any) -> None:
    """What a user interface streams: `astream_events` names the two stages."""
    seen = [
        (event["event"], event["name"])
        async for event in joined(TwoStageRetriever, store).astream_events(QUESTION, version="v2")
        if not event["event"].endswith("_stream")
    ]
    assert ("on_retriever_end", "ColBERTRetriever") in seen
    assert ("on_chain_end", "ColBERTRerank") in seen


def test_a_vector_stores_retriever_is_named_too(store: Any) -> None:
    recorder = Recorder()
    ColBERTVectorStore(store).as_retriever().invoke(QUESTION, {"callbacks": [recorder]})
    (span,) = recorder.spans.values()
    assert span["metadata"]["ls_vector_store_provider"] == "ColBERTVectorStore"
