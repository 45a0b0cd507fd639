"""`ColBERTDocumentWriter`."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from haystack import Document, component, default_from_dict, default_to_dict
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy

from chandelier.exceptions import ArgumentError
from chandelier.store import Document as StoreDocument
from chandelier.store import Store, UpsertReport
from chandelier.store.handles import StoreHandle

__all__ = ["ColBERTDocumentWriter"]

LOG = logging.getLogger("chandelier")
NAMED = 5
"""Documents that a message names."""


@component
class ColBERTDocumentWriter:
    """Writes documents into a store of chandelier, which encodes them: no embedder stands before it.

    Id, content and metadata are kept. Rows in a field `multivector_embedding`, which Haystack is to get, are taken as
    they are; `embedding`, `sparse_embedding` and `score` are not written.

    Args:
        store: Any store of chandelier, open, or the description of one; see `chandelier.store.open_store`.
        policy: What to do with a document whose id is there already: `OVERWRITE` replaces it, and so does `NONE`;
            `SKIP` leaves it as it is; `FAIL` refuses all of the documents.

    Raises:
        ArgumentError: If an argument is none of these; it names the argument.

    Examples:
        >>> from haystack import Document
        >>> from chandelier import ColBERT, LocalStore
        >>> with LocalStore(ColBERT("tests/goldens/a_bert_pylate/checkpoint")) as store:
        ...     writer = ColBERTDocumentWriter(store)
        ...     writer.run([Document(content="Bread needs flour."), Document(content="Paris is in France.")])
        {'documents_written': 2}
    """

    def __init__(self, store: Store | Mapping[str, Any], policy: DuplicatePolicy = DuplicatePolicy.NONE) -> None:
        self._handle = StoreHandle(store)
        self._policy = _checked_policy(policy)

    def to_dict(self) -> dict[str, Any]:
        """The component as plain JSON, with the description of its store.

        Raises:
            StoreError: If the store is in memory.
            ArgumentError: If the store has something that a file cannot hold; it names it.
        """
        return default_to_dict(self, store=self._handle.description, policy=self._policy.name)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ColBERTDocumentWriter:
        """The component that `to_dict` described; nothing is opened."""
        parameters = dict(data.get("init_parameters", {}))
        name = parameters.get("policy")
        if isinstance(name, str) and name in DuplicatePolicy.__members__:
            parameters["policy"] = DuplicatePolicy[name]
        return default_from_dict(cls, {**data, "init_parameters": parameters})

    def warm_up(self) -> None:
        """Open the store now, if it was described."""
        self._handle.open()

    async def warm_up_async(self) -> None:
        """The same in a worker thread."""
        await self._handle.aopen()

    def close(self) -> None:
        """Give a described store back; a store that was given stays open. The next run opens it again.

        Not while another thread runs the component: if nobody else uses the store, it is closed under that run, which
        then fails with a `StoreError`.
        """
        self._handle.close()

    @component.output_types(documents_written=int)
    def run(self, documents: list[Document], policy: DuplicatePolicy | None = None) -> dict[str, int]:
        """Write documents.

        Args:
            documents: Documents with text.
            policy: What to do with those that are there already; None for what the component says.

        Returns:
            `documents_written`: how many; with `SKIP` without those that were left out.

        Raises:
            ArgumentError: If a document has no content, or a blob; nothing is written, and the document named.
            DuplicateDocumentError: With `FAIL`, if an id is there already, or comes twice; nothing is written.
            PartialUpsertError: If the store refused documents; the others are written, and `report` says which.
            StoreError: If the store does not answer; `report` says what was written before.
        """
        given, policy = _checked(documents), self._policy if policy is None else _checked_policy(policy)
        store = self._handle.open()
        if policy in (DuplicatePolicy.SKIP, DuplicatePolicy.FAIL):
            there = {document.id for document in store.get([document.id for document in given])}
            given = _without(given, there, policy)
        report = store.upsert(map(_stored, given), raise_on_failure=True)
        return _written(len(given), report)

    @component.output_types(documents_written=int)
    async def run_async(self, documents: list[Document], policy: DuplicatePolicy | None = None) -> dict[str, int]:
        """As `run`, by the store's own asynchronous methods."""
        given, policy = _checked(documents), self._policy if policy is None else _checked_policy(policy)
        store = await self._handle.aopen()
        if policy in (DuplicatePolicy.SKIP, DuplicatePolicy.FAIL):
            found = await store.aget([document.id for document in given])
            given = _without(given, {document.id for document in found}, policy)
        report = await store.aupsert(map(_stored, given), raise_on_failure=True)
        return _written(len(given), report)


def _checked(documents: list[Document]) -> list[Document]:
    """Documents that can be written whole."""
    if not isinstance(documents, list) or not all(isinstance(document, Document) for document in documents):
        raise ArgumentError("documents: wanted a list of haystack's Document", argument="documents")
    for document in documents:
        if document.content is None:
            message = f"documents: {document.id!r} has no content, wanted text; leave it out"
            raise ArgumentError(message, argument="documents")
        if document.blob is not None:
            message = f"documents: {document.id!r} has a blob, which would be lost; write replace(document, blob=None)"
            raise ArgumentError(message, argument="documents")
    return documents


def _without(documents: list[Document], there: Iterable[str], policy: DuplicatePolicy) -> list[Document]:
    """The documents with new ids, the first of each; or an error, if that is the policy."""
    seen = set(there)
    new: list[Document] = []
    duplicates: list[Document] = []
    for document in documents:
        (duplicates if document.id in seen else new).append(document)
        seen.add(document.id)
    if duplicates and policy is DuplicatePolicy.FAIL:
        named = _named([document.id for document in duplicates])
        raise DuplicateDocumentError(f"documents: {named} already there, or given twice; nothing was written")
    return new


def _stored(document: Document) -> StoreDocument:
    rows = getattr(document, "multivector_embedding", None)
    assert document.content is not None
    return StoreDocument(document.id, document.content, document.meta, rows)


def _written(count: int, report: UpsertReport) -> dict[str, int]:
    if report.truncated:
        LOG.warning(
            "%d of %d documents are longer than the model reads, and found by their beginning only: %s; split them",
            len(report.truncated),
            count,
            _named(report.truncated),
        )
    return {"documents_written": count}


def _named(ids: list[str]) -> str:
    return ", ".join(map(repr, ids[:NAMED])) + (f" and {len(ids) - NAMED:,} more" if len(ids) > NAMED else "")


def _checked_policy(policy: object) -> DuplicatePolicy:
    if not isinstance(policy, DuplicatePolicy):
        wanted = "wanted a DuplicatePolicy of haystack.document_stores.types"
        raise ArgumentError(f"policy: got {policy!r}, {wanted}", argument="policy")
    return policy
