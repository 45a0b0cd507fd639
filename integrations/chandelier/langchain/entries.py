"""What LangChain gives a vector store, as a store of chandelier takes it."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from langchain_core.documents import Document

from chandelier.exceptions import ArgumentError
from chandelier.langchain.documents import checked_documents, refuse_unknown
from chandelier.store import Document as Entry

__all__ = ["entries_of_documents", "entries_of_texts"]


def entries_of_documents(
    documents: Iterable[Document], ids: Sequence[str | None] | None, options: dict[str, Any]
) -> list[Entry]:
    """Documents of LangChain; `ids` win over their own."""
    refuse_unknown("add_documents", options, ["batch_size"])
    checked = checked_documents(documents)
    ids = [document.id for document in checked] if ids is None else ids
    return _entries("documents", [(document.page_content, document.metadata) for document in checked], ids)


def entries_of_texts(
    texts: Iterable[str],
    metadatas: Sequence[dict[str, Any] | None] | None,
    ids: Sequence[str | None] | None,
    options: dict[str, Any],
) -> list[Entry]:
    """Texts, and what is known of each."""
    refuse_unknown("add_texts", options, ["batch_size"])
    if isinstance(texts, (str, bytes, dict)) or not isinstance(texts, Iterable):
        raise ArgumentError(f"texts: got {type(texts).__name__}, wanted a list of str", argument="texts")
    given = list(texts)
    metadatas = [None] * len(given) if metadatas is None else list(metadatas)
    _check_length("metadatas", metadatas, "texts", given)
    return _entries("texts", list(zip(given, metadatas, strict=True)), ids)


def _entries(
    name: str, given: Sequence[tuple[str, dict[str, Any] | None]], ids: Sequence[str | None] | None
) -> list[Entry]:
    """What a store takes; an error names the place of what it cannot be made of."""
    ids = [None] * len(given) if ids is None else list(ids)
    _check_length("ids", ids, name, given)
    entries = []
    for index, (id, (text, metadata)) in enumerate(zip(ids, given, strict=True)):
        try:
            entries.append(Entry(str(uuid.uuid4()) if id is None else id, text, {} if metadata is None else metadata))
        except ArgumentError as error:
            raise ArgumentError(f"{name}[{index}]: {error}", argument=name) from None
    return entries


def _check_length(name: str, given: Sequence[Any], other: str, wanted: Sequence[Any]) -> None:
    if len(given) != len(wanted):
        message = f"{name}: got {len(given)}, wanted {len(wanted)}, as many as there are {other}"
        raise ArgumentError(message, argument=name)
