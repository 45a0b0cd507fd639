"""Rows of documents that were encoded before, as many as fit into a number of bytes."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import TypeAlias
from weakref import WeakKeyDictionary

from chandelier.models import ColBERT
from chandelier.multivectors import FloatArray

__all__ = ["RowsCache", "shared_cache"]

Key: TypeAlias = bytes

ENTRY_BYTES = 400
"""About what the key, the array's head and the place in the dictionary take."""


class RowsCache:
    """Rows by text, the least recently used dropped first.

    Args:
        limit: Bytes, of rows and what is kept beside them.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._lock = threading.Lock()
        self._rows: OrderedDict[Key, FloatArray] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def nbytes(self) -> int:
        """Bytes that are held."""
        return self._bytes

    def get(self, texts: Sequence[str]) -> list[FloatArray | None]:
        """The rows of each text, or None."""
        keys = [_key(text) for text in texts]
        with self._lock:
            for key in keys:
                if key in self._rows:
                    self._rows.move_to_end(key)
            return [self._rows.get(key) for key in keys]

    def put(self, texts: Sequence[str], rows: Sequence[FloatArray]) -> None:
        """Keep rows; those that are larger than the limit are not kept."""
        if not self.limit:
            return
        # A copy: a view would keep all that was encoded with it. Hashed before the lock is taken, so that nobody waits.
        entries = [(_key(text), matrix.copy()) for text, matrix in zip(texts, rows, strict=True)]
        with self._lock:
            for key, matrix in entries:
                size = matrix.nbytes + ENTRY_BYTES
                if size > self.limit or key in self._rows:
                    continue
                self._rows[key] = matrix
                self._bytes += size
                while self._bytes > self.limit:
                    _, oldest = self._rows.popitem(last=False)
                    self._bytes -= oldest.nbytes + ENTRY_BYTES


def _key(text: str) -> Key:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


_LOCK = threading.Lock()
_CACHES: WeakKeyDictionary[ColBERT, dict[int, RowsCache]] = WeakKeyDictionary()


def _after_fork() -> None:
    """A child starts without the caches, whose locks a thread of its parent may have held."""
    global _LOCK
    _LOCK = threading.Lock()
    _CACHES.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def shared_cache(model: ColBERT, limit: int) -> RowsCache:
    """The cache of all who use this handle with this limit; it goes when the handle goes."""
    with _LOCK:
        return _CACHES.setdefault(model, {}).setdefault(limit, RowsCache(limit))
