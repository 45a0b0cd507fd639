"""`Store`: what every store does, and every framework adapter stands on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterable, Iterator, Sized
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from chandelier.store.documents import Document, Hit, UpsertReport
from chandelier.store.encoding import Query

if TYPE_CHECKING:
    from typing_extensions import Self

    from chandelier.models import ColBERT

__all__ = ["Store", "ThreadedStore"]

PAGE = 32
"""Documents that an asynchronous `iterate` fetches at once."""


@runtime_checkable
class Store(Protocol):
    """Documents with ids, found by MaxSim.

    `filter` is the dialect of `chandelier.store.filters`, or an object of the engine's own. All methods raise a
    `StoreError` if the store cannot be read or written, and an `ArgumentError` that names the argument.
    """

    @property
    def model(self) -> ColBERT:
        """What encodes documents and queries."""

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
        """As `upsert`, without blocking the event loop; so are the others.

        A call that is cancelled stores nothing more once the `await` has returned.
        """

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

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *_: object) -> None: ...


class ThreadedStore:
    """The asynchronous half of a store whose engine only has a synchronous one: each call in a worker thread."""

    async def aupsert(self: Store, documents: Iterable[Document], **options: Any) -> UpsertReport:
        """As `upsert`, in a worker thread; so are the others.

        A call that is cancelled takes no more documents, and returns when those that it has taken are stored.
        """
        stop = threading.Event()
        upsert = partial(self.upsert, _until(stop, documents), **options)
        work = asyncio.get_running_loop().run_in_executor(None, copy_context().run, upsert)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            stop.set()
            while not work.done():
                with suppress(asyncio.CancelledError):  # however often it is cancelled
                    await asyncio.wait([work])
            work.exception()  # `_Stopped`, or what matters no longer
            raise

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
        documents = await asyncio.to_thread(self.iterate, **options)
        while page := await asyncio.to_thread(lambda: list(islice(documents, PAGE))):
            for document in page:
                yield document

    async def aclose(self: Store) -> None:
        """As `close`."""
        await asyncio.to_thread(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self: Store, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self: Store, *_: object) -> None:
        await self.aclose()


class _Stopped(Exception):
    """Ends a stream of documents that nobody waits for any more."""


class _Until:
    """Documents, until an event is set."""

    def __init__(self, stop: threading.Event, documents: Iterable[Document]) -> None:
        self._stop = stop
        self._documents = documents

    def __iter__(self) -> Iterator[Document]:
        for document in self._documents:
            if self._stop.is_set():
                raise _Stopped
            yield document
        if self._stop.is_set():  # what was taken but not yet stored is left out
            raise _Stopped


class _SizedUntil(_Until):
    """The same of a known number, which a bar shows."""

    def __len__(self) -> int:
        return len(self._documents)  # type: ignore[arg-type]


def _until(stop: threading.Event, documents: Iterable[Document]) -> Iterable[Document]:
    """The documents, until an event is set; what is no stream of documents is left for `upsert` to refuse."""
    if isinstance(documents, (str, bytes, dict)) or not isinstance(documents, Iterable):
        return documents
    return (_SizedUntil if isinstance(documents, Sized) else _Until)(stop, documents)
