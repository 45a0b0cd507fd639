"""`ColBERTVectorStore` beyond langchain-tests: all of `VectorStore`, in both colours, and what is refused."""

from __future__ import annotations

import copy
import inspect
import json
import logging
import shutil
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hosts_contract import QUESTION, TEXTS, items
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.indexing import InMemoryRecordManager, aindex, index
from langchain_core.vectorstores import VectorStore
from qdrant_client import AsyncQdrantClient, QdrantClient

from chandelier import ArgumentError, ColBERT, LocalStore, PartialUpsertError, Store
from chandelier import Document as Entry
from chandelier.langchain import ColBERTRetriever, ColBERTVectorStore
from chandelier.qdrant import QdrantStore
from chandelier.shared import SHARED

Call = Callable[..., Awaitable[Any]]


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest) -> Call:
    """Calls a method by its synchronous name, or its asynchronous twin."""

    async def call(place: Any, name: str, *arguments: Any, **options: Any) -> Any:
        found = getattr(place, "a" * (request.param == "async") + name)(*arguments, **options)
        return await found if inspect.isawaitable(found) else found

    return call


@pytest.fixture
def store(tiny: ColBERT) -> Iterator[LocalStore]:
    with LocalStore(tiny) as store:
        yield store


@pytest.fixture
def filled(store: LocalStore) -> ColBERTVectorStore:
    store.upsert(Entry(item.id, item.text, item.metadata) for item in items())
    return ColBERTVectorStore(store)


# Writing


async def test_texts_with_everything_and_with_nothing(store: Store, call: Call) -> None:
    vectorstore = ColBERTVectorStore(store)
    texts = (text for text in TEXTS[:3])  # a generator, which LangChain's own `add_texts` would lose
    ids = await call(vectorstore, "add_texts", texts, [{"a": 1}, None, {}], ids=["x", None, "z"])
    assert (ids[0], ids[2]) == ("x", "z")
    assert await call(vectorstore, "get_by_ids", ids) == [
        Document(id=ids[0], page_content=TEXTS[0], metadata={"a": 1}),
        Document(id=ids[1], page_content=TEXTS[1]),
        Document(id=ids[2], page_content=TEXTS[2]),
    ]
    (other,) = await call(vectorstore, "add_texts", TEXTS[:1])
    assert store.count() == 4
    assert other not in ids
    assert await call(vectorstore, "add_texts", []) == []


async def test_ids_of_documents_and_ids_beside_them(store: Store, call: Call) -> None:
    vectorstore = ColBERTVectorStore(store)
    documents = [Document(TEXTS[0], id="a"), Document(TEXTS[1])]
    ids = await call(vectorstore, "add_documents", documents)
    assert ids[0] == "a"
    assert await call(vectorstore, "add_documents", documents, ids=["b", "b"]) == ["b", "b"]
    assert store.get(["b"]) == [Entry("b", TEXTS[1])], "the last of equal ids"
    assert store.count() == 3
    assert documents == [Document(TEXTS[0], id="a"), Document(TEXTS[1])]


async def test_what_does_not_fit_together_is_refused_before_anything_is_stored(store: Store, call: Call) -> None:
    vectorstore = ColBERTVectorStore(store)
    two = TEXTS[:2]
    for arguments, options, named in (
        ((two, [{}]), {}, "metadatas: got 1, wanted 2, as many as there are texts"),
        ((two,), {"ids": ["a"]}, "ids: got 1, wanted 2"),
        ((two,), {"ids": ["a", 3]}, r"texts\[1\]: id: got int"),
        (([*two, None],), {}, r"texts\[2\]: text: got NoneType"),
        ((two, [{}, "no"]), {}, r"texts\[1\]: metadata: got str"),
        (("one text",), {}, "texts: got str"),
        ((None,), {}, "texts: got NoneType"),
        ((two,), {"idz": ["a", "b"]}, "add_texts: got the unknown keyword 'idz', wanted batch_size"),
    ):
        with pytest.raises(ArgumentError, match=named):
            await call(vectorstore, "add_texts", *arguments, **options)
    for documents, options, named in (
        (two, {}, r"documents\[0\]: got str, wanted a Document"),
        ([Document("a")], {"ids": []}, "ids: got 0, wanted 1"),
        ([Document("a")], {"metadatas": [{}]}, "unknown keyword 'metadatas'"),
    ):
        with pytest.raises(ArgumentError, match=named):
            await call(vectorstore, "add_documents", documents, **options)
    assert store.count() == 0


