"""`copy_documents`: from one store to another, whatever keeps them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from chandelier.exceptions import ArgumentError
from chandelier.store.documents import Document, UpsertReport
from chandelier.store.handles import checked_store
from chandelier.store.protocol import Store

__all__ = ["copy_documents"]


def copy_documents(
    source: Store, target: Store, *, filter: Mapping[str, Any] | None = None, progress: bool = False
) -> UpsertReport:
    """Store the documents of one store in another too, with the rows that they have: nothing is encoded again.

    One with an id that is there replaces it, so a copy that was interrupted can be run again.

    Args:
        source: Where they are. Rows come as it keeps them: in float16, or pooled, they stay so.
        target: Where they go.
        filter: What the metadata must be like; all by default.
        progress: Show a tqdm bar on stderr, or in the notebook.

    Returns:
        What became of them; see `UpsertReport`.

    Raises:
        ArgumentError: If the models differ, or source and target are one store.
        StoreError: If one cannot be read or the other not be written; `report` says what was stored before.

    Examples:
        >>> from chandelier import ColBERT, Document, LocalStore
        >>> model = ColBERT("tests/goldens/a_bert_pylate/checkpoint")
        >>> with LocalStore(model) as source, LocalStore(model, datatype="float16") as target:
        ...     documents = [Document("a", "Bread.", {"lang": "en"}), Document("b", "Brot.", {"lang": "de"})]
        ...     report = source.upsert(documents)
        ...     print(copy_documents(source, target, filter={"lang": "de"}))
        ...     print([document.id for document in target.iterate()])
        stored 1
        ['b']
    """
    checked_store(source), checked_store(target)
    if source is target:
        raise ArgumentError("target: got the source itself, wanted another store", argument="target")
    one, other = source.model, target.model
    if one.fingerprint != other.fingerprint:
        was = f"{one.name} (fingerprint {one.fingerprint})"
        message = f"target: has model {other.name} (fingerprint {other.fingerprint}), the source has {was}"
        raise ArgumentError(f"{message}; rows of one mean nothing to the other, upsert the texts", argument="target")
    return target.upsert(_Documents(source, filter), progress=progress)


class _Documents:
    """The documents of a store, of a number that a bar can show."""

    def __init__(self, store: Store, filter: Mapping[str, Any] | None) -> None:
        self._store = store
        self._filter = filter
        self._count = store.count(filter)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Document]:
        return self._store.iterate(filter=self._filter, with_vectors=True)
