"""`ColBERTRerank`: the contract of all rerankers, and what only LangChain asks for."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from hosts_contract import LONG, QUESTION, AsyncRerankContract, Item, RerankContract, Result, exact_scores, items
from langchain_classic.retrievers import ContextualCompressionRetriever, EnsembleRetriever
from langchain_classic.retrievers.document_compressors import DocumentCompressorPipeline
from langchain_core.documents import BaseDocumentCompressor, BaseDocumentTransformer, Document
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from pydantic import ValidationError

from chandelier import ArgumentError, ColBERT
from chandelier.langchain import ColBERTRerank, TwoStageRetriever
from chandelier.shared import SHARED

NOTES = ("relevance_score", "truncated", "explanation")


def as_result(document: Document) -> Result:
    metadata = {key: value for key, value in document.metadata.items() if key not in NOTES}
    notes = {key: document.metadata[key] for key in NOTES[1:] if key in document.metadata}
    assert "truncated" not in notes or notes["truncated"], "noted only where it is so"
    assert json.loads(json.dumps(document.metadata)) == document.metadata, "plain JSON"
    score = document.metadata["relevance_score"]
    assert type(score) is float
    return Result(str(document.id), document.page_content, metadata, score, **notes)


class TestRerank(RerankContract):
    def component(self, model: Any, **options: Any) -> ColBERTRerank:
        return ColBERTRerank(model=model, **options)

    def documents(self, items: list[Item]) -> list[Document]:
        return [Document(item.text, id=item.id, metadata=copy.deepcopy(item.metadata)) for item in items]

    def read(self, documents: list[Document]) -> list[Result]:
        return [as_result(document) for document in documents]

    def rerank(self, component: ColBERTRerank, query: str, documents: list[Document]) -> list[Document]:
        return component.compress_documents(documents, query)


class TestRerankInALoop(AsyncRerankContract, TestRerank):
    rerank = AsyncRerankContract.rerank

    async def arerank(self, component: ColBERTRerank, query: str, documents: list[Document]) -> list[Document]:
        return await component.acompress_documents(documents, query)


@pytest.fixture
def checkpoint(goldens: Path) -> str:
    return str(goldens / "a_bert_pylate" / "checkpoint")


@pytest.fixture
def documents() -> list[Document]:
    return [Document(item.text, id=item.id, metadata=item.metadata) for item in items()]


# Options


def test_the_best_three_come_out(checkpoint: str, documents: list[Document]) -> None:
    everything = ColBERTRerank(model=checkpoint, top_n=None).compress_documents(documents, QUESTION)
    assert ColBERTRerank(model=checkpoint).compress_documents(documents, QUESTION) == everything[:3]


def test_metadata_is_read_where_it_is_asked_for(minilm: ColBERT) -> None:
    documents = [
        Document("It is the capital.", metadata={"year": 1989, "title": "Paris", "tags": ["a", "ü"], "none": None}),
        Document("It is a loaf.", metadata={"title": "Bread"}),
        Document("It is nothing."),
    ]
    read = [
        "title: Paris\nyear: 1989\ntags: ['a', 'ü']\nIt is the capital.",
        "title: Bread\nIt is a loaf.",
        "It is nothing.",
    ]
    keys = ["title", "year", "tags", "none", "missing"]
    rerank = ColBERTRerank(model=minilm, top_n=None, metadata_keys=keys, explain=True)
    found = {one.page_content: one for one in rerank.compress_documents(documents, QUESTION)}
    plain = [document.page_content for document in documents]
    scores = [found[text].metadata["relevance_score"] for text in plain]
    assert scores == pytest.approx(exact_scores(minilm, QUESTION, read), abs=1e-5)
    assert scores != pytest.approx(exact_scores(minilm, QUESTION, plain), abs=1e-3)
    for text, document in found.items():
        explanation = document.metadata["explanation"]
        assert explanation["seen"] == [0, len(text)]
        assert explanation["spans"]
        for span in explanation["spans"]:
            assert text[span["start"] : span["end"]] == span["text"] != ""
    capital = found["It is the capital."].metadata
    assert any("capital" in span["text"] for span in capital["explanation"]["spans"])
    assert capital["tags"] == ["a", "ü"]


def test_the_score_goes_where_it_is_asked_for(checkpoint: str) -> None:
    given = [Document("Paris is in France.", metadata={"relevance_score": 0.123})]
    rerank = ColBERTRerank(model=checkpoint, score_key="colbert")
    ((found),) = rerank.compress_documents(given, QUESTION)
    assert found.metadata["relevance_score"] == 0.123
    assert found.metadata["colbert"] == pytest.approx(
        ColBERTRerank(model=checkpoint).compress_documents(given, QUESTION)[0].metadata["relevance_score"]
    )


def test_what_is_changed_later_counts(checkpoint: str, documents: list[Document]) -> None:
    rerank = ColBERTRerank(model=checkpoint)
    assert len(rerank.model_copy(update={"top_n": 5}).compress_documents(documents, QUESTION)) == 5
    rerank.top_n = 1
    assert len(rerank.compress_documents(documents, QUESTION)) == 1
    rerank.top_n = 0
    with pytest.raises(ArgumentError, match="top_n: got 0"):
        rerank.compress_documents(documents, QUESTION)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"model": 3}, "model: got int"),
        ({"model": ""}, "model: got"),
        ({}, "model\n"),
        ({"model": "x", "metadata_keys": "title"}, "metadata_keys"),
        ({"model": "x", "model_kwargs": None}, "model_kwargs"),
        ({"model": "x", "score_key": "explanation"}, "score_key: got 'explanation'"),
        ({"model": "x", "top_n": True}, "top_n\n.*got True, wanted a whole number"),
        ({"model": "x", "window_overlap": 3}, "window_overlap: wanted only with long_documents='window'"),
        ({"model": "x", "modle_kwargs": {"token": "hf_secret"}}, "modle_kwargs"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named) as caught:
        ColBERTRerank(**options)
    assert "hf_secret" not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"model_kwargs": {"token": "hf_secret"}},
        {"model_kwargs": {"tokens": {"hub": "hf_secret"}}},
        {"model_kwargs": {"revision": ["hf_secret"]}},
        {"model_kwargs": "hf_secret"},
        {"modle_kwargs": {"token": "hf_secret"}},
        {"token": "hf_secret", "top_n": "hf_secret"},
    ],
    ids=str,
)
def test_an_error_holds_nothing_that_was_given(options: dict[str, Any]) -> None:
    """Neither its text nor what collectors of logs read of it."""
    for make in (lambda given: ColBERTRerank(**given), ColBERTRerank.model_validate):
        given = {"model": "x", **copy.deepcopy(options)}
        with pytest.raises(ValidationError) as caught:
            make(given)
        assert given == {"model": "x", **options}, "what the caller holds is left alone"
        assert len(caught.value.errors()) == len(options)
        told: BaseException | None = caught.value
        while told is not None:
            assert "hf_secret" not in str(told)
            assert not isinstance(told, ValidationError) or "hf_secret" not in f"{told.errors()} {told.json()}"
            told = told.__cause__ or told.__context__


def test_an_error_still_says_what_is_wrong() -> None:
    with pytest.raises(ValidationError, match="1 validation error for ColBERTRerank") as caught:
        ColBERTRerank(model="x", top_n=0)
    (error,) = caught.value.errors()
    assert error["type"] == "value_error"
    assert isinstance(error["ctx"]["error"], ArgumentError)
    assert error["msg"].startswith("Value error, top_n: got 0, wanted a whole number from 1")


def test_settings_beside_an_open_model_are_refused(tiny: ColBERT) -> None:
    with pytest.raises(ValueError, match="model_kwargs: got settings and an open model"):
        ColBERTRerank(model=tiny, model_kwargs={"query_length": 8})


# Documents


def test_what_comes_out_is_of_the_same_kind(checkpoint: str) -> None:
    class Note(Document):
        author: str

    given = Note(page_content="Paris is in France.", author="me", metadata={"deep": {"a": [1]}})
    (found,) = ColBERTRerank(model=checkpoint).compress_documents([given], QUESTION)
    assert type(found) is Note
    assert found.author == "me"
    assert found.id is None
    assert found.metadata["deep"] == {"a": [1]}
    assert given.metadata == {"deep": {"a": [1]}}


@pytest.mark.parametrize(
    ("documents", "named"),
    [
        (["Paris is in France."], r"documents\[0\]: got str, wanted a Document"),
        ([Document("x"), None], r"documents\[1\]: got NoneType"),
        (
            [Document("x"), Document.model_construct(page_content=None, metadata={})],
            r"documents\[1\].page_content: got",
        ),
        ([Document.model_construct(page_content="x", metadata=None)], r"documents\[0\].metadata: got NoneType"),
        (None, "documents: got NoneType, wanted a list of Document"),
        (5, "documents: got int"),
        ("Paris is in France.", "documents: got str"),
        (Document("Paris is in France."), "documents: got Document"),
    ],
)
async def test_what_is_no_document_is_refused(checkpoint: str, documents: Any, named: str) -> None:
    rerank = ColBERTRerank(model=checkpoint)
    with pytest.raises(ArgumentError, match=named):
        rerank.compress_documents(documents, QUESTION)
    with pytest.raises(ArgumentError, match=named):
        await rerank.acompress_documents(documents, QUESTION)


@pytest.mark.parametrize("given", ["a question", {"query": "a"}, {"query": "a", "documents": [], "k": 3}])
def test_the_runnable_takes_a_query_and_documents(checkpoint: str, given: Any) -> None:
    with pytest.raises(ArgumentError, match=r"input: got .*, wanted \{'query': ..., 'documents': \[...\]\}"):
        ColBERTRerank(model=checkpoint).as_runnable().invoke(given)


# Written and read again


def test_what_is_written_makes_the_same_again_and_loads_nothing(tmp_path: Path) -> None:
    opened = set(SHARED.models)
    options = dict(
        model=tmp_path / "not-there",
        top_n=None,
        score_threshold=0.25,
        long_documents="window",
        window_overlap=0,
        metadata_keys=["title"],
        model_kwargs={"skiplist_words": (word for word in ".,"), "cache_dir": tmp_path, "revision": None},
    )
    rerank = ColBERTRerank(**options)
    written = rerank.model_dump()
    assert written["model"] == str(tmp_path / "not-there")
    assert written["model_kwargs"] == {"skiplist_words": [".", ","], "cache_dir": str(tmp_path)}
    assert ColBERTRerank(**written).model_dump() == written
    assert ColBERTRerank.model_validate_json(rerank.model_dump_json()).model_dump() == written
    assert pickle.loads(pickle.dumps(rerank)).model_dump() == written
    assert copy.deepcopy(rerank).model_dump() == written
    assert set(SHARED.models) == opened


def test_an_open_model_is_written_as_what_it_was_opened_with(checkpoint: str, documents: list[Document]) -> None:
    model = ColBERT(checkpoint, query_length=17)
    rerank = ColBERTRerank(model=model)
    written = json.loads(rerank.model_dump_json())
    assert (written["model"], written["model_kwargs"]) == (checkpoint, {"query_length": 17})
    again = ColBERTRerank(**written)
    assert again.compress_documents(documents, QUESTION) == rerank.compress_documents(documents, QUESTION)
    assert rerank.model_dump(include={"top_n"}) == {"top_n": 3}


def test_what_is_pickled_is_equal(checkpoint: str, tiny: ColBERT) -> None:
    for model in (checkpoint, tiny, ColBERT(checkpoint, query_length=17)):
        rerank = ColBERTRerank(model=model, top_n=2)
        again = pickle.loads(pickle.dumps(rerank))
        assert again == rerank
        assert ColBERTRerank(**again.model_dump(exclude_unset=True)) == rerank
        assert again != ColBERTRerank(model=model, top_n=3)
        assert copy.deepcopy(rerank) == rerank
        assert copy.deepcopy(rerank).model is rerank.model
    assert ColBERTRerank(model=checkpoint) != "another"


def test_the_model_can_be_opened_beforehand(checkpoint: str) -> None:
    rerank = ColBERTRerank(model=checkpoint, model_kwargs={"query_length": 29})  # as nobody else opens it
    before = len(SHARED.models)
    rerank.warm_up()
    assert len(SHARED.models) == before + 1


# Beside LangChain's own


class Shout(BaseDocumentTransformer):
    def transform_documents(self, documents: Any, **_: Any) -> list[Document]:
        return [document.model_copy(update={"page_content": document.page_content.upper()}) for document in documents]


class Reverse(BaseDocumentCompressor):
    """A compressor of somebody else, without `top_n`."""

    def compress_documents(self, documents: Any, query: str, callbacks: Any = None) -> list[Document]:
        return list(documents)[::-1]


async def test_a_pipeline_of_compressors(checkpoint: str, documents: list[Document]) -> None:
    rerank = ColBERTRerank(model=checkpoint, top_n=2)
    pipeline = DocumentCompressorPipeline(transformers=[Shout(), rerank])
    wanted = rerank.compress_documents(Shout().transform_documents(documents), QUESTION)
    assert pipeline.compress_documents(documents, QUESTION) == wanted
    assert await pipeline.acompress_documents(documents, QUESTION) == wanted


@pytest.mark.parametrize("retriever", [ContextualCompressionRetriever, TwoStageRetriever])
async def test_both_ways_to_join_two_stages(checkpoint: str, documents: list[Document], retriever: Any) -> None:
    first = RunnableLambda(lambda query: documents if query != "nothing" else [])
    names = ("base_retriever", "base_compressor") if retriever is ContextualCompressionRetriever else None
    names = names or ("retriever", "reranker")
    rerank = ColBERTRerank(model=checkpoint, top_n=2)
    joined = retriever(**dict(zip(names, (first, rerank), strict=True)))
    wanted = rerank.compress_documents(documents, QUESTION)
    assert joined.invoke(QUESTION) == wanted
    assert await joined.ainvoke(QUESTION) == wanted
    assert joined.batch([QUESTION, "nothing"]) == [wanted, []]
    assert await joined.abatch([QUESTION, "nothing"]) == [wanted, []]


async def test_an_ensemble(checkpoint: str, documents: list[Document]) -> None:
    reranked = TwoStageRetriever(
        retriever=RunnableLambda(lambda query: documents), reranker=ColBERTRerank(model=checkpoint, top_n=1)
    )
    other = RunnableLambda(lambda query: documents[:1])
    ensemble = EnsembleRetriever(retrievers=[reranked, other], weights=[0.9, 0.1])
    best = reranked.invoke(QUESTION)[0].page_content
    for found in (ensemble.invoke(QUESTION), await ensemble.ainvoke(QUESTION)):
        assert [document.page_content for document in found] == [best, documents[0].page_content]


async def test_a_chain(checkpoint: str, documents: list[Document]) -> None:
    rerank = ColBERTRerank(model=checkpoint, top_n=1)
    search = RunnableLambda(lambda query: documents)
    chain = {"query": RunnablePassthrough(), "documents": search} | rerank.as_runnable()
    wanted = rerank.compress_documents(documents, QUESTION)
    assert chain.invoke(QUESTION) == wanted
    assert await chain.ainvoke(QUESTION) == wanted
    assert list(chain.stream(QUESTION)) == [wanted]
    two = [{"query": query, "documents": documents} for query in (QUESTION, "the moon")]
    wanted = [rerank.compress_documents(**one) for one in two]
    assert rerank.as_runnable().batch(two) == wanted
    assert await rerank.as_runnable().abatch(two) == wanted


def test_a_chain_knows_its_types(checkpoint: str) -> None:
    """LangServe and drawings of a chain ask for them."""
    rerank = ColBERTRerank(model=checkpoint)
    takes = rerank.as_runnable().input_schema.model_json_schema()
    assert set(takes["$defs"]["RerankInput"]["properties"]) == {"query", "documents"}
    assert rerank.as_runnable().output_schema.model_json_schema()["type"] == "array"
    assert "ColBERTRerank" in (RunnablePassthrough() | rerank.as_runnable()).get_graph().draw_mermaid()


# Two stages


async def test_how_many_come_out_and_go_in(checkpoint: str, documents: list[Document]) -> None:
    asked: list[dict[str, Any]] = []

    def search(query: str, k: int = 7, **keywords: Any) -> list[Document]:
        asked.append({"k": k, **keywords})
        return documents[:k]

    two = TwoStageRetriever(retriever=RunnableLambda(search), reranker=ColBERTRerank(model=checkpoint))
    assert len(two.invoke(QUESTION)) == 3
    assert len(two.invoke(QUESTION, k=5)) == 5
    assert len(await two.ainvoke(QUESTION, k=1, candidates=4, filter={"a": 1})) == 1
    assert asked == [{"k": 7}, {"k": 7}, {"k": 4, "filter": {"a": 1}}]
    for name in ("top_n", "top_k"):
        with pytest.raises(ArgumentError, match=f"{name}: k is how many come out"):
            two.invoke(QUESTION, **{name: 2})
    fixed = TwoStageRetriever(retriever=two.retriever, reranker=two.reranker, k=6, candidates=5)
    assert len(fixed.invoke(QUESTION)) == 5
    assert asked[-1] == {"k": 5}
    other = TwoStageRetriever(retriever=RunnableLambda(search), reranker=Reverse(), k=2)
    assert other.invoke(QUESTION) == documents[::-1][:2]
    for keywords in ({"k": 0}, {"candidates": -1}, {"k": True}, {"candidates": False}):
        with pytest.raises(ValueError, match="got"):
            two.invoke(QUESTION, **keywords)
        with pytest.raises(ValueError, match="got"):
            TwoStageRetriever(retriever=two.retriever, reranker=two.reranker, **keywords)
    with pytest.raises(ValueError, match="candidate\n"):
        TwoStageRetriever(retriever=two.retriever, reranker=two.reranker, candidate=3)
    with pytest.raises(ValueError, match="reranker"):
        TwoStageRetriever(retriever=two.retriever, reranker=two.reranker.as_runnable())


def test_keywords_that_a_retriever_would_pass_over_are_refused(checkpoint: str, documents: list[Document]) -> None:
    first = EnsembleRetriever(retrievers=[RunnableLambda(lambda query: documents)], weights=[1.0])
    two = TwoStageRetriever(retriever=first, reranker=ColBERTRerank(model=checkpoint))
    assert len(two.invoke(QUESTION)) == 3
    with pytest.raises(ArgumentError, match="EnsembleRetriever takes no keywords for a call, and would pass over k"):
        two.invoke(QUESTION, candidates=100)
    with pytest.raises(ArgumentError, match="would pass over filter"):
        two.invoke(QUESTION, filter={})


@pytest.mark.parametrize("found", [None, "Paris", 5, ["Paris"], [None]], ids=str)
async def test_what_a_first_stage_finds_must_be_documents(checkpoint: str, found: Any) -> None:
    two = TwoStageRetriever(retriever=RunnableLambda(lambda query: found), reranker=ColBERTRerank(model=checkpoint))
    with pytest.raises(ArgumentError, match=r"retriever(\[0\])?: got .*, wanted a (list of )?Document"):
        two.invoke(QUESTION)
    with pytest.raises(ArgumentError, match="retriever"):
        await two.ainvoke(QUESTION)


@pytest.mark.parametrize("query", ["", " \n", None, ["a question"]])
async def test_two_stages_want_a_question_even_if_nothing_is_found(checkpoint: str, query: Any) -> None:
    two = TwoStageRetriever(retriever=RunnableLambda(_nothing), reranker=ColBERTRerank(model=checkpoint))
    with pytest.raises(ArgumentError, match="query: got"):
        two.invoke(query)
    with pytest.raises(ArgumentError, match="query: got"):
        await two.ainvoke(query)


def test_two_stages_copy_without_loading(tmp_path: Path) -> None:
    opened = set(SHARED.models)
    two = TwoStageRetriever(
        retriever=RunnableLambda(_nothing), reranker=ColBERTRerank(model=tmp_path / "not-there"), k=2
    )
    for other in (copy.deepcopy(two), pickle.loads(pickle.dumps(two))):
        assert other.k == 2
        assert other.reranker == two.reranker
        assert other.invoke(LONG) == []
    assert set(SHARED.models) == opened


def _nothing(query: str) -> list[Document]:
    return []
