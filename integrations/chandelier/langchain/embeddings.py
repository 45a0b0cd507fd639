"""`ColBERTEmbeddings`: rows for vector stores of others that can hold them."""

from __future__ import annotations

from chandelier.exceptions import ArgumentError
from chandelier.models import ColBERT
from chandelier.scores import checked_question

__all__ = ["ColBERTEmbeddings"]


class ColBERTEmbeddings:
    """Rows where LangChain expects one vector: `list[list[float]]` a text.

    For vector stores of others that pass on what they are given: langchain-qdrant's (by `chandelier.langchain.qdrant`)
    and langchain-plaid's. It is no `Embeddings`, so that no other takes it by mistake.

    Args:
        model: Encodes documents and queries.

    Examples:
        >>> rows = ColBERTEmbeddings(ColBERT("tests/goldens/a_bert_pylate/checkpoint")).embed_query("where is paris?")
        >>> len(rows), len(rows[0])
        (32, 32)
    """

    def __init__(self, model: ColBERT) -> None:
        if not isinstance(model, ColBERT):
            got = type(model).__name__
            raise ArgumentError(f"model: got {got}, wanted a ColBERT: chandelier.ColBERT(path)", argument="model")
        self.model = model

    def embed_documents(self, texts: list[str]) -> list[list[list[float]]]:
        """The rows of each text."""
        return [matrix.tolist() for matrix in self.model.encode_documents(texts)]

    def embed_query(self, text: str) -> list[list[float]]:
        """The rows of a query."""
        rows: list[list[float]] = self.model.encode_queries([checked_question(text)])[0].tolist()
        return rows
