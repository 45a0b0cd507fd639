"""What stores that are folders share."""

from __future__ import annotations

import os

__all__ = ["sync"]


def sync(folder: str) -> None:
    """Have the names in a folder outlast a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
