"""The folder of a `QdrantEdgeStore`: whose it is, who holds it, what a kill, a fork and a full disk do to it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import qdrant_edge as edge
from reference import ids, random_documents

from chandelier import ArgumentError, ColBERT, Document, MeanVector, Muvera, StoreError
from chandelier.qdrant_edge import Bm25, QdrantEdgeStore

PRELUDE = """
import os, sys
import numpy as np
from chandelier import ColBERT, Document, StoreError
from chandelier.qdrant_edge import QdrantEdgeStore

path, checkpoint = sys.argv[1:]
rows = np.eye(32, dtype=np.float32)[:2]
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def script(path: Path, goldens: Path) -> Callable[..., str]:
    """Runs a program in a process of its own; what it prints."""

    def run(code: str, *before: str, prelude: str = PRELUDE, status: int = 0) -> str:
        program = prelude + textwrap.dedent(code)
        command = [*before, sys.executable, "-c", program, str(path), str(goldens / "a_bert_pylate" / "checkpoint")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100)
        assert done.returncode == status, done.stderr
        return done.stdout.strip()

    return run


# What is in it


def test_a_store_is_found_again(tiny: ColBERT, path: Path) -> None:
    documents = random_documents(50, 32)
    options: dict[str, Any] = dict(prefetch=MeanVector(32), sparse=Bm25(), payload_indexes={"i": "integer"})
    with QdrantEdgeStore(path / "in" / "folders", tiny, **options) as store:
        store.upsert(documents)
        expected = store.search(documents[3].vectors)
    assert sorted(os.listdir(path / "in" / "folders")) == ["lock", "shard"]
    with QdrantEdgeStore(str(path / "in" / "folders"), tiny, **options) as store:
        assert store.search(documents[3].vectors) == expected
        assert store.count({"i": {"$lt": 10}}) == 10


def test_a_folder_can_be_moved(tiny: ColBERT, path: Path, tmp_path: Path) -> None:
    with QdrantEdgeStore(path, tiny) as store:
        store.upsert([Document("a", "bread")])
    path.rename(tmp_path / "elsewhere")
    with QdrantEdgeStore(tmp_path / "elsewhere", tiny) as store:
        store.upsert([Document("a", "more bread"), Document("b", "butter")])
        assert store.count() == 2


def test_a_store_that_nobody_closed(tiny: ColBERT, path: Path) -> None:
    store = QdrantEdgeStore(path, tiny)
    store.upsert([Document("a", "bread")])
    del store
    with QdrantEdgeStore(path, tiny) as again:
        assert ids(again.iterate()) == ["a"]


@pytest.mark.parametrize("left", ["nothing", "a file", "half a shard"])
def test_what_a_kill_leaves_of_a_new_store(tiny: ColBERT, path: Path, left: str) -> None:
    (path / "shard.part").mkdir(parents=True)
    (path / "lock").touch()
    if left == "a file":
        (path / "shard.part" / "chandelier.json").write_text('{"lay')
    if left == "half a shard":
        edge.EdgeShard.create(
            str(path / "shard.part"), edge.EdgeConfig(vectors={"v": edge.EdgeVectorParams(2, edge.Distance.Dot)})
        ).close()
    with QdrantEdgeStore(path, tiny) as store:
        assert store.upsert([Document("a", "bread")]).stored == ["a"]
    assert sorted(os.listdir(path)) == ["lock", "shard"]


def test_the_layout_is_that_of_a_server(tiny: ColBERT, path: Path) -> None:
    QdrantEdgeStore(path, tiny, prefetch=Muvera(32, ksim=2, dprojections=8, repetitions=4), sparse=Bm25()).close()
    config = json.loads((path / "shard" / "edge_config.json").read_text())
    rows, prefetch = config["vectors"]["colbert"], config["vectors"]["prefetch"]
    assert (rows["size"], rows["distance"], rows["datatype"], rows["memory"]) == (32, "Dot", "float16", "cold")
    assert (rows["multivector_config"], rows["hnsw_config"]["m"]) == ({"comparator": "max_sim"}, 0)
    assert (prefetch["size"], prefetch["distance"], prefetch["datatype"]) == (128, "Dot", "float16")
    assert config["sparse_vectors"] == {"bm25": {"modifier": "idf"}}


