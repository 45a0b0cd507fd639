"""The index of a `PlaidStore`: how it is planned, built, swapped and shared by processes."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plaid_folder import DOCUMENTS, EXACT, QUERY, a_segment, documents, files, indexed, listed
from plaid_workers import fill_the_disk, fork_an_open_store, optimize, search, write
from reference import ids, random_documents, unit_rows
from workers import said, start

from chandelier import ArgumentError, ColBERT, Document, LocalStore, StoreError, _core
from chandelier.plaid import PlaidStore, build
from chandelier.plaid.build import planned
from chandelier.plaid.segments import Listed
from chandelier.store import open_store


@pytest.fixture
def store(tiny: ColBERT, tmp_path: Path) -> Iterator[PlaidStore]:
    with indexed(tiny, tmp_path) as store:
        yield store


# The plan


def plan(*sizes: int, fresh: int = 0, dead: tuple[int, ...] = (), tokens: int = 10) -> list[tuple[int, bool]]:
    """How many documents the segments are to have, and which stay as they are; `dead` are documents that are gone."""
    starts = np.cumsum([0, *sizes]).tolist()
    manifest = tuple(
        Listed(f"{i}", 1, first + 1, first + size, size)
        for i, (first, size) in enumerate(zip(starts, sizes))  # noqa: B905
    )
    rows = np.setdiff1d(np.arange(1, starts[-1] + fresh + 1), np.array(dead, np.int64))
    return [
        (len(piece.rows), piece.listed is not None) for piece in planned(manifest, rows, np.full(len(rows), tokens))
    ]


def test_few_documents_are_in_no_segment() -> None:
    assert build.FEWEST == 256
    assert plan(fresh=255) == []
    assert plan(fresh=256) == [(256, False)]
    assert plan(300, dead=tuple(range(1, 50))) == []


def test_a_segment_is_at_least_twice_the_next() -> None:
    assert plan(1000, fresh=500) == [(1000, True), (500, False)]
    assert plan(1000, fresh=501) == [(1501, False)]
    assert plan(1000, 500, 250, fresh=100) == [(1000, True), (500, True), (250, True), (100, False)]
    assert plan(1000, 500, 250, fresh=126) == [(1876, False)]
    assert plan(4000, 1000, 500, fresh=400) == [(4000, True), (1900, False)]
    assert plan(1000, 500) == [(1000, True), (500, True)]


def test_nothing_is_built_again_for_a_few_that_are_gone() -> None:
    assert plan(1000, 500, dead=(1, 2, 3)) == [(997, True), (500, True)]
    assert plan(1000, 500, dead=tuple(range(1, 501))) == [(500, True), (500, True)]


def test_a_segment_of_which_most_is_gone_is_built_again() -> None:
    assert plan(1000, 500, dead=tuple(range(1, 502))) == [(999, False)]
    assert plan(1000, 500, 100, dead=tuple(range(1001, 1301))) == [(1000, True), (200, False), (100, True)]
    assert plan(1000, 500, 100, dead=tuple(range(1001, 1501))) == [(1000, True), (100, True)]


def test_no_segment_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "SEGMENT_TOKENS", 5000)
    assert plan(fresh=1300) == [(500, False), (500, False), (300, False)]
    assert plan(500, 500, fresh=400) == [(500, True), (500, True), (400, False)]
    assert plan(500, 500, 300, fresh=160) == [(500, True), (500, True), (460, False)]
    assert plan(fresh=300, tokens=6000) == [(1, False)] * 300, "a document is not cut"


def test_small_upserts_do_not_rebuild_everything(store: PlaidStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each document is built into a segment a few times, however often somebody optimizes."""
    built = []
    made = build.Builder._built

    def counted(self: Any, piece: Any, bar: Any) -> Any:
        built.append(len(piece.rows))
        return made(self, piece, bar)

    monkeypatch.setattr(build.Builder, "_built", counted)
    (first,) = files(store.path)
    for turn in range(40):
        store.upsert(documents(10_000 + 10 * turn, 10))
        assert store.optimize()
        assert store.segments <= 8
    assert first in files(store.path)
    assert sum(built) <= 400 * 6
    assert len(store.search(QUERY, **{**EXACT, "k": 2000})) == 1400


