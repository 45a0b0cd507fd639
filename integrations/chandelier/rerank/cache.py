"""What was worked out about texts before, as much as fits into a number of bytes."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from chandelier.models import ColBERT

__all__ = ["TextCache", "shared_cache"]

ENTRY_BYTES = 400
"""About what the key, the head of a value and the place in the dictionary take."""


class TextCache:
    """Values by kind and text, the least recently used dropped first.

    Args:
        limit: Bytes, of values and what is kept beside them; may be raised later.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._lock = threading.Lock()
        self._entries: OrderedDict[bytes, tuple[Any, int]] = OrderedDict()
        self._in_making: dict[bytes, threading.Event] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def nbytes(self) -> int:
        """Bytes that are held."""
        return self._bytes

    def get(self, kind: str, texts: Sequence[str]) -> list[Any]:
        """The value of each text, or None."""
        if not self.limit:
            return [None] * len(texts)
        keys = [_key(kind, text) for text in texts]
        with self._lock:
            for key in keys:
                if key in self._entries:
                    self._entries.move_to_end(key)
            return [self._entries.get(key, (None, 0))[0] for key in keys]

    def completed(
        self,
        kind: str,
        texts: Sequence[str],
        make: Callable[[list[str]], Sequence[Any]],
        size: Callable[[Any], int],
        watch: Callable[[int], None],
    ) -> dict[str, Any]:
        """The value of each text; `make` is asked for those that are not here, and they are kept.

        What another thread is making is waited for instead of being made twice; meanwhile `watch` is asked every 50 ms
        and may raise.
        """
        missing = list(dict.fromkeys(texts))
        if not self.limit:
            return dict(zip(missing, make(missing), strict=True))
        values: dict[str, Any] = {}
        while missing:
            found = zip(missing, self.get(kind, missing), strict=True)
            values.update((text, value) for text, value in found if value is not None)
            mine, others = self._claimed(kind, [text for text in missing if text not in values])
            try:
                made = make(list(mine)) if mine else []
                self.put(kind, list(mine), made, [size(value) for value in made])
                values.update(zip(mine, made, strict=True))
            finally:
                self._release(mine.values())
            for event in others.values():
                while not event.wait(0.05):
                    watch(0)
            missing = list(others)  # whoever made them may have failed, or they were too large to be kept
        return values

    def _claimed(self, kind: str, texts: list[str]) -> tuple[dict[str, bytes], dict[str, threading.Event]]:
        """Which of the texts are this thread's to make, by their keys, and which another's, by its event."""
        mine, others = dict[str, bytes](), dict[str, threading.Event]()
        keys = [_key(kind, text) for text in texts]
        with self._lock:
            for text, key in zip(texts, keys, strict=True):
                if key in self._in_making:
                    others[text] = self._in_making[key]
                else:
                    self._in_making[key] = threading.Event()
                    mine[text] = key
        return mine, others

    def _release(self, keys: Iterable[bytes]) -> None:
        with self._lock:
            for key in keys:
                self._in_making.pop(key).set()

    def put(self, kind: str, texts: Sequence[str], values: Sequence[Any], sizes: Sequence[int]) -> None:
        """Keep values of so many bytes; those that are larger than the limit are not kept."""
        if not self.limit:
            return
        keys = [_key(kind, text) for text in texts]  # before the lock is taken, so that nobody waits for it
        with self._lock:
            for key, value, size in zip(keys, values, sizes, strict=True):
                size += ENTRY_BYTES
                if size > self.limit or key in self._entries:
                    continue
                self._entries[key] = value, size
                self._bytes += size
                while self._bytes > self.limit:
                    _, (_, freed) = self._entries.popitem(last=False)
                    self._bytes -= freed


def _key(kind: str, text: str) -> bytes:
    return hashlib.blake2b(f"{kind}\0{text}".encode("utf-8", "surrogatepass"), digest_size=16).digest()


_LOCK = threading.Lock()
_CACHES: WeakKeyDictionary[ColBERT, TextCache] = WeakKeyDictionary()


def _after_fork() -> None:
    """A child starts without the caches, whose locks a thread of its parent may have held."""
    global _LOCK
    _LOCK = threading.Lock()
    _CACHES.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def shared_cache(model: ColBERT, limit: int) -> TextCache:
    """The cache of all who use this handle; it has the largest limit that anybody asked for, and goes with the handle.

    Who asks for 0 gets one of its own, which keeps nothing.
    """
    if not limit:
        return TextCache(0)
    with _LOCK:
        cache = _CACHES.setdefault(model, TextCache(limit))
        cache.limit = max(cache.limit, limit)
        return cache
