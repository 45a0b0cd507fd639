"""ColBERT for those who stay with `QdrantVectorStore` of langchain-qdrant.

For what is new take `ColBERTVectorStore` over `chandelier.qdrant.QdrantStore`: it also has prefetching, filters by a
mapping, native asyncio, retries and reports.
"""

from __future__ import annotations

from typing import Any, NoReturn

try:
    from langchain_qdrant import QdrantVectorStore
except ModuleNotFoundError as error:
    if error.name != "langchain_qdrant":
        raise
    hint = "chandelier.langchain.qdrant needs langchain-qdrant: pip install langchain-qdrant"
    raise ModuleNotFoundError(hint, name=error.name) from None

from langchain_core.documents import Document
from langchain_core.runnables.config import run_in_executor
from qdrant_client import QdrantClient, models
from typing_extensions import override

from chandelier.exceptions import ArgumentError
from chandelier.langchain.documents import refuse_marginal_relevance
from chandelier.langchain.embeddings import ColBERTEmbeddings
from chandelier.models import ColBERT
from chandelier.qdrant import QdrantStore
from chandelier.scores import Scoring, checked_question, relevance_function, scored_vectors
from chandelier.store.points.engine import ROWS

__all__ = ["ColBERTQdrantVectorStore", "qdrant_vector_store"]


class ColBERTQdrantVectorStore(QdrantVectorStore):
    """`QdrantVectorStore` over rows, with what is wrong there for them put right or refused; see `qdrant_vector_store`.

    As it is, its relevance scores fall as documents get better, searching by vector takes the number of tokens for the
    dimension, and so does `from_texts` when it makes a collection.
    """

    @override
    def _similarity_search_with_relevance_scores(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        model: ColBERT = self._require_embeddings("relevance scores").model  # type: ignore[attr-defined]
        relevance = relevance_function(model)
        vectors = scored_vectors(model, checked_question(query))
        found = self.similarity_search_with_score(query, k, **kwargs)
        return [(document, relevance(Scoring().score(score, vectors))) for document, score in found]

    @override
    async def _asimilarity_search_with_relevance_scores(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        return await run_in_executor(None, self._similarity_search_with_relevance_scores, query, k, **kwargs)

    @override
    def max_marginal_relevance_search(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused: Qdrant would weigh MaxSim between documents, which grows with their length, against the query's."""
        refuse_marginal_relevance()

    @override
    def max_marginal_relevance_search_with_score_by_vector(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused."""
        refuse_marginal_relevance()

    @override
    @classmethod
    def construct_instance(cls, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused, and so is `from_texts`, which makes its collections here."""
        message = "from_texts would make a collection of single vectors"
        raise NotImplementedError(f"{message}; use qdrant_vector_store(client, collection, model).add_texts(...)")

    @override
    @classmethod
    def _validate_collection_for_dense(cls, *args: Any, **kwargs: Any) -> None:
        """Nothing: `qdrant_vector_store` has looked at the collection."""


def qdrant_vector_store(
    client: QdrantClient,
    collection: str,
    model: ColBERT,
    *,
    datatype: str = "float16",
    on_disk: bool = True,
    adopt: bool = False,
) -> ColBERTQdrantVectorStore:
    """A `QdrantVectorStore` of langchain-qdrant over a collection of rows.

    The collection is made as `chandelier.qdrant.QdrantStore` makes it (a multi-vector `colbert`, DOT, MAX_SIM, no
    graph), with the model's fingerprint; one that is there is refused if it would not give MaxSim of this model's rows.
    The two may share a collection: this one also finds what a `QdrantStore` stored, and the other way round.

    Args:
        client: A `QdrantClient`; langchain-qdrant has no other.
        collection: Its name.
        model: Encodes documents and queries.
        datatype: `"float16"` or `"float32"`, of the rows of a new collection.
        on_disk: Whether the rows of a new collection stay on disk.
        adopt: Take over a collection that keeps no fingerprint, because you know that this model wrote it.

    Raises:
        ArgumentError: If an argument is none of these.
        StoreError: If the server does not answer, or the collection has another layout or model.

    Examples:
        >>> model = ColBERT("tests/goldens/a_bert_pylate/checkpoint")
        >>> vectorstore = qdrant_vector_store(QdrantClient(":memory:"), "notes", model)
        >>> ids = vectorstore.add_texts(["Bread needs flour.", "Paris is in France."])
        >>> vectorstore.similarity_search("where is paris?", k=1)[0].page_content
        'Paris is in France.'
    """
    if not isinstance(client, QdrantClient):
        raise ArgumentError(f"client: got {type(client).__name__}, wanted a QdrantClient", argument="client")
    QdrantStore(client, collection, model, datatype=datatype, on_disk=on_disk, adopt=adopt).close()
    return ColBERTQdrantVectorStore(
        client,
        collection,
        ColBERTEmbeddings(model),  # type: ignore[arg-type]  # it is passed on as it is
        vector_name=ROWS,
        distance=models.Distance.DOT,
        content_payload_key="text",
        validate_collection_config=False,
    )
