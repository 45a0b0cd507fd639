"""What the engine raises, in our errors."""

from __future__ import annotations

from chandelier.exceptions import StoreError
from chandelier.qdrant_edge.folder import open_elsewhere
from chandelier.store.points.engine import Refusal

__all__ = ["is_panic", "translated"]

FAILURES = ("Service runtime error", "Inconsistent storage", "Storage file not found", "Out of memory")
"""How messages begin that are about the shard; others are about the request."""


def is_panic(error: BaseException) -> bool:
    """Whether Rust panicked: pyo3 makes of it no `Exception`, and gives its class no name to import it by."""
    return type(error).__name__ == "PanicException" and type(error).__module__ == "pyo3_runtime"


def translated(error: BaseException, store: str) -> StoreError:
    """Our error for one of the engine's, or of the file system."""
    text = " ".join(str(error).split()) or type(error).__name__
    if is_panic(error):
        way_out = "close it and open it again, or restore the folder"
        return StoreError(f"{store}: the engine stopped in the middle: {text}; {way_out}", store=store)
    if isinstance(error, OSError):
        return StoreError(f"{store}: {error.strerror or text}", store=store)
    if "WAL" in text and "WouldBlock" in text:
        return open_elsewhere(store)
    kind = StoreError if text.startswith(FAILURES) else Refusal
    return kind(f"{store}: {text}", store=store)
