"""A `PlaidStore` with an index, and what is in its folder."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from reference import random_documents, unit_rows

from chandelier import ColBERT, Document
from chandelier.plaid import PlaidStore

DOCUMENTS = random_documents(1000, 32)
QUERY = unit_rows(np.random.default_rng(9), 8, 32)
EXACT = {"k": 100, "exact": True}


@contextmanager
def indexed(model: ColBERT, folder: Path) -> Iterator[PlaidStore]:
    """A new store in the folder, with an index over all documents."""
    with PlaidStore(folder / "store", model) as store:
        store.upsert(DOCUMENTS)
        assert store.optimize()
        yield store


def documents(start: int, count: int) -> list[Document]:
    """Others than those."""
    rng = np.random.default_rng(start)
    return [Document(f"{i}", f"text {i}", {"i": i}, unit_rows(rng, 3, 32)) for i in range(start, start + count)]


def listed(folder: str | Path) -> list[dict[str, Any]]:
    """The manifest."""
    with closing(sqlite3.connect(Path(folder) / "documents.db")) as connection:
        return json.loads(connection.execute("SELECT value FROM settings WHERE name = 'segments'").fetchone()[0])


def files(folder: str | Path) -> list[str]:
    """The names of the segments."""
    return sorted(os.listdir(Path(folder) / "segments"))


def a_segment(folder: str | Path) -> Path:
    """The file of the first."""
    return Path(folder) / "segments" / listed(folder)[0]["file"]
