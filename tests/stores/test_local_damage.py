"""Files that are no store, or no longer one: refused by name, and never a wrong hit."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from reference import best, random_documents, unit_rows

from chandelier import ColBERT, Document, Hit, LocalStore, StoreError

DOCUMENTS = random_documents(250, 32)
QUERY = unit_rows(np.random.default_rng(9), 8, 32)


@pytest.fixture(scope="module")
def written(tiny: ColBERT, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed store with documents, some of which were replaced and deleted."""
    path = tmp_path_factory.mktemp("written") / "store.db"
    with LocalStore(tiny, path) as store:
        store.upsert(DOCUMENTS)
        store.delete([each.id for each in DOCUMENTS[::9]])
        store.upsert(DOCUMENTS[::4])
    return path


@pytest.fixture(scope="module")
def right(tiny: ColBERT, written: Path) -> list[Hit]:
    with LocalStore(tiny, written) as store:
        hits = store.search(QUERY, 100)
        there = [each for each in DOCUMENTS if store.get([each.id])]
    assert [hit.id for hit in hits] == [id for id, _ in best(QUERY, there, 100, "float32")]
    return hits


@pytest.fixture
def copy(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(written, tmp_path / "copy.db"))


def use(model: ColBERT, path: Path) -> tuple[list[Hit], list[Hit]]:
    """Everything that reads, and hits with and without a filter."""
    with LocalStore(model, path) as store:
        hits = store.search(QUERY, 100, with_vectors=True)
        filtered = store.search(QUERY, 100, filter={"i": {"$gte": 0}})
        store.count({"even": True})
        store.get([each.id for each in DOCUMENTS], with_vectors=True)
        list(store.iterate())
        return hits, filtered


def use_and_write(model: ColBERT, path: Path) -> None:
    with LocalStore(model, path) as store:
        store.upsert([*DOCUMENTS[:20], Document("new", "text", vectors=QUERY)])
        store.delete(filter={"even": True})
        store.vacuum()


def seen(call: Callable[[], object], path: Path) -> object:
    """What came, or None for an error that names the file."""
    caught = []
    try:
        return call()
    except StoreError as error:
        caught.append(error)
    assert str(path) in str(caught[0])
    assert caught[0].store == str(path)
    return None


@pytest.mark.parametrize("size", [16, 512, 4096, 8192, 20_000])
def test_overwritten_in_the_middle(tiny: ColBERT, written: Path, right: list[Hit], tmp_path: Path, size: int) -> None:
    """Random bytes anywhere in the file: the hits are right, or there is an error."""
    rng = np.random.default_rng(size)
    content = written.read_bytes()
    noticed = 0
    for turn in range(60):
        path = tmp_path / f"{turn}.db"
        start = int(rng.integers(0, len(content) - size))
        path.write_bytes(content[:start] + rng.bytes(size) + content[start + size :])
        answer = seen(lambda path=path: use(tiny, path), path)
        noticed += answer is None
        assert answer in (None, (right, right)), f"turn {turn}: {size} bytes from {start}"
        seen(lambda path=path: use_and_write(tiny, path), path)
        path.unlink()
    assert noticed > (10 if size < 4096 else 40)


def test_cut_off(tiny: ColBERT, written: Path, right: list[Hit], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    content = written.read_bytes()
    for length in [1, 15, 16, 99, 100, 512, 8191, 8192, 8193, *rng.integers(8193, len(content), 40).tolist()]:
        path = tmp_path / f"{length}.db"
        path.write_bytes(content[:length])
        assert seen(lambda path=path: use(tiny, path), path) is None, length
        path.unlink()