async def test_a_document_that_is_refused_is_told_and_the_others_are_stored(store: Store, call: Call) -> None:
    vectorstore = ColBERTVectorStore(store)
    documents = [Document(TEXTS[0], id="a"), Document(TEXTS[1], id="b", metadata={"when": object()})]
    with pytest.raises(PartialUpsertError, match="when") as caught:
        await call(vectorstore, "add_documents", documents)
    assert caught.value.report is not None
    assert (caught.value.report.stored, list(caught.value.report.failed)) == (["a"], ["b"])
    assert store.count() == 1


async def test_what_is_cut_off_is_said_once(store: Store, call: Call, caplog: pytest.LogCaptureFixture) -> None:
    vectorstore = ColBERTVectorStore(store)
    with caplog.at_level(logging.WARNING, "chandelier"):
        await call(vectorstore, "add_texts", TEXTS)
        assert not caplog.records
        for _ in range(2):
            await call(vectorstore, "add_texts", ["the sea " * 500, "the moon"])
    (record,) = caplog.records
    assert "1 of 2 documents are longer than the 180 tokens" in record.getMessage()


async def test_a_bar_on_request(store: Store, call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    vectorstore = ColBERTVectorStore(store)
    await call(vectorstore, "add_texts", TEXTS)
    assert capsys.readouterr().err == ""
    await call(vectorstore, "add_texts", TEXTS, progress=True)
    await call(vectorstore, "add_documents", [Document(text) for text in TEXTS], progress=True)
    assert f"{len(TEXTS)}/{len(TEXTS)}" in capsys.readouterr().err


async def test_deleting(filled: ColBERTVectorStore, call: Call) -> None:
    store = filled.store
    assert await call(filled, "delete", ["id-0", "not there"]) is True
    assert await call(filled, "delete", []) is True
    assert store.count() == 6
    assert await call(filled, "delete", filter={"page": {"$gte": 5}}) is True
    assert store.count() == 4
    for arguments, options, named in (
        ((), {"filter": None}, "got neither of ids and filter"),
        ((["id-1"],), {"filter": {"page": 1}}, "got both"),
        ((), {"fliter": {"page": 1}}, "delete: got the unknown keyword 'fliter', wanted filter"),
        ((), {"filter": {}}, "which everything passes"),
    ):
        with pytest.raises(ArgumentError, match=named):
            await call(filled, "delete", *arguments, **options)
    assert store.count() == 4
    assert await call(filled, "delete") is True
    assert store.count() == 0


async def test_langchains_index_keeps_it_in_step(store: Store) -> None:
    vectorstore = ColBERTVectorStore(store)
    records = InMemoryRecordManager("notes")
    records.create_schema()
    documents = [Document(text, metadata={"source": f"{number}"}) for number, text in enumerate(TEXTS[:4])]
    options: dict[str, Any] = dict(cleanup="full", source_id_key="source", key_encoder="sha256")
    assert index(documents, records, vectorstore, **options)["num_added"] == 4
    done = index(documents[:3], records, vectorstore, **options)
    assert (done["num_skipped"], done["num_deleted"]) == (3, 1)
    done = await aindex([*documents[:2], Document("new", metadata={"source": "9"})], records, vectorstore, **options)
    assert (done["num_added"], done["num_skipped"], done["num_deleted"]) == (1, 2, 1)
    assert sorted(found.text for found in store.iterate()) == sorted([*TEXTS[:2], "new"])


# Reading


async def test_searches_are_the_stores(filled: ColBERTVectorStore, tiny: ColBERT, call: Call) -> None:
    hits = filled.store.search(QUESTION, 3)
    found = await call(filled, "similarity_search_with_score", QUESTION, 3)
    assert [(document.id, document.page_content, document.metadata) for document, _ in found] == [
        (hit.id, hit.text, hit.metadata) for hit in hits
    ]
    scores = [score for _, score in found]
    assert scores == pytest.approx([hit.score / tiny.query_length for hit in hits])
    documents = [document for document, _ in found]
    assert await call(filled, "similarity_search", QUESTION, k=3) == documents
    assert await call(filled, "search", QUESTION, "similarity", k=3) == documents
    assert len(await call(filled, "similarity_search", QUESTION)) == 4
    rows = tiny.encode_queries([QUESTION])[0]
    assert await call(filled, "similarity_search_by_vector", rows, 3) == documents
    assert await call(filled, "similarity_search_by_vector", rows.tolist(), k=3) == documents


async def test_options_for_one_search(filled: ColBERTVectorStore, call: Call) -> None:
    everything = await call(filled, "similarity_search_with_score", QUESTION, 10)
    middle = everything[3][1]
    assert await call(filled, "similarity_search_with_score", QUESTION, 10, score_threshold=middle) == everything[:4]
    options = dict(filter={"page": {"$gte": 4}}, depth=20, exact=True, explain=True)
    found = await call(filled, "similarity_search", QUESTION, 10, **options)
    assert {document.id for document in found} == {"id-4", "id-5", "id-6"}
    assert all(set(document.metadata) == {"page", "tags", "explanation"} for document in found)
    summed = ColBERTVectorStore(filled.store, score_normalization="none")
    assert (await call(summed, "similarity_search_with_score", QUESTION, 1))[0][1] == pytest.approx(
        everything[0][1] * 32
    )
    assert await call(filled, "similarity_search", QUESTION, 2, filter=None, depth=None) == [
        document for document, _ in everything[:2]
    ]
    for options in ({"fliter": {}}, {"fetch_k": 20}, {"score_normalization": "none"}):
        with pytest.raises(ArgumentError, match="similarity_search: got the unknown keyword"):
            await call(filled, "similarity_search", QUESTION, 3, **options)
    for options in ({"k": 0}, {"depth": 1, "k": 2}, {"filter": {"page": {"$near": 1}}}, {"score_threshold": "high"}):
        with pytest.raises(ArgumentError):
            await call(filled, "similarity_search", QUESTION, **options)


@pytest.mark.parametrize("normalization", ["query_length", "none"])
async def test_relevance_is_from_nought_to_one(tiny: ColBERT, call: Call, normalization: Any) -> None:
    with LocalStore(tiny) as store:
        store.upsert(Entry(item.id, item.text, item.metadata) for item in items())
        vectorstore = ColBERTVectorStore(store, score_normalization=normalization)
        hits = store.search(QUESTION, 7)
        name = "similarity_search_with_relevance_scores"
        found = await call(vectorstore, name, QUESTION, 7)
        wanted = [(hit.score / tiny.query_length + 1) / 2 for hit in hits]
        assert [score for _, score in found] == pytest.approx(wanted)
        assert [score for _, score in found] == sorted(wanted, reverse=True)
        assert all(0 <= score <= 1 for _, score in found)
        threshold = found[2][1]
        assert await call(vectorstore, name, QUESTION, 7, score_threshold=threshold) == found[:3]
        retriever = vectorstore.as_retriever(
            search_type="similarity_score_threshold", search_kwargs={"score_threshold": threshold, "k": 7}
        )
        assert await call(retriever, "invoke", QUESTION) == [document for document, _ in found[:3]]


async def test_the_same_text_is_as_relevant_as_can_be(tiny: ColBERT, call: Call) -> None:
    """Its own rows: every product is 1 but for rounding, which must not lead beyond 1."""
    with LocalStore(tiny) as store:
        vectorstore = ColBERTVectorStore(store)
        rows = tiny.encode_queries([QUESTION])[0]
        store.upsert([Entry("same", QUESTION, vectors=rows)])
        ((_, score),) = await call(vectorstore, "similarity_search_with_relevance_scores", QUESTION)
        assert 1 - 1e-6 < score <= 1
    assert vectorstore._select_relevance_score_fn()(1 + 1e-6) == 1.0
    assert vectorstore._select_relevance_score_fn()(-1 - 1e-6) == 0.0


async def test_scores_without_bounds_have_no_relevance(goldens: Path, tmp_path: Path, call: Call) -> None:
    checkpoint = shutil.copytree(goldens / "n_st6_mve" / "checkpoint", tmp_path / "not-unit")
    modules = json.loads((checkpoint / "modules.json").read_text(encoding="utf-8"))
    kept = [module for module in modules if not module["type"].endswith("Normalize")]
    (checkpoint / "modules.json").write_text(json.dumps(kept), encoding="utf-8")
    with LocalStore(ColBERT(checkpoint)) as store:
        vectorstore = ColBERTVectorStore(store)
        await call(vectorstore, "add_texts", TEXTS)
        assert len(await call(vectorstore, "similarity_search_with_score", QUESTION)) == 4
        with pytest.raises(ArgumentError, match="not of unit length, so its scores have no bounds"):
            await call(vectorstore, "similarity_search_with_relevance_scores", QUESTION)


@pytest.mark.parametrize(
    ("embedding", "named"),
    [([0.1] * 32, "embedding: got"), (np.zeros((2, 32)), "zeros"), (np.ones((2, 31)), "31"), (QUESTION, "embedding")],
)
async def test_a_vector_that_is_no_matrix_is_refused(
    filled: ColBERTVectorStore, call: Call, embedding: Any, named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        await call(filled, "similarity_search_by_vector", embedding)


async def test_ids_that_are_not_there_are_left_out(filled: ColBERTVectorStore, call: Call) -> None:
    found = await call(filled, "get_by_ids", ["id-3", "no", "id-1"])
    assert [document.id for document in found] == ["id-3", "id-1"]
    found[0].metadata["page"] = "changed"
    assert (await call(filled, "get_by_ids", ["id-3"]))[0].metadata["page"] == 3


def test_copies_are_over_the_same_store(filled: ColBERTVectorStore) -> None:
    retriever = copy.deepcopy(filled.as_retriever())
    assert retriever.vectorstore is not filled
    assert retriever.vectorstore.store is filled.store
    assert retriever.invoke(QUESTION) == filled.similarity_search(QUESTION)


def test_it_has_no_embeddings(filled: ColBERTVectorStore) -> None:
    assert filled.embeddings is None
    assert filled.as_retriever().tags == ["ColBERTVectorStore"]


async def test_a_retriever_over_it(filled: ColBERTVectorStore, call: Call) -> None:
    retriever = filled.as_retriever(search_kwargs={"k": 2, "filter": {"page": {"$lt": 5}}})
    wanted = filled.similarity_search(QUESTION, 2, filter={"page": {"$lt": 5}})
    assert await call(retriever, "invoke", QUESTION) == wanted
    assert len(await call(retriever, "invoke", QUESTION, k=4)) == 4
    with pytest.raises(ArgumentError, match="unknown keyword 'kk'"):
        await call(retriever, "invoke", QUESTION, kk=4)


# Refused


async def test_marginal_relevance_is_refused_with_the_reason(filled: ColBERTVectorStore, call: Call) -> None:
    rows = np.ones((2, 32), np.float32)
    for method, argument in (
        ("max_marginal_relevance_search", QUESTION),
        ("max_marginal_relevance_search_by_vector", rows),
    ):
        with pytest.raises(NotImplementedError, match="maximal marginal relevance wants a similarity of two documents"):
            await call(filled, method, argument, k=2, fetch_k=5)
    with pytest.raises(NotImplementedError, match="maximal marginal relevance"):
        await call(filled, "search", QUESTION, "mmr")
    with pytest.raises(NotImplementedError, match="maximal marginal relevance"):
        filled.as_retriever(search_type="mmr")


def test_every_method_is_ours_or_calls_ours() -> None:
    """A method that LangChain adds later would run in its own way: in a thread, or with keywords passed over."""
    inherited = {
        name
        for name, _ in inspect.getmembers(VectorStore, inspect.isroutine)
        if not name.startswith("__") and name not in vars(ColBERTVectorStore)
    }
    assert inherited <= {
        "_cosine_relevance_score_fn",  # static, of one vector
        "_euclidean_relevance_score_fn",
        "_max_inner_product_relevance_score_fn",
        "_get_retriever_tags",
        "search",
        "asearch",
        "similarity_search_with_relevance_scores",
        "asimilarity_search_with_relevance_scores",
        "from_documents",
        "afrom_documents",
    }


@pytest.mark.parametrize("store", [None, "notes.db", LocalStore, {}], ids=str)
def test_what_is_no_store_is_refused(store: Any) -> None:
    with pytest.raises(ArgumentError, match="store: got"):
        ColBERTVectorStore(store)


def test_bad_options_are_named(store: Store) -> None:
    for options, named in (
        ({"score_normalization": "minmax"}, "score_normalization: got"),
        ({"depth": 0}, "depth: got"),
    ):
        with pytest.raises(ArgumentError, match=named):
            ColBERTVectorStore(store, **options)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="scale"):
        ColBERTVectorStore(store, scale=True)  # type: ignore[call-arg]


# Made and filled in one


async def test_made_of_texts_over_a_model(goldens: Path, tiny: ColBERT, tmp_path: Path, call: Call) -> None:
    checkpoint = goldens / "a_bert_pylate" / "checkpoint"
    for embedding in (tiny, checkpoint, str(checkpoint)):
        vectorstore = await call(
            ColBERTVectorStore, "from_texts", TEXTS[:3], embedding, [{"a": 1}, {}, {}], ids=["a", "b", "c"]
        )
        with vectorstore.store as store:
            assert store.get(["a"]) == [Entry("a", TEXTS[0], {"a": 1})]
            assert store.path is None
    documents = [Document(TEXTS[0], id="a", metadata={"a": 1}), Document(TEXTS[1])]
    vectorstore = await call(ColBERTVectorStore, "from_documents", documents, tiny, path=tmp_path / "notes.db", depth=9)
    vectorstore.store.close()
    with LocalStore(tiny, tmp_path / "notes.db") as store:
        assert store.count() == 2
        assert store.get(["a"]) == [Entry("a", TEXTS[0], {"a": 1})]


async def test_made_of_texts_over_a_store(store: Store, call: Call) -> None:
    vectorstore = await call(ColBERTVectorStore, "from_texts", TEXTS[:2], None, store=store, score_normalization="none")
    assert vectorstore.store is store
    await call(ColBERTVectorStore, "from_documents", [Document("a")], embedding=None, store=store)
    assert store.count() == 3


async def test_an_embeddings_object_is_refused(store: Store, tiny: ColBERT, tmp_path: Path, call: Call) -> None:
    opened = set(SHARED.models)
    for embedding, options, named in (
        (DeterministicFakeEmbedding(size=3), {}, "embedding: got DeterministicFakeEmbedding, wanted a ColBERT"),
        (None, {}, "embedding: got NoneType, wanted a ColBERT"),
        (tiny, {"store": store}, "embedding: got ColBERT beside a store"),
        (None, {"store": store, "path": tmp_path / "x"}, "path: got"),
        (None, {"store": "notes.db"}, "store: got str"),
    ):
        with pytest.raises(ArgumentError, match=named):
            await call(ColBERTVectorStore, "from_texts", TEXTS[:2], embedding, **options)
    for model in (tiny, tmp_path / "not-there"):  # which would be opened, and missed, first
        with pytest.raises(TypeError, match="collection_name"):
            await call(ColBERTVectorStore, "from_texts", TEXTS[:2], model, collection_name="x")
    assert set(SHARED.models) == opened
    assert store.count() == 0
    assert not list(tmp_path.iterdir())


async def test_a_store_that_was_made_for_nothing_is_closed(tiny: ColBERT, tmp_path: Path, call: Call) -> None:
    for name, options, error in (("a.db", {"depth": 0}, ArgumentError), ("b.db", {}, PartialUpsertError)):
        with pytest.raises(error):
            await call(
                ColBERTVectorStore,
                "from_texts",
                TEXTS[:2],
                tiny,
                [{}, {"x": object()}],
                path=tmp_path / name,
                **options,
            )
        assert not list(tmp_path.glob(f"{name}-*")), "SQLite removes its log when the last connection is closed"


async def test_an_asynchronous_client(tiny: ColBERT) -> None:
    """What is asynchronous is so down to the client; what is not says what to call."""
    store = QdrantStore(AsyncQdrantClient(":memory:"), "notes", tiny)
    vectorstore = await ColBERTVectorStore.afrom_texts(TEXTS, None, [{"page": n} for n in range(7)], store=store)
    found = await vectorstore.asimilarity_search_with_relevance_scores(QUESTION, 2, filter={"page": {"$gt": 0}})
    assert len(found) == 2
    assert len(await vectorstore.as_retriever().ainvoke(QUESTION)) == 4
    assert len(await vectorstore.asimilarity_search(QUESTION)) == 4
    assert len(await vectorstore.asimilarity_search_by_vector(tiny.encode_queries([QUESTION])[0])) == 4
    assert len(await ColBERTRetriever(store=store).ainvoke(QUESTION)) == 4
    (id,) = await vectorstore.aadd_documents([Document("The moon.")])
    assert len(await vectorstore.aget_by_ids([id])) == 1
    assert await vectorstore.adelete([id]) is True
    assert await vectorstore.adelete() is True
    with pytest.raises(Exception, match="await asearch"):
        vectorstore.similarity_search(QUESTION)


def test_a_filter_of_the_engines_own(tiny: ColBERT) -> None:
    from qdrant_client import models

    vectorstore = ColBERTVectorStore(QdrantStore(QdrantClient(":memory:"), "notes", tiny))
    vectorstore.add_texts(TEXTS, [{"page": n} for n in range(7)])
    own = models.Filter(must=[models.FieldCondition(key="metadata.page", range=models.Range(gte=5))])
    found = vectorstore.similarity_search(QUESTION, 7, filter=own)
    assert sorted(document.metadata["page"] for document in found) == [5, 6]
