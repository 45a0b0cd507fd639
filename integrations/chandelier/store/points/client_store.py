"""`ClientStore`: a store over points whose engine is asked through a client, synchronous or asynchronous."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from itertools import count
from typing import Any, TypeVar

from chandelier.exceptions import ChandelierError, StoreError
from chandelier.store.points.operations import Operations
from chandelier.store.points.retries import Patience
from chandelier.store.points.steps import Call, Steps, arun, run
from chandelier.store.points.store import PointStore, ended

__all__ = ["ClientStore"]

T = TypeVar("T")

LOG = logging.getLogger("chandelier")
LONG_WAIT = 5
"""Seconds of waiting that somebody may wonder about."""


class ClientStore(PointStore, ABC):
    """What stores over clients share; a subclass takes a client first, makes the operations, then calls `_start`."""

    _errors: tuple[type[Exception], ...]
    """What the client raises."""

    _async_client: type
    """What is to be awaited."""

    _checked_client: Callable[[Any], object]
    _opened_client: Callable[[Mapping[str, Any]], Any]
    """A client from its description, checked and opened."""

    _client: Any
    _is_async: bool
    _owns_client = False
    _opened = _closed = False
    _loop: asyncio.AbstractEventLoop | None = None

    @classmethod
    def _check_description(cls, client: Any, **_: Any) -> None:
        """Refuses a client that there cannot be."""
        cls._checked_client(client)

    @classmethod
    def _from_description(cls, client: Mapping[str, Any], **arguments: Any) -> ClientStore:
        """Opens a store whose client is its own."""
        opened = cls._opened_client(client)
        try:
            store = cls(opened, **arguments)  # type: ignore[call-arg]
        except BaseException:
            if not isinstance(opened, cls._async_client):
                opened.close()
            raise
        store._owns_client = True
        return store

    def _start(self, client: Any, operations: Operations) -> None:
        """Look at the collection, or leave that to the first asynchronous call."""
        self._client, self._operations = client, operations
        self._is_async = isinstance(client, self._async_client)
        if not self._is_async:
            run(operations.open(), partial(self._ask, opens=True))

    async def aopen(self) -> None:
        """Make the collection, or look at the one that is there; the first call of another method does so too."""
        if not self._opened:
            self._loop = asyncio.get_running_loop()
            await arun(self._operations.open(), partial(self._aask, opens=True))
            self._opened = True

    def close(self) -> None:
        """End the use of this store, not of a client that was given; closing again does nothing."""
        if not self._closed and self._owns_client:
            if not self._is_async:
                self._client.close()
            elif self._loop is not None and self._loop.is_running():  # who shares a store closes it without waiting
                asyncio.run_coroutine_threadsafe(self._client.close(), self._loop)
        self._closed = True

    async def aclose(self) -> None:
        """As `close`."""
        if not self._closed and self._owns_client and self._is_async:
            self._closed = True
            await self._client.close()
        self.close()

    def _run(self, steps: Steps[T], stopped: threading.Event | None = None) -> T:
        if self._is_async:
            steps.close()
            kind = type(self._client).__name__
            message = (
                f"{self._operations.name}: its client is asynchronous ({kind}); await asearch, aupsert, ..., or give a"
            )
            raise StoreError(f"{message} {kind.replace('Async', '')}", store=self._operations.name)
        return super()._run(steps, stopped)

    async def _arun(self, steps: Steps[T], *, writes: bool = False) -> T:
        if not self._is_async:
            return await super()._arun(steps, writes=writes)
        await self.aopen()
        if not writes:
            return await arun(steps, self._aask)
        stopped = asyncio.Event()

        async def wait(seconds: float) -> None:
            with suppress(asyncio.TimeoutError):  # Python 3.10 has it apart from TimeoutError
                await asyncio.wait_for(stopped.wait(), seconds)
                raise self._interrupted()

        async def ask(call: Call) -> Any:
            if call.finishes:
                return await self._aask(call)
            if stopped.is_set():
                raise self._interrupted()
            return await self._aask(call, wait)

        return await ended(asyncio.ensure_future(arun(steps, ask)), stopped, writes=True)

    def _ask(self, call: Call, wait: Callable[[float], object] = time.sleep, *, opens: bool = False) -> Any:
        patience = self._patience(opens=opens)
        for tried in count():
            self._check_open()
            try:
                return call.function()
            except self._errors as error:
                wait(self._next_wait(error, call, tried, patience))

    async def _aask(
        self, call: Call, wait: Callable[[float], Awaitable[object]] = asyncio.sleep, *, opens: bool = False
    ) -> Any:
        """As `_ask`, of an asynchronous client."""
        patience = self._patience(opens=opens)
        for tried in count():
            self._check_open()
            try:
                return await call.function()
            except self._errors as error:
                await wait(self._next_wait(error, call, tried, patience))

    def _next_wait(self, error: Exception, call: Call, tried: int, patience: Patience) -> float:
        """Seconds until the next try, or our error if there is none."""
        if isinstance(error, ChandelierError):
            raise error
        ours = self._translated(error)
        wait = None if call.once else patience.wait(error, tried)
        if wait is None:
            raise ours from error
        if wait >= LONG_WAIT:
            LOG.warning("%s; trying again in %.0f seconds", ours, wait)
        return wait

    @abstractmethod
    def _patience(self, *, opens: bool) -> Patience:
        """For one call; a server that is not there when a store `opens` should show soon."""

    @abstractmethod
    def _translated(self, error: Exception) -> StoreError:
        """Our error for one of the client's."""

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError(f"{self._operations.name}: the store is closed", store=self._operations.name)
