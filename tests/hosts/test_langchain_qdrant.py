"""langchain-qdrant over rows: right where it works, refused where it does not, and the evidence that it does not."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from hosts_contract import QUESTION, TEXTS, exact_scores
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_qdrant import QdrantVectorStore
from langchain_qdrant.qdrant import QdrantVectorStoreError
from qdrant_client import AsyncQdrantClient, QdrantClient, models

from chandelier import ArgumentError, ColBERT, StoreError, maxsim
from chandelier import Document as Entry
from chandelier.langchain import ColBERTEmbeddings
from chandelier.langchain.qdrant import ColBERTQdrantVectorStore, qdrant_vector_store
from chandelier.qdrant import QdrantStore


@pytest.fixture
def client() -> QdrantClient:
    return QdrantClient(":memory:")


@pytest.fixture
def vectorstore(client: QdrantClient, tiny: ColBERT) -> ColBERTQdrantVectorStore:
    vectorstore = qdrant_vector_store(client, "notes", tiny, datatype="float32")
    vectorstore.add_texts(TEXTS, [{"page": number} for number in range(7)])
    return vectorstore


@pytest.fixture
def exact(tiny: ColBERT) -> list[float]:
    """What each text scores, best first."""
    return sorted(exact_scores(tiny, QUESTION, TEXTS), reverse=True)


def test_rows_are_what_the_model_gives(tiny: ColBERT) -> None:
    embeddings = ColBERTEmbeddings(tiny)
    assert embeddings.embed_query(QUESTION) == tiny.encode_queries([QUESTION])[0].tolist()
    assert embeddings.embed_documents(TEXTS[:2]) == [rows.tolist() for rows in tiny.encode_documents(TEXTS[:2])]
    assert not isinstance(embeddings, Embeddings), "nobody else may take it for one"
    with pytest.raises(ArgumentError, match="query: got an empty text"):
        embeddings.embed_query(" ")
    with pytest.raises(ArgumentError, match="model: got str"):
        ColBERTEmbeddings("a path")  # type: ignore[arg-type]


def test_the_collection_is_that_of_a_qdrant_store(client: QdrantClient, vectorstore: QdrantVectorStore) -> None:
    assert isinstance(vectorstore, QdrantVectorStore)
    params = client.get_collection("notes").config.params.vectors
    assert isinstance(params, dict)
    rows = params["colbert"]
    assert (rows.size, rows.distance) == (32, models.Distance.DOT)
    assert rows.multivector_config == models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
    assert rows.hnsw_config == models.HnswConfigDiff(m=0)


async def test_searches_are_maxsim(vectorstore: QdrantVectorStore, tiny: ColBERT, exact: list[float]) -> None:
    wanted = [score * tiny.query_length for score in exact]
    rows = ColBERTEmbeddings(tiny).embed_query(QUESTION)
    for found in (
        vectorstore.similarity_search_with_score(QUESTION, 7),
        await vectorstore.asimilarity_search_with_score(QUESTION, 7),
        vectorstore.similarity_search_with_score_by_vector(rows, 7),
    ):
        assert [score for _, score in found] == pytest.approx(wanted, abs=1e-3)
        assert {(document.page_content, document.metadata["page"]) for document, _ in found} == {
            (text, number) for number, text in enumerate(TEXTS)
        }
    best = vectorstore.similarity_search(QUESTION, 2)
    assert vectorstore.similarity_search_by_vector(rows, 2) == best
    assert vectorstore.as_retriever(search_kwargs={"k": 2}).invoke(QUESTION) == best
    assert await vectorstore.as_retriever(search_kwargs={"k": 2}).ainvoke(QUESTION) == best
    own = models.Filter(must=[models.FieldCondition(key="metadata.page", range=models.Range(gte=5))])
    assert len(vectorstore.similarity_search(QUESTION, 7, filter=own)) == 2


async def test_relevance_rises_with_the_score(vectorstore: QdrantVectorStore, exact: list[float]) -> None:
    wanted = [(score + 1) / 2 for score in exact]
    for found in (
        vectorstore.similarity_search_with_relevance_scores(QUESTION, 7),
        await vectorstore.asimilarity_search_with_relevance_scores(QUESTION, 7),
    ):
        assert [score for _, score in found] == pytest.approx(wanted, abs=1e-4)
    options = {"score_threshold": float(wanted[1]) - 1e-3, "k": 7}
    retriever = vectorstore.as_retriever(search_type="similarity_score_threshold", search_kwargs=options)
    assert len(retriever.invoke(QUESTION)) == sum(score >= options["score_threshold"] for score in wanted)


def test_a_qdrant_store_shares_the_collection(
    client: QdrantClient, vectorstore: QdrantVectorStore, tiny: ColBERT
) -> None:
    store = QdrantStore(client, "notes", tiny)
    store.upsert([Entry("mine", QUESTION, {"page": 99})])
    (best,) = vectorstore.similarity_search(QUESTION, 1)
    assert (best.page_content, best.metadata["page"]) == (QUESTION, 99)
    theirs = store.search(TEXTS[1], 3)
    assert {(hit.text, hit.metadata["page"]) for hit in theirs} >= {(TEXTS[1], 1)}


def test_documents_are_deleted_by_id(vectorstore: QdrantVectorStore) -> None:
    (id,) = vectorstore.add_documents([Document("The moon.", metadata={"page": 100})])
    assert vectorstore.get_by_ids([id])[0].page_content == "The moon."
    assert vectorstore.delete([id])
    assert vectorstore.get_by_ids([id]) == []


async def test_what_does_not_work_is_refused(vectorstore: QdrantVectorStore, tiny: ColBERT) -> None:
    rows = ColBERTEmbeddings(tiny).embed_query(QUESTION)
    for call in (
        lambda: vectorstore.max_marginal_relevance_search(QUESTION),
        lambda: vectorstore.max_marginal_relevance_search_by_vector(rows),
        lambda: vectorstore.as_retriever(search_type="mmr").invoke(QUESTION),
    ):
        with pytest.raises(NotImplementedError, match="maximal marginal relevance wants"):
            call()
    with pytest.raises(NotImplementedError, match="maximal marginal relevance wants"):
        await vectorstore.amax_marginal_relevance_search(QUESTION)
    options: dict[str, Any] = dict(embedding=ColBERTEmbeddings(tiny), location=":memory:", collection_name="x")
    for call in (
        lambda: ColBERTQdrantVectorStore.from_texts(TEXTS, **options),
        lambda: ColBERTQdrantVectorStore.from_documents([Document("a")], **options),
    ):
        with pytest.raises(NotImplementedError, match=r"use qdrant_vector_store\(client, collection, model\)"):
            call()


def test_why_it_is_refused(client: QdrantClient, vectorstore: QdrantVectorStore, tiny: ColBERT) -> None:
    """What langchain-qdrant does by itself; if this fails, it has learned it, and ours can go."""
    plain = QdrantVectorStore(
        client,
        "notes",
        ColBERTEmbeddings(tiny),  # type: ignore[arg-type]
        vector_name="colbert",
        distance=models.Distance.DOT,
        content_payload_key="text",
        validate_collection_config=False,
    )
    assert plain.similarity_search(QUESTION, 7) == vectorstore.similarity_search(QUESTION, 7)
    with pytest.warns(UserWarning, match="Relevance scores must be between 0 and 1"):
        scores = [score for _, score in plain.similarity_search_with_relevance_scores(QUESTION, 7)]
    assert scores == sorted(scores), "the best document is the least relevant"
    rows: Any = ColBERTEmbeddings(tiny).embed_query(QUESTION)
    with pytest.raises(QdrantVectorStoreError, match="Selected embeddings are 7-dimensional"):
        plain.similarity_search_by_vector(rows[:7])
    with pytest.raises(TypeError, match="Invalid `embeddings` type"):
        plain.max_marginal_relevance_search(QUESTION)
    with pytest.raises(ValueError, match="Dense vector must be one-dimensional"):
        QdrantVectorStore.from_texts(TEXTS, ColBERTEmbeddings(tiny), location=":memory:")  # type: ignore[arg-type]


def test_why_marginal_relevance_is_refused(tiny: ColBERT) -> None:
    """It weighs documents against each other and against the query: sums over other numbers of tokens."""
    (query,) = tiny.encode_queries([QUESTION])
    one, other = tiny.encode_documents([TEXTS[1] * 20, TEXTS[1] * 21])
    assert maxsim(one, [other])[0] > 4 * maxsim(query, [one])[0], "so the query hardly counts"


def test_a_collection_that_does_not_fit_is_refused(
    client: QdrantClient, vectorstore: QdrantVectorStore, tiny: ColBERT, open_model: Any
) -> None:
    assert qdrant_vector_store(client, "notes", tiny).similarity_search(QUESTION, 1)
    with pytest.raises(StoreError, match="was written with"):
        qdrant_vector_store(client, "notes", open_model("c_bert_no_prefix_no_skiplist"))
    client.create_collection("dense", models.VectorParams(size=32, distance=models.Distance.COSINE))
    with pytest.raises(StoreError, match="dense"):
        qdrant_vector_store(client, "dense", tiny)
    with pytest.raises(ArgumentError, match="client: got AsyncQdrantClient, wanted a QdrantClient"):
        qdrant_vector_store(AsyncQdrantClient(":memory:"), "notes", tiny)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="model: got 'a path'"):
        qdrant_vector_store(client, "notes", "a path")  # type: ignore[arg-type]


def test_a_missing_langchain_qdrant_is_named() -> None:
    code = "import sys; sys.modules['langchain_qdrant'] = None; import chandelier.langchain.qdrant"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == (
        "ModuleNotFoundError: chandelier.langchain.qdrant needs langchain-qdrant: pip install langchain-qdrant"
    )
