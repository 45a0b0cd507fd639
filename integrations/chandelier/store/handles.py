"""A store that a framework's component uses: one that was given, or one that is described and opened when needed."""

from __future__ import annotations

import asyncio
import copy
import os
import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from chandelier.exceptions import ArgumentError
from chandelier.store.descriptions import checked_description, key_of, open_store
from chandelier.store.protocol import Store

__all__ = ["StoreHandle", "checked_store"]


@dataclass
class _Lent:
    """A store that several handles use; the last one that gives it back closes it."""

    store: Store | None = None
    users: int = 0
    process: int = field(default_factory=os.getpid)
    opening: threading.Lock = field(default_factory=threading.Lock)


class _Shared:
    """The described stores of this process that are open, by their descriptions."""

    def __init__(self) -> None:
        self.lock = threading.RLock()  # a handle that is collected gives back, in whatever thread that happens
        self.lent: dict[str, _Lent] = {}


SHARED = _Shared()


def _after_fork() -> None:
    """A child has no stores of its parent, and no lock that a thread of it held."""
    SHARED.lock = threading.RLock()
    SHARED.lent = {}


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class StoreHandle:
    """A store that was given, or one that is described (see `chandelier.store.open_store`).

    A described store is opened when it is first needed; all handles of a process with equal descriptions share it, and
    it is closed when the last of them is closed or gone. A store that was given is left open.

    A handle pickles as its description, and copies use the same store.

    Args:
        store: Any store, or the description of one.

    Raises:
        ArgumentError: If it is neither.
    """

    def __init__(self, store: Store | Mapping[str, Any]) -> None:
        self._description = checked_description(store) if isinstance(store, Mapping) else None
        self._given = None if self._description is not None else checked_store(store)
        self._lock = threading.Lock()
        self._store: Store | None = None
        self._give_back: Any = None

    @property
    def description(self) -> dict[str, Any]:
        """What opens the store again.

        Raises:
            ArgumentError: If the store was given, and is one that cannot be described: in memory, or of another maker.
        """
        if self._description is not None:
            return copy.deepcopy(self._description)
        try:
            description: dict[str, Any] = self._given.description  # type: ignore[union-attr]  # not of the protocol
        except AttributeError:
            message = f"store: a {type(self._given).__name__} has no description to be written into a file"
            raise ArgumentError(f"{message}; wanted one of chandelier's stores", argument="store") from None
        return description

    @property
    def is_open(self) -> bool:
        """Whether the store can be used at once."""
        return self._given is not None or self._store is not None

    def open(self) -> Store:
        """The store, opened now if it was not yet."""
        if self._given is not None:
            return self._given
        with self._lock:
            if self._store is None:
                assert self._description is not None
                lent = _borrowed(self._description)
                self._store = lent.store
                self._give_back = weakref.finalize(self, _given_back, lent)
            assert self._store is not None
            return self._store

    async def aopen(self) -> Store:
        """As `open`; what is not open yet is opened in a worker thread."""
        return self.open() if self.is_open else await asyncio.to_thread(self.open)

    def close(self) -> None:
        """Give a described store back; it is opened again when it is needed again.

        A thread that still uses it finds it closed, unless another handle shares it.
        """
        with self._lock:
            self._store = None
            if self._give_back is not None:
                self._give_back()

    def __copy__(self) -> StoreHandle:
        return StoreHandle(self._given if self._description is None else self._description)  # type: ignore[arg-type]

    def __deepcopy__(self, _: object) -> StoreHandle:
        return self.__copy__()

    def __reduce__(self) -> tuple[Any, ...]:
        return StoreHandle, (self.description,)


def _borrowed(description: dict[str, Any]) -> _Lent:
    key = key_of(description)
    with SHARED.lock:
        lent = SHARED.lent.setdefault(key, _Lent())
        lent.users += 1
    try:
        with lent.opening:
            if lent.store is None:
                lent.store = open_store(description)
    except BaseException:
        _given_back(lent)
        raise
    return lent


def _given_back(lent: _Lent) -> None:
    if lent.process != os.getpid():
        return  # of the parent, which still uses it
    with SHARED.lock:
        lent.users -= 1
        if lent.users:
            return
        SHARED.lent = {key: other for key, other in SHARED.lent.items() if other is not lent}
        if lent.store is not None:
            lent.store.close()  # before another opens it: a folder of Qdrant Edge is open once


def checked_store(store: object) -> Store:
    """What is a store by what it can do."""
    if isinstance(store, type) or not isinstance(store, Store):
        got = repr(store) if isinstance(store, type) else type(store).__name__
        wanted = "a store: LocalStore(model, path), QdrantStore(...)"
        raise ArgumentError(f"store: got {got}, wanted {wanted}", argument="store")
    return store
