"""`Store`: what every store does, and every framework adapter stands on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any, Protocol, runtime_checkable

from chandelier.store.documents import Document, Hit, UpsertReport
from chandelier.store.encoding import Query

__all__ = ["Store", "ThreadedStore"]


@runtime_checkable
class Store(Protocol):
    """Documents with ids, found by MaxSim.

    `filter` is the dialect of `chandelier.store.filters`, or an object of the engine's own. All methods raise a
    `StoreError` if the store cannot be read or written, and an `ArgumentError` that names the argument.
    """

    def upsert(
        self, documents: Iterable[Document], *, progress: bool = False, raise_on_failure: bool = False
    ) -> UpsertReport:
        """Store documents; one with an id that is there replaces it.

        The stream is checked, encoded and written a portion at a time. A document that is refused does not keep the
        others from being stored; an error that ends the stream carries the `report` up to there.

        Args:
            documents: Any iterable, of any length.
            progress: Show a tqdm bar on stderr, or in the notebook.
            raise_on_failure: Raise a `PartialUpsertError` at the end if a document was refused.
        """

    def search(
        self,
        query: Query,
        k: int = 10,
        *,
        filter: Any = None,
        depth: int | None = None,
        explain: bool = False,
        with_vectors: bool = False,
        exact: bool = False,
    ) -> list[Hit]:
        """The `k` documents with the highest MaxSim, best first.

        Args:
            query: A text, or rows `(tokens, dim)`.
            k: How many; fewer come if there are fewer.
            filter: What the metadata must be like.
            depth: How many candidates are scored exactly, where the store does not score all; at least `k`.
            explain: Say which words matched (`Hit.explanation`); the query must be a text.
            with_vectors: Give the rows of the hits too.
            exact: Score all documents, whatever finds candidates otherwise.
        """

    def search_many(
        self,
        queries: Iterable[Query],
        k: int = 10,
        *,
        filter: Any = None,
        depth: int | None = None,
        explain: bool = False,
        with_vectors: bool = False,
        exact: bool = False,
    ) -> list[list[Hit]]:
        """Search for several queries at once; see `search`."""

    def get(self, ids: Iterable[str], *, with_vectors: bool = False) -> list[Document]:
        """The documents with these ids, in their order; an id that is not there is left out."""

    def delete(self, ids: Iterable[str] | None = None, *, filter: Any = None) -> int:
        """Delete the documents with these ids, or all that pass a filter; how many there were.

        Neither of the two, or a filter that everything passes, is refused: `delete_all` is for that.
        """

    def delete_all(self) -> int:
        """Delete every document; how many there were."""

    def count(self, filter: Any = None) -> int:
        """How many documents there are, or pass a filter."""

    def iterate(self, *, filter: Any = None, with_vectors: bool = False) -> Iterator[Document]:
        """All documents, or those that pass a filter, in an order of the store's own, a portion in memory at a time."""

    def close(self) -> None:
        """Give back what the store holds; closing again does nothing."""

    async def aupsert(
        self, documents: Iterable[Document], *, progress: bool = False, raise_on_failure: bool = False
    ) -> UpsertReport:
        """As `upsert`, without blocking the event loop; so are the others."""

    async def asearch(
        self,
        query: Query,
        k: int = 10,
        *,
        filter: Any = None,
        depth: int | None = None,
        explain: bool = False,
        with_vectors: bool = False,
        exact: bool = False,
    ) -> list[Hit]:
        """As `search`."""

    async def asearch_many(
        self,
        queries: Iterable[Query],
        k: int = 10,
        *,
        filter: Any = None,
        depth: int | None = None,
        explain: bool = False,
        with_vectors: bool = False,
        exact: bool = False,
    ) -> list[list[Hit]]:
        """As `search_many`."""

    async def aget(self, ids: Iterable[str], *, with_vectors: bool = False) -> list[Document]:
        """As `get`."""

    async def adelete(self, ids: Iterable[str] | None = None, *, filter: Any = None) -> int:
        """As `delete`."""

    async def adelete_all(self) -> int:
        """As `delete_all`."""

    async def acount(self, filter: Any = None) -> int:
        """As `count`."""

    def aiterate(self, *, filter: Any = None, with_vectors: bool = False) -> AsyncIterator[Document]:
        """As `iterate`."""

    async def aclose(self) -> None:
        """As `close`."""


class ThreadedStore:
    """The asynchronous half of a store whose engine only has a synchronous one: each call in a worker thread."""

    async def aupsert(self: Store, *arguments: Any, **options: Any) -> UpsertReport:
        """As `upsert`, in a worker thread; so are the others."""
        return await asyncio.to_thread(self.upsert, *arguments, **options)

    async def asearch(self: Store, *arguments: Any, **options: Any) -> list[Hit]:
        """As `search`."""
        return await asyncio.to_thread(self.search, *arguments, **options)

    async def asearch_many(self: Store, *arguments: Any, **options: Any) -> list[list[Hit]]:
        """As `search_many`."""
        return await asyncio.to_thread(self.search_many, *arguments, **options)

    async def aget(self: Store, *arguments: Any, **options: Any) -> list[Document]:
        """As `get`."""
        return await asyncio.to_thread(self.get, *arguments, **options)

    async def adelete(self: Store, *arguments: Any, **options: Any) -> int:
        """As `delete`."""
        return await asyncio.to_thread(self.delete, *arguments, **options)

    async def adelete_all(self: Store) -> int:
        """As `delete_all`."""
        return await asyncio.to_thread(self.delete_all)

    async def acount(self: Store, *arguments: Any, **options: Any) -> int:
        """As `count`."""
        return await asyncio.to_thread(self.count, *arguments, **options)

    async def aiterate(self: Store, **options: Any) -> AsyncIterator[Document]:
        """As `iterate`."""
        documents, end = self.iterate(**options), object()
        while (document := await asyncio.to_thread(next, documents, end)) is not end:
            yield document  # type: ignore[misc]

    async def aclose(self: Store) -> None:
        """As `close`."""
        await asyncio.to_thread(self.close)

    def __enter__(self) -> Any:
        return self

    def __exit__(self: Store, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Any:
        return self

    async def __aexit__(self: Store, *_: object) -> None:
        await self.aclose()
