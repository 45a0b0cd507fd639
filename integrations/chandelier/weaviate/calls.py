"""How the client is called: within a time of our own, and without pages of numbers in the log.

The client tries a query again for 63 seconds, whatever its timeout is. A call that only reads is left behind when its
time is over; one that writes is waited for, since nobody could say afterwards when it still writes.

It also sends a batch again by itself, after a server has died in the middle of it. The server that comes back takes the
objects that it finds stored for done, whether they are indexed or not, and the client says that all is well. So it is
kept from that.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Late
from contextvars import ContextVar, copy_context
from typing import Any, TypeVar

from chandelier.weaviate.failures import LateAnswer

__all__ = ["aquietly", "awithin", "quietly", "sent_once", "within"]

T = TypeVar("T")

OURS: ContextVar[bool] = ContextVar("chandelier_weaviate_call", default=False)


class _Brief(logging.Filter):
    """Leaves the objects out of what the client logs of a batch of ours: all their floats, for each that failed."""

    def filter(self, record: logging.LogRecord) -> bool:
        if OURS.get() and isinstance(record.msg, dict) and "errors" in record.msg:
            record.msg = str(record.msg.get("message", ""))
        return True


logging.getLogger("weaviate-client").addFilter(_Brief())


class _Once:
    """A connection of the client that sends a batch once."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def grpc_batch_objects(self, request: Any, timeout: float, max_retries: float) -> Any:
        return self._connection.grpc_batch_objects(request=request, timeout=timeout, max_retries=-1)


def sent_once(collection: Any) -> Any:
    """The `data` of a client's collection, whose `insert_many` does not try again: no argument of it says so."""
    data = collection.data
    data._connection = _Once(data._connection)
    return data


def quietly(function: Callable[[], T]) -> T:
    """Call it; what fails is in the report, not in the log."""
    token = OURS.set(True)
    try:
        return function()
    finally:
        OURS.reset(token)


async def aquietly(function: Callable[[], Awaitable[T]]) -> T:
    """The same of an asynchronous client."""
    token = OURS.set(True)
    try:
        return await function()
    finally:
        OURS.reset(token)


def within(seconds: float, function: Callable[[], T]) -> T:
    """The result of something that reads, or a `LateAnswer`; it goes on in its thread then, and nobody waits."""
    done: Future[T] = Future()

    def work() -> None:
        try:
            done.set_result(function())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=copy_context().run, args=(work,), daemon=True, name="chandelier-weaviate").start()
    try:
        return done.result(seconds)
    except Late:
        if done.done():  # the function's own
            raise
        raise LateAnswer from None


async def awithin(seconds: float, function: Callable[[], Awaitable[T]]) -> T:
    """The same in an event loop, where what is late is cancelled."""
    try:
        return await asyncio.wait_for(function(), seconds)
    except asyncio.TimeoutError:  # Python 3.10 has it apart from TimeoutError
        raise LateAnswer from None
