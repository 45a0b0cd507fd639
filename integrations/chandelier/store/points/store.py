"""`PointStore`: the operations over points as a store, synchronous and asynchronous."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from chandelier.exceptions import StoreError
from chandelier.recall import RecallReport
from chandelier.store.documents import Document, Hit, UpsertReport
from chandelier.store.encoding import Query, checked_query
from chandelier.store.intake import Entry, Intake
from chandelier.store.points.measures import SizeEstimate, recall, size_estimate
from chandelier.store.points.operations import Operations
from chandelier.store.points.steps import Call, Steps, run

if TYPE_CHECKING:
    from chandelier.models import ColBERT

__all__ = ["PointStore", "ended"]

T = TypeVar("T")


class PointStore:
    """A `Store` over an engine of points; subclasses say how its calls are made."""

    _operations: Operations
    _sends_ahead = True
    """Whether a portion may be sent by another thread while the next one is encoded."""

    @property
    def model(self) -> ColBERT:
        """The model that encodes documents and queries."""
        return self._operations.encoding.model

    def upsert(
        self, documents: Iterable[Document], *, progress: bool = False, raise_on_failure: bool = False
    ) -> UpsertReport:
        """Store documents; see `Store.upsert`. One portion is sent while the next is encoded."""
        intake = Intake(documents, self._operations.encoding, progress)
        with intake.reporting():
            if self._sends_ahead:
                self._send_ahead(intake)
            else:
                for entries in intake:
                    self._run(self._operations.store(intake, entries))
        return intake.finish(self._operations.name, raise_on_failure)

    def _send_ahead(self, intake: Intake) -> None:
        stopped = threading.Event()

        def send(entries: list[Entry]) -> None:
            self._run(self._operations.store(intake, entries), stopped)

        with ThreadPoolExecutor(1) as sender:  # one thread, so that of two documents with one id the later one stays
            try:
                sent: Future[None] | None = None
                for entries in intake:
                    if sent is not None:
                        sent.result()
                    sent = sender.submit(send, entries)
                if sent is not None:
                    sent.result()
            finally:
                stopped.set()  # after Ctrl-C, or if the documents failed

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
        """The `k` documents with the highest MaxSim, best first; see `Store.search`.

        Args:
            query: A text, or rows `(tokens, dim)`.
            k: How many.
            filter: What the metadata must be like, in our dialect or the engine's.
            depth: How many candidates are found for MaxSim. None for 200, or a `WeaviateStore`'s own `depth`; for
                `2 * k` if that is more.
            explain: Say which words matched.
            with_vectors: Give the rows of the hits too.
            exact: Score all documents, without prefetch.
        """
        options = dict(filter=filter, depth=depth, explain=explain, with_vectors=with_vectors, exact=exact)
        return self.search_many([checked_query(query)], k, **options)[0]

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
        """Search for several queries, in as few requests as hold them; see `search`."""
        options = dict(filter=filter, depth=depth, explain=explain, with_vectors=with_vectors, exact=exact)
        return self._run(self._operations.search(queries, k, **options))

    def get(self, ids: Iterable[str], *, with_vectors: bool = False) -> list[Document]:
        """The documents with these ids, in their order; an id that is not there is left out."""
        return self._run(self._operations.get(ids, with_vectors))

    def delete(self, ids: Iterable[str] | None = None, *, filter: Any = None) -> int:
        """Delete documents by id, or those that pass a filter; how many there were."""
        return self._run(self._operations.delete(ids, filter))

    def delete_all(self) -> int:
        """Delete every document; how many there were. The collection stays, and so do the points of others."""
        return self._run(self._operations.delete_all())

    def count(self, filter: Any = None) -> int:
        """How many documents there are, or pass a filter."""
        return self._run(self._operations.count(filter))

    def iterate(self, *, filter: Any = None, with_vectors: bool = False) -> Iterator[Document]:
        """All documents, or those that pass a filter, in the order of the engine."""
        after = None
        while True:
            documents, after = self._run(self._operations.page(filter, after, with_vectors))
            yield from documents
            if after is None:
                return

    def recall_probe(
        self, queries: Iterable[Query], k: int = 10, depths: Iterable[int] = (20, 50, 100, 200, 500)
    ) -> RecallReport:
        """Measure the prefetch on the store's own documents: what share of the exact best is found.

        Args:
            queries: A hundred or more, of the kind that users ask.
            k: How many documents are to be found for each.
            depths: Numbers of candidates, each at least `k`.

        Returns:
            For each depth the share, with its 95 % confidence interval; see `chandelier.recall_probe`.
        """
        return self._run(recall(self._operations, queries, k, depths))

    def wait_until_indexed(self, timeout: float = 600.0) -> None:
        """Wait until the engine has built its indexes over what was stored; before, it searches without them.

        Args:
            timeout: Seconds to wait at most.

        Raises:
            StoreError: If it takes longer, or the engine's optimizer has failed.
        """
        self._run(self._operations.wait_until_indexed(timeout))

    def size_estimate(self, documents: int, tokens: float) -> SizeEstimate:
        """How much room so many documents will take, before they are encoded.

        Args:
            documents: Their number.
            tokens: Rows of an average document: that of some hundred of yours,
                `len(vectors.data) / len(vectors)` of `model.encode_documents(sample)`.
        """
        return size_estimate(self._operations.layout, documents, tokens)

    async def aupsert(
        self, documents: Iterable[Document], *, progress: bool = False, raise_on_failure: bool = False
    ) -> UpsertReport:
        """As `upsert`, without blocking the event loop: texts are encoded in a worker thread."""
        intake = Intake(documents, self._operations.encoding, progress)
        with intake.reporting():
            await self._asend_ahead(intake)
        return intake.finish(self._operations.name, raise_on_failure)

    async def _asend_ahead(self, intake: Intake) -> None:
        portions = iter(intake)
        sent: asyncio.Task[None] | None = None
        try:
            while (entries := await asyncio.to_thread(next, portions, None)) is not None:
                if sent is not None:
                    await sent
                sent = asyncio.create_task(self._arun(self._operations.store(intake, entries), writes=True))
            if sent is not None:
                await sent
        finally:
            if sent is not None and not sent.done():  # cancelled, or the documents failed
                sent.cancel()
                await asyncio.gather(sent, return_exceptions=True)

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
        options = dict(filter=filter, depth=depth, explain=explain, with_vectors=with_vectors, exact=exact)
        return (await self.asearch_many([checked_query(query)], k, **options))[0]

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
        options = dict(filter=filter, depth=depth, explain=explain, with_vectors=with_vectors, exact=exact)
        return await self._arun(self._operations.search(queries, k, **options))

    async def aget(self, ids: Iterable[str], *, with_vectors: bool = False) -> list[Document]:
        """As `get`."""
        return await self._arun(self._operations.get(ids, with_vectors))

    async def adelete(self, ids: Iterable[str] | None = None, *, filter: Any = None) -> int:
        """As `delete`."""
        return await self._arun(self._operations.delete(ids, filter), writes=True)

    async def adelete_all(self) -> int:
        """As `delete_all`."""
        return await self._arun(self._operations.delete_all(), writes=True)

    async def acount(self, filter: Any = None) -> int:
        """As `count`."""
        return await self._arun(self._operations.count(filter))

    async def aiterate(self, *, filter: Any = None, with_vectors: bool = False) -> AsyncIterator[Document]:
        """As `iterate`."""
        after = None
        while True:
            documents, after = await self._arun(self._operations.page(filter, after, with_vectors))
            for document in documents:
                yield document
            if after is None:
                return

    async def arecall_probe(
        self, queries: Iterable[Query], k: int = 10, depths: Iterable[int] = (20, 50, 100, 200, 500)
    ) -> RecallReport:
        """As `recall_probe`."""
        return await self._arun(recall(self._operations, queries, k, depths))

    async def await_until_indexed(self, timeout: float = 600.0) -> None:
        """As `wait_until_indexed`."""
        await self._arun(self._operations.wait_until_indexed(timeout))

    def close(self) -> None:
        """Give back what the store holds; closing again does nothing."""

    async def aclose(self) -> None:
        """As `close`."""
        await asyncio.to_thread(self.close)

    def __reduce__(self) -> str | tuple[Any, ...]:
        name = self._operations.name
        way_out = "it belongs to its process; make a store where it is used"
        raise StoreError(f"{name}: cannot be pickled or copied: {way_out}", store=name)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Any:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _run(self, steps: Steps[T], stopped: threading.Event | None = None) -> T:
        """Run an operation until it ends or is `stopped`: then what is sent is finished, and nothing sent again."""
        if stopped is None:
            return run(steps, self._ask)

        def wait(seconds: float) -> None:
            if stopped.wait(seconds):
                raise self._interrupted()

        def ask(call: Call) -> Any:
            if call.finishes:
                return self._ask(call)
            wait(0)
            return self._ask(call, wait)

        return run(steps, ask)

    def _run_to_end(self, steps: Steps[T]) -> T:
        """The same in a thread: Ctrl-C stops it where nothing is half done, and not in the middle of a call."""
        stopped = threading.Event()
        with ThreadPoolExecutor(1) as thread:
            try:
                return thread.submit(self._run, steps, stopped).result()
            finally:
                stopped.set()

    async def _arun(self, steps: Steps[T], *, writes: bool = False) -> T:
        """Run an operation in a thread; a write that is cancelled has ended when this does: the next one wins."""
        stopped = threading.Event()
        thread = asyncio.ensure_future(asyncio.to_thread(self._run, steps, stopped))
        return await ended(thread, stopped, writes=writes)

    def _interrupted(self) -> StoreError:
        return StoreError(f"{self._operations.name}: interrupted", store=self._operations.name)

    def _ask(self, call: Call, wait: Callable[[float], object] = time.sleep) -> Any:
        """The answer of the engine; `wait` is how time passes before it is asked again."""
        return call.function()


async def ended(task: asyncio.Future[T], stopped: threading.Event | asyncio.Event, *, writes: bool) -> T:
    """The result; if this is cancelled, the task is told to stop, and if it writes, waited for however often."""
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        stopped.set()
        task.add_done_callback(_taken)
        while writes and not task.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        raise


def _taken(task: asyncio.Future[Any]) -> None:
    """Nobody asks any more what became of it: asyncio is not to complain of that."""
    if not task.cancelled():
        task.exception()