# What is refused


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("notes.txt", "mine", "holds 'notes.txt' and no store"),
        ("meta.json", "{}", "is a folder of qdrant-client's local mode"),
        ("edge_config.json", "{}", "holds a shard of Qdrant Edge that no QdrantEdgeStore made"),
        ("shard/edge_config.json", "{}", "holds a shard of Qdrant Edge that no QdrantEdgeStore made"),
        ("store.db", "SQLite format 3", "holds 'store.db' and no store"),
    ],
)
def test_a_folder_of_somebody_else(tiny: ColBERT, path: Path, name: str, content: str, what: str) -> None:
    (path / name).parent.mkdir(parents=True)
    (path / name).write_text(content)
    with pytest.raises(StoreError, match=what) as caught:
        QdrantEdgeStore(path, tiny)
    assert caught.value.store == str(path)
    assert [str(each.relative_to(path)) for each in path.rglob("*") if each.is_file()] == [name]
    assert (path / name).read_text() == content


def test_a_folder_of_local_mode(tiny: ColBERT, path: Path) -> None:
    client = pytest.importorskip("qdrant_client").QdrantClient(path=str(path))
    client.close()
    with pytest.raises(StoreError, match="is a folder of qdrant-client's local mode; open it with QdrantStore"):
        QdrantEdgeStore(path, tiny)


def test_a_client_does_not_take_the_folder_for_its_own(tiny: ColBERT, path: Path) -> None:
    """`QdrantClient(path=...)` makes an empty local store in any folder, beside what is there."""
    client_class = pytest.importorskip("qdrant_client").QdrantClient
    from chandelier.qdrant import QdrantStore

    with QdrantEdgeStore(path, tiny) as store:
        store.upsert([Document("a", "bread")])
    client = client_class(path=str(path))
    with pytest.raises(StoreError, match=r"is a folder of Qdrant Edge.*; open it with QdrantEdgeStore"):
        QdrantStore(client, "documents", tiny)
    client.close()
    with QdrantEdgeStore(path, tiny) as store:
        assert ids(store.iterate()) == ["a"]


def test_a_file_is_no_folder(tiny: ColBERT, path: Path) -> None:
    path.write_text("mine")
    with pytest.raises(StoreError, match="is a file, wanted the path of a folder"):
        QdrantEdgeStore(path, tiny)
    with pytest.raises(StoreError, match="Not a directory"):
        QdrantEdgeStore(path / "in", tiny)


@pytest.mark.parametrize("path", [3, None, "", "a\0b", b"bytes"])
def test_bad_paths(tiny: ColBERT, path: Any) -> None:
    with pytest.raises(ArgumentError, match="path: got"):
        QdrantEdgeStore(path, tiny)


@pytest.mark.parametrize(
    ("made", "opened", "what"),
    [
        ({}, {"prefetch": MeanVector(32)}, "was written with no prefetch, and is opened with prefetch mean-32"),
        ({"prefetch": MeanVector(32)}, {}, "was written with prefetch mean-32, and is opened with no prefetch"),
        (
            {"prefetch": Muvera(32)},
            {"prefetch": Muvera(32, seed=1)},
            "was written with prefetch .* opened with",
        ),
        ({"sparse": Bm25()}, {"sparse": Bm25("german")}, "was written with sparse encoder .*english.* opened .*german"),
        ({}, {"datatype": "float32"}, "datatype: got 'float16', wanted 'float32'"),
    ],
)
def test_a_store_with_other_options(
    tiny: ColBERT, path: Path, made: dict[str, Any], opened: dict[str, Any], what: str
) -> None:
    with QdrantEdgeStore(path, tiny, **made) as store:
        store.upsert([Document("a", "bread")])
    with pytest.raises(StoreError, match=what):
        QdrantEdgeStore(path, tiny, **opened)
    with QdrantEdgeStore(path, tiny, **made) as store:
        assert ids(store.search("bread")) == ["a"]


