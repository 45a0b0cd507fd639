"""The folder of a store: its lock, its settings, and a shard that is there as a whole or not at all."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import weakref
from collections.abc import Callable, Mapping
from typing import Any

from chandelier.exceptions import StoreError
from chandelier.store.folders import sync

__all__ = ["Folder"]

LOCK, SHARD, PART, SETTINGS = "lock", "shard", "shard.part", "chandelier.json"


class Folder:
    """A folder that this process holds until it is closed, or the process dies.

    Args:
        path: It is made if it is not there.

    Attributes:
        path: As it was given.
        shard: The path of the engine's own folder in it.

    Raises:
        StoreError: If it is open elsewhere, or holds what a store did not write.
        OSError: If it cannot be made.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.shard = os.path.join(path, SHARD)
        if os.path.lexists(path) and not os.path.isdir(path):
            raise StoreError(f"{path}: is a file, wanted the path of a folder", store=path)
        os.makedirs(path, exist_ok=True)
        self._check_ours()
        self._release = weakref.finalize(self, os.close, _locked(path))

    def settings(self) -> dict[str, Any] | None:
        """What the store that made the shard wanted to be kept; None if there is no shard."""
        try:
            with open(os.path.join(self.shard, SETTINGS), encoding="utf-8") as file:
                kept = json.load(file)
        except FileNotFoundError:
            return None
        except ValueError:
            kept = None
        if not isinstance(kept, dict):
            raise StoreError(f"{self.path}: {SHARD}/{SETTINGS} is damaged; restore the folder", store=self.path)
        return kept

    def make(self, create: Callable[[str], None], settings: Mapping[str, str | int]) -> None:
        """Make the shard beside its place and move it there, so that a kill leaves nothing halfway.

        Args:
            create: Makes a shard at the path that it is given, and closes it.
            settings: What `settings` is to give.
        """
        part = os.path.join(self.path, PART)
        if os.path.lexists(part):
            shutil.rmtree(part)
        create(part)
        with open(os.path.join(part, SETTINGS), "w", encoding="utf-8") as file:
            json.dump(settings, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        sync(part)
        os.rename(part, self.shard)
        sync(self.path)

    def free(self) -> int:
        """Bytes that the disk still has."""
        return shutil.disk_usage(self.path).free

    def used(self) -> int:
        """Bytes that documents and indexes take on disk, without the engine's log."""
        folders = os.walk(os.path.join(self.shard, "segments"))
        files = (os.path.join(folder, name) for folder, _, names in folders for name in names)
        return sum(os.lstat(file).st_blocks * 512 for file in files)

    def close(self) -> None:
        """Let others open it; closing again does nothing."""
        self._release()

    def _check_ours(self) -> None:
        """Refuses, by name, a folder that holds anything but a store."""
        if os.path.exists(os.path.join(self.shard, SETTINGS)):
            return
        others = sorted(set(os.listdir(self.path)) - {LOCK, PART})
        if not others:
            return
        if "meta.json" in others:
            what = "is a folder of qdrant-client's local mode; open it with QdrantStore(QdrantClient(path=...), ...)"
        elif {"edge_config.json", SHARD} & set(others):
            what = "holds a shard of Qdrant Edge that no QdrantEdgeStore made; name another folder"
        else:
            what = f"holds {others[0]!r} and no store; name an empty folder, or one that is not there yet"
        raise StoreError(f"{self.path}: {what}", store=self.path)


def _locked(path: str) -> int:
    """The descriptor of a lock file; the kernel gives the lock back when it is closed, or the process dies."""
    descriptor = os.open(os.path.join(path, LOCK), os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise open_elsewhere(path) from None
        raise
    return descriptor


def open_elsewhere(path: str) -> StoreError:
    """The error for a folder that somebody else holds."""
    way_out = "close it there first, or use a Qdrant server for several processes"
    return StoreError(f"{path}: is open in this process or another; {way_out}", store=path)
