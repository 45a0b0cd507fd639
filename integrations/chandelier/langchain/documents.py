"""What is found, as LangChain's documents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, NoReturn, TypeAlias

from langchain_core.documents import Document
from pydantic import BeforeValidator

from chandelier.exceptions import ArgumentError
from chandelier.rerank import explanation_notes
from chandelier.store import Hit

__all__ = ["SCORE", "Count", "checked_documents", "document_of", "refuse_marginal_relevance", "refuse_unknown"]


def _no_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ArgumentError(f"got {value}, wanted a whole number")
    return value


Count: TypeAlias = Annotated[int, BeforeValidator(_no_bool)]
"""A whole number, where pydantic would take True for 1."""

SCORE = "relevance_score"
"""The key of the metadata that holds a score; Cohere's, Jina's and FlashRank's rerankers use it too."""


def document_of(hit: Hit, **notes: Any) -> Document:
    """A hit as a document; `notes` go into its metadata, and so does its explanation."""
    if hit.explanation is not None:
        notes["explanation"] = explanation_notes(hit.explanation)
    return Document(id=hit.id, page_content=hit.text, metadata={**hit.metadata, **notes})


def checked_documents(documents: Iterable[Document], name: str = "documents") -> list[Document]:
    """A list of documents with texts; errors call it by `name`."""
    if isinstance(documents, (str, bytes, dict, Document)) or not isinstance(documents, Iterable):
        got = type(documents).__name__
        raise ArgumentError(f"{name}: got {got}, wanted a list of Document", argument=name)
    checked = list(documents)
    for index, document in enumerate(checked):
        place = f"{name}[{index}]"
        if not isinstance(document, Document):
            raise ArgumentError(f"{place}: got {type(document).__name__}, wanted a Document", argument=name)
        for field, wanted in (("page_content", str), ("metadata", dict)):
            if not isinstance(getattr(document, field), wanted):
                got = type(getattr(document, field)).__name__
                raise ArgumentError(f"{place}.{field}: got {got}, wanted a {wanted.__name__}", argument=name)
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