def test_a_store_of_another_model(tiny: ColBERT, open_model: Callable[[str], ColBERT], path: Path) -> None:
    QdrantEdgeStore(path, tiny).close()
    other = open_model("b_bert_attend")
    assert other.fingerprint != tiny.fingerprint
    with pytest.raises(StoreError, match=r"was written with model .*, and is opened with model|dim: got") as caught:
        QdrantEdgeStore(path, other)
    if other.dim == tiny.dim:
        assert tiny.fingerprint in str(caught.value)
        assert other.fingerprint in str(caught.value)


@pytest.mark.parametrize("settings", ["", "{", "[]", "null", '"layout"'])
def test_damaged_settings(tiny: ColBERT, path: Path, settings: str) -> None:
    QdrantEdgeStore(path, tiny).close()
    (path / "shard" / "chandelier.json").write_text(settings)
    with pytest.raises(StoreError, match=r"shard/chandelier\.json is damaged"):
        QdrantEdgeStore(path, tiny)


def test_the_layout_of_a_later_version(tiny: ColBERT, path: Path) -> None:
    QdrantEdgeStore(path, tiny).close()
    file = path / "shard" / "chandelier.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "layout": 2}))
    with pytest.raises(StoreError, match="layout version 2, wanted 1"):
        QdrantEdgeStore(path, tiny)


