"""An upsert holds a portion of its documents, however many there are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import resource, sys
import numpy as np
from chandelier import ColBERT, Document, LocalStore

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

def documents(count):
    for index in range(count):
        rows = np.zeros((1000, 32), np.float32)
        rows[:, index % 32] = 1
        yield Document(str(index), "text", vectors=rows)

def open_store():
    if sys.argv[2] == "local":
        return LocalStore(ColBERT(sys.argv[1]), "store.db")
    from chandelier.qdrant_edge import QdrantEdgeStore
    return QdrantEdgeStore("edge", ColBERT(sys.argv[1]))

with open_store() as store:
    store.upsert(documents(512))
    before = peak()
    report = store.upsert(documents(int(sys.argv[3])))
    print(len(report.stored), peak() - before)
"""


@pytest.mark.parametrize(("kind", "most"), [("local", 100 << 20), ("edge", 250 << 20)])
def test_memory_does_not_grow_with_the_documents(tiny_folder: str, tmp_path: Path, kind: str, most: int) -> None:
    """3,000 documents of 128 kB are 384 MB."""
    command = [sys.executable, "-c", SCRIPT, tiny_folder, kind, "3000"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    stored, grown = map(int, done.stdout.split())
    assert stored == 3000
    assert grown < most, f"{grown >> 20} MiB more"


@pytest.fixture
def tiny_folder() -> str:
    return str(Path(__file__).parents[1] / "goldens" / "a_bert_pylate" / "checkpoint")