# Building


def test_nothing_to_do(store: PlaidStore) -> None:
    before = listed(store.path)
    assert not store.optimize()
    assert listed(store.path) == before
    store.delete(["doc-3"])
    assert not store.optimize()


def test_a_rebuild(store: PlaidStore, tiny: ColBERT) -> None:
    """With other bits, say."""
    before = files(store.path)
    size = a_segment(store.path).stat().st_size
    hits = store.search(QUERY, **EXACT)
    with PlaidStore(store.path, tiny, nbits=2) as other:
        assert not other.optimize()
        assert other.optimize(rebuild=True)
    assert not set(files(store.path)) & set(before)
    assert a_segment(store.path).stat().st_size < size
    assert store.search(QUERY, **EXACT) == hits
    assert _core.PlaidSegment(str(a_segment(store.path))).nbits == 2


def test_a_build_is_the_same_again(store: PlaidStore) -> None:
    before = a_segment(store.path).read_bytes()
    store.optimize(rebuild=True)
    assert a_segment(store.path).read_bytes() == before


def test_a_store_goes_on_while_another_optimizes(store: PlaidStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is deleted, replaced and added while a segment is built."""
    made = build.Builder._built
    extra = documents(5000, 30)

    def interrupted(self: Any, piece: Any, bar: Any) -> Any:
        store.delete([f"doc-{i}" for i in range(100)])
        store.upsert(extra[:10])
        segment = made(self, piece, bar)
        store.upsert(extra[10:])
        store.delete([f"doc-{i}" for i in range(100, 200)])
        store.upsert([Document("doc-500", "replaced", vectors=QUERY)])
        assert store.search(QUERY, 1)[0].id == "doc-500"
        return segment

    monkeypatch.setattr(build.Builder, "_built", interrupted)
    assert store.optimize(rebuild=True)
    assert listed(store.path)[0]["documents"] == 900
    there = {*(f"doc-{i}" for i in range(200, 1000)), *ids(extra)}
    for options in ({"exact": True}, {"depth": 2000}):
        assert set(ids(store.search(QUERY, 2000, **options))) == there
    monkeypatch.setattr(build.Builder, "_built", made)
    assert store.optimize()
    assert set(ids(store.search(QUERY, 2000))) == there


def test_all_is_deleted_while_another_optimizes(store: PlaidStore, monkeypatch: pytest.MonkeyPatch) -> None:
    made = build.Builder._built

    def emptied(self: Any, piece: Any, bar: Any) -> Any:
        store.delete_all()
        return made(self, piece, bar)

    monkeypatch.setattr(build.Builder, "_built", emptied)
    assert store.optimize(rebuild=True)
    assert (store.segments, store.search(QUERY), files(store.path)) == (0, [], [])


def test_ctrl_c(tiny: ColBERT, tmp_path: Path) -> None:
    """While it builds, and while it waits for another: what was there is as it was, and the lock is free."""
    rows = unit_rows(np.random.default_rng(1), 400_000, 32).reshape(4000, 100, 32)
    with PlaidStore(tmp_path / "store", tiny) as store:
        store.upsert(Document(f"{i}", "", vectors=each) for i, each in enumerate(rows))
        begun = time.perf_counter()
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            store.optimize()
        assert time.perf_counter() - begun < 5
        assert (store.segments, files(store.path)) == (0, [])
        with store._builder._locked():
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
            with pytest.raises(KeyboardInterrupt):
                store.optimize()
        store.delete(f"{i}" for i in range(3000))
        assert store.optimize()
        for number in (3000, 3999):
            assert store.search(rows[number][:8], 1)[0].id == f"{number}"


def test_what_a_crash_has_left_is_removed(store: PlaidStore) -> None:
    folder = Path(store.path) / "segments"
    kept = files(store.path)
    left = [f"{'a' * 32}.safetensors", ".tmpAb12Cd"]
    for name in [*left, "notes.txt"]:
        (folder / name).write_bytes(b"x" * 1000)
    assert not store.optimize()
    assert files(store.path) == sorted([*kept, "notes.txt"]), "what is not ours stays"


def test_what_a_crash_has_left_takes_no_room_from_a_build(store: PlaidStore, monkeypatch: pytest.MonkeyPatch) -> None:
    made = build.Builder._built
    there = []

    def noted(self: Any, piece: Any, bar: Any) -> Any:
        there.append(files(store.path))
        return made(self, piece, bar)

    monkeypatch.setattr(build.Builder, "_built", noted)
    kept = files(store.path)
    (Path(store.path) / "segments" / ".tmpAb12Cd").write_bytes(b"x" * 1000)
    assert store.optimize(rebuild=True)
    assert there == [kept]


# The folder


def test_another_model_is_refused(tiny: ColBERT, store: PlaidStore, open_model: Callable[[str], ColBERT]) -> None:
    with pytest.raises(StoreError) as caught:
        PlaidStore(store.path, open_model("b_bert_attend"))
    for part in (store.path, tiny.fingerprint, "a_bert_pylate", "b_bert_attend"):
        assert part in str(caught.value)


def test_folders_that_are_none_of_a_store(tiny: ColBERT, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("text")
    with pytest.raises(StoreError, match=r"holds 'notes\.txt' and no store; name an empty folder"):
        PlaidStore(tmp_path, tiny)
    with pytest.raises(StoreError, match="is a file, wanted the path of a folder"):
        PlaidStore(tmp_path / "notes.txt", tiny)
    assert os.listdir(tmp_path) == ["notes.txt"]
    with PlaidStore(tmp_path / "new" / "folder", tiny) as store:
        assert store.search("text") == []
        assert store.path == str(tmp_path / "new" / "folder")
    with pytest.raises(StoreError, match="is a folder"):
        LocalStore(tiny, tmp_path / "new" / "folder")


def test_the_file_of_a_local_store(tiny: ColBERT, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    with LocalStore(tiny, tmp_path / "store" / "documents.db", datatype="float16") as local:
        local.upsert(DOCUMENTS[:10])
    with pytest.raises(StoreError, match=r"documents\.db: is damaged: its segments is missing"):
        PlaidStore(tmp_path / "store", tiny)


def test_a_pickle_and_a_description_open_the_folder_again(tiny: ColBERT, tmp_path: Path) -> None:
    options = dict(nbits=2, n_ivf_probe=8, n_full_scores=500, depth=50, pool_factor=2, memory_limit=10**8)
    with PlaidStore(tmp_path / "store", tiny, **options) as store:
        store.upsert(DOCUMENTS)
        store.optimize()
        description = json.loads(json.dumps(store.description))
        assert description == {"type": "PlaidStore", "model": tiny.arguments, "path": store.path, **options}
        for again in (pickle.loads(pickle.dumps(store)), open_store(description)):
            with again as other:
                assert other.description == description
                assert other.search(QUERY) == store.search(QUERY)
    with pytest.raises(ArgumentError, match=r"store\.path: missing"):
        open_store({"type": "PlaidStore", "model": tiny.arguments})


# Processes


def test_processes_optimize_write_and_search_at_once(tiny: ColBERT, store: PlaidStore) -> None:
    """Readers look for documents that nobody changes: each search finds all the best of them."""
    wanted = ids(store.search(QUERY, 20, exact=True))
    optimizers = [start(optimize, tiny, store.path, 6) for _ in range(2)]
    writers = [start(write, tiny, store.path, "w" * number, 40) for number in (1, 2)]
    readers = [start(search, tiny, store.path, QUERY, 40) for _ in range(2)]
    for number, (process, pipe) in enumerate(writers, 1):
        left = [(i + 1) // 5 * 4 + (i + 1) % 5 for i in range(40)]
        assert said(pipe) == [(f"{'w' * number}-{i}", int(i % 5 == 4), left[i]) for i in range(40)]
        process.join()
        assert process.exitcode == 0
    for process, pipe in readers:
        assert said(pipe) == [wanted] * 40
        process.join()
        assert process.exitcode == 0
    for process, pipe in optimizers:
        assert len(said(pipe)) == 6
        process.join()
        assert process.exitcode == 0
    assert ids(store.search(QUERY, 20, exact=True, filter={"i": {"$gte": 0}})) == wanted
    assert store.count() == 1064
    store.optimize()
    assert len(files(store.path)) == store.segments


def test_a_reader_whose_file_is_gone_looks_again(
    tiny: ColBERT, store: PlaidStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its look at the manifest and its look at the file another process has optimized, twice over."""
    turns = []
    with PlaidStore(store.path, tiny) as other:
        check = other._segments.check

        def too_late(listed: Listed) -> None:
            if len(turns) < 2:
                turns.append(store.optimize(rebuild=True))
            check(listed)

        monkeypatch.setattr(other._segments, "check", too_late)
        assert other.search(QUERY, **EXACT) == store.search(QUERY, **EXACT)
    assert turns == [True, True]


def test_threads_search_while_one_optimizes(store: PlaidStore) -> None:
    wanted = store.search(QUERY, 20, depth=500)
    done = threading.Event()
    wrong: list[object] = []

    def searching() -> None:
        while not done.is_set():
            if (found := store.search(QUERY, 20, depth=500)) != wanted:
                wrong.append(found)

    threads = [threading.Thread(target=searching) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(8):
        assert store.optimize(rebuild=True)
    done.set()
    for thread in threads:
        thread.join()
    assert not wrong


def test_files_that_may_not_grow(tiny: ColBERT, tmp_path: Path) -> None:
    process, pipe = start(fill_the_disk, tiny, str(tmp_path / "store"))
    ((message, same, optimized, at_the_end),) = said(pipe)
    process.join()
    assert message.startswith(f"{tmp_path / 'store'}: the index cannot be written: File too large")
    assert "make room, and optimize again; documents and index are as they were" in message
    assert (same, optimized, at_the_end) == (True, True, True)
    with PlaidStore(tmp_path / "store", tiny) as store:
        assert len(files(store.path)) == store.segments


def test_a_full_disk(tiny: ColBERT, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(disk)]
    if os.getuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root mounts a small disk")
    try:
        with PlaidStore(disk / "store", tiny) as store:
            store.upsert(random_documents(5000, 32))
            store.optimize()
            before, there = store.search(QUERY, **EXACT), files(store.path)
            free = shutil.disk_usage(disk).free
            (disk / "ballast").write_bytes(bytes(free - 300_000))
            with pytest.raises(StoreError, match="No space left on device; make room, and optimize again"):
                store.optimize(rebuild=True)
            assert store.search(QUERY, **EXACT) == before
            assert files(store.path) == there
            (disk / "ballast").unlink()
            assert store.optimize(rebuild=True)
            assert store.search(QUERY, **EXACT) == before
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_folder_that_nobody_may_write(store: PlaidStore) -> None:
    segments = Path(store.path) / "segments"
    shutil.rmtree(segments)
    segments.write_text("in the way")
    with pytest.raises(StoreError, match="the index cannot be written: File exists; optimize again when it can be"):
        store.optimize(rebuild=True)
    assert segments.read_text() == "in the way"


def test_a_store_does_not_cross_a_fork(tiny: ColBERT, tmp_path: Path) -> None:
    process, pipe = start(fork_an_open_store, tiny, str(tmp_path / "store"))
    errors, after = said(pipe)
    process.join()
    assert process.exitcode == 0
    assert after == (0, True, True)
    assert len(errors) == 5
    assert all(isinstance(error, StoreError) for error in errors)
    assert all("was opened before a fork; open it in the process that uses it" in str(error) for error in errors[:4])
    assert "is open in the process that this one was forked from" in str(errors[4])


def test_a_closed_store(store: PlaidStore) -> None:
    store.close()
    store.close()
    for call in (lambda: store.search(QUERY), store.optimize, lambda: store.segments):
        with pytest.raises(StoreError, match="is closed"):
            call()
