"""What is found, as LangChain's documents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from langchain_core.documents import Document

from chandelier.exceptions import ArgumentError
from chandelier.rerank import explanation_notes
from chandelier.store import Hit

__all__ = ["SCORE", "checked_documents", "document_of", "refuse_marginal_relevance", "refuse_unknown"]

SCORE = "relevance_score"
"""The key of the metadata that holds a score; Cohere's, Jina's and FlashRank's rerankers use it too."""


def document_of(hit: Hit, **notes: Any) -> Document:
    """A hit as a document; `notes` go into its metadata, and so does its explanation."""
    if hit.explanation is not None:
        notes["explanation"] = explanation_notes(hit.explanation)
    return Document(id=hit.id, page_content=hit.text, metadata={**hit.metadata, **notes})


def checked_documents(documents: Iterable[Document]) -> list[Document]:
    """A list of documents with texts."""
    if isinstance(documents, (str, bytes, dict, Document)):
        got = type(documents).__name__
        raise ArgumentError(f"documents: got {got}, wanted a list of Document", argument="documents")
    checked = list(documents)
    for index, document in enumerate(checked):
        if not isinstance(document, Document):
            got = type(document).__name__
            raise ArgumentError(f"documents[{index}]: got {got}, wanted a Document", argument="documents")
        if not isinstance(document.page_content, str):
            got = type(document.page_content).__name__
            message = f"documents[{index}].page_content: got {got}, wanted a str"
            raise ArgumentError(message, argument="documents")
    return checked


def refuse_unknown(where: str, given: Mapping[str, Any], known: Iterable[str]) -> None:
    """An error for a keyword that would otherwise be passed over."""
    for name in given:
        if name not in known:
            wanted = ", ".join(known) or "no keyword"
            raise ArgumentError(f"{where}: got the unknown keyword {name!r}, wanted {wanted}", argument=name)


def refuse_marginal_relevance() -> NoReturn:
    """An error for what LangChain calls mmr."""
    message = "maximal marginal relevance wants a similarity of two documents, and MaxSim is none: it grows with their"
    raise NotImplementedError(f"{message} length and depends on which of them asks; use similarity_search")