@pytest.mark.parametrize("what", ["edge_config.json", "segments/*/segment.json", "wal/*"])
@pytest.mark.parametrize("how", ["cut off", "noise"])
def test_a_damaged_shard(tiny: ColBERT, path: Path, what: str, how: str) -> None:
    """What the engine notices; it keeps no sums of what it stores, so it does not notice all."""
    with QdrantEdgeStore(path, tiny) as store:
        store.upsert(random_documents(50, 32))
    for file in (path / "shard").glob(what):
        if how == "cut off":
            os.truncate(file, file.stat().st_size // 2)
        else:
            with file.open("r+b") as stream:
                stream.write(bytes(range(256)) * 4)
    with suppress(StoreError), QdrantEdgeStore(path, tiny) as store:
        assert len(list(store.iterate())) == 50  # the engine could do without


# Who holds it


def test_a_second_opener_is_refused(tiny: ColBERT, path: Path, script: Callable[..., str]) -> None:
    other = """
        try:
            store = QdrantEdgeStore(path, ColBERT(checkpoint))
            print(store.upsert([Document("b", "", vectors=rows)]))
        except StoreError as error:
            print(error)
    """
    refused = f"{path}: is open in this process or another; close it there first"
    with QdrantEdgeStore(path, tiny) as store:
        with pytest.raises(StoreError, match="is open in this process or another; close it there first"):
            QdrantEdgeStore(path, tiny)
        assert script(other).startswith(refused)
        assert store.upsert([Document("a", "bread")]).stored == ["a"]
    assert script(other) == "stored 1"
    with QdrantEdgeStore(path, tiny) as store:
        assert sorted(ids(store.iterate())) == ["a", "b"]


def test_a_kill_gives_the_lock_back(tiny: ColBERT, path: Path, script: Callable[..., str]) -> None:
    code = """
        store = QdrantEdgeStore(path, ColBERT(checkpoint))
        store.upsert([Document("a", "", vectors=rows)])
        os.kill(os.getpid(), 9)
    """
    script(code, status=-9)
    with QdrantEdgeStore(path, tiny) as store:
        assert ids(store.iterate()) == ["a"]


def test_a_refused_opener_leaves_no_lock(tiny: ColBERT, path: Path) -> None:
    QdrantEdgeStore(path, tiny).close()
    for _ in range(3):
        with pytest.raises(StoreError, match="datatype"):
            QdrantEdgeStore(path, tiny, datatype="float32")
    QdrantEdgeStore(path, tiny).close()


def test_a_forked_child_neither_hangs_nor_writes(path: Path, script: Callable[..., str], tiny: ColBERT) -> None:
    """The engine's threads are gone in the child, and its copy of the shard would cut the parent's log at the exit."""
    code = """
        store = QdrantEdgeStore(path, ColBERT(checkpoint))
        wal = os.path.join(path, "shard", "wal")
        large = np.tile(np.eye(32, dtype=np.float32), (64, 1))
        store.upsert(Document(f"{i}", "", vectors=large) for i in range(150))
        before = sorted(os.listdir(wal))
        child = os.fork()
        if child == 0:
            for call in (store.count, store.flush, lambda: store.search(rows), lambda: store.delete(["1"])):
                try:
                    call()
                    print("child: did it")
                except StoreError as error:
                    print("child:", "was opened before a fork" in str(error))
            store.close()
            sys.exit(0)  # with all that Python does at the end
        assert os.waitpid(child, 0)[1] == 0
        assert sorted(os.listdir(wal)) == before
        assert len(before) > 2
        assert store.upsert([Document("after", "", vectors=rows)]).stored == ["after"]
        print("parent:", store.count())
        store.close()
    """
    assert script(code).split("\n") == ["child: True"] * 4 + ["parent: 151"]
    with QdrantEdgeStore(path, tiny) as store:
        assert store.count() == 151


# What it needs


def test_neither_package_needs_the_other(script: Callable[..., str]) -> None:
    code = """
        sys.modules["qdrant_client"] = None
        from chandelier.qdrant_edge import QdrantEdgeStore
        store = QdrantEdgeStore(path, ColBERT(checkpoint))
        print(store.upsert([Document("a", "bread")]), [hit.id for hit in store.search("bread")])
        store.close()
    """
    prelude = PRELUDE.replace("from chandelier.qdrant_edge import QdrantEdgeStore\n", "")
    assert script(code, prelude=prelude) == "stored 1 ['a']"
    code = """
        sys.modules["qdrant_edge"] = None
        try:
            import chandelier.qdrant_edge
        except ModuleNotFoundError as error:
            print(error.name, error)
    """
    expected = "qdrant_edge chandelier.qdrant_edge needs qdrant-edge-py: pip install 'chandelier[qdrant-edge]'"
    assert script(code, prelude=prelude) == expected


def test_a_full_disk_is_an_error(script: Callable[..., str], path: Path) -> None:
    """A file system of 200 MB, which only this process sees; the engine itself dies of SIGBUS on a full one."""
    unshare = shutil.which("unshare")
    mount = f"mount -t tmpfs -o size=200m tmpfs {path}"
    path.mkdir()
    alone = [unshare or "unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    if unshare is None or subprocess.run([*alone, mount], capture_output=True).returncode:
        alone = [unshare or "unshare", "--mount", "sh", "-c"]
        if unshare is None or subprocess.run([*alone, mount], capture_output=True).returncode:
            pytest.skip("no file system can be mounted here")
    code = """
        large = np.tile(np.eye(32, dtype=np.float32), (8, 1))
        model = ColBERT(checkpoint)
        store = QdrantEdgeStore(path + "/store", model)
        try:
            store.upsert(Document(f"{i}", "", vectors=large) for i in range(100_000))
        except StoreError as error:
            stored = error.report.stored
            print("disk is full" in str(error))
        print(len(stored) > 500, {each.id for each in store.iterate()} >= set(stored), len(store.search(rows, 3)))
        store.close()
        store = QdrantEdgeStore(path + "/store", model)
        print(store.count() >= len(stored))
        print(store.delete_all() >= len(stored), store.upsert([Document("a", "bread")]))
        store.close()
    """
    printed = script(code, *alone, f'{mount} && exec "$@"', "sh")
    assert printed.split("\n") == ["True", "True True 3", "True", "True stored 1"]
