"""Those who write one collection take turns: Weaviate loses objects that two requests replace at once."""

from __future__ import annotations

import threading
from typing import TypeVar
from weakref import WeakValueDictionary

from chandelier.store.points.steps import Steps, pause

__all__ = ["Turns"]

T = TypeVar("T")

ASKED_AGAIN = 0.01
"""Seconds; threads and event loops wait alike."""

_locks: WeakValueDictionary[str, threading.Lock] = WeakValueDictionary()
_finding = threading.Lock()


class Turns:
    """Of all writers in this process.

    Args:
        collection: What the collection is called, server and tenant among it: a server with two addresses is two.
    """

    def __init__(self, collection: str) -> None:
        with _finding:
            self._lock = _locks.setdefault(collection, threading.Lock())

    def one(self, steps: Steps[T]) -> Steps[T]:
        """The same steps, while nobody else takes any."""
        while not self._lock.acquire(blocking=False):
            yield from pause(ASKED_AGAIN)
        try:
            return (yield from steps)
        finally:
            self._lock.release()
