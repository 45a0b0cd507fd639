"""How the client is called to write: waited for to the end, and without pages of numbers in the log."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import TypeVar

__all__ = ["aquietly", "quietly"]

T = TypeVar("T")

OURS: ContextVar[bool] = ContextVar("chandelier_weaviate_call", default=False)


class _Brief(logging.Filter):
    """Leaves the objects out of what the client logs of a batch of ours: all their floats, for each that failed."""

    def filter(self, record: logging.LogRecord) -> bool:
        if OURS.get() and isinstance(record.msg, dict) and "errors" in record.msg:
            record.msg = str(record.msg.get("message", ""))
        return True


logging.getLogger("weaviate-client").addFilter(_Brief())


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
