"""Stores in plain JSON: what is described is opened again, what cannot be is refused by name, equal ones are shared."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import datetime
import gc
import inspect
import itertools
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loopback import QdrantLoopback
from qdrant_client import QdrantClient, models

from chandelier import ArgumentError, ColBERT, Document, LocalStore, MeanVector, ModelError, Muvera, Store, StoreError
from chandelier.qdrant import Bm25, QdrantStore
from chandelier.qdrant.description import described_client, opened_client
from chandelier.qdrant_edge import QdrantEdgeStore
from chandelier.shared import SHARED as MODELS
from chandelier.shared import release_models
from chandelier.store import open_store
from chandelier.store.handles import SHARED, StoreHandle

DOCUMENTS = [Document("a", "Paris is in France.", {"lang": "en"}), Document("b", "Bread needs flour.", {"lang": "en"})]
QUERY = "where is paris?"


@pytest.fixture(autouse=True)
def _nothing_left_open() -> Iterator[None]:
    release_models()
    yield
    gc.collect()
    assert SHARED.lent == {}
    release_models()


@pytest.fixture
def server() -> Iterator[QdrantLoopback]:
    with QdrantLoopback() as server:
        yield server


def opened_again(store: Store) -> tuple[dict[str, Any], Store]:
    """A store from what JSON kept of the description of another."""
    description = json.loads(json.dumps(store.description))  # type: ignore[attr-defined]
    return description, open_store(description)


def test_a_local_store(tiny: ColBERT, tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    with LocalStore(tiny, path, datatype="float16", pool_factor=2, memory_limit=1 << 30) as store:
        store.upsert(DOCUMENTS)
        hits = store.search(QUERY)
        description, again = opened_again(store)
    assert description == {
        "type": "LocalStore",
        "model": tiny.arguments,
        "path": str(path),
        "datatype": "float16",
        "pool_factor": 2,
        "memory_limit": 1 << 30,
    }
    with again:
        assert again.search(QUERY) == hits
        assert again.description == description  # type: ignore[attr-defined]
    with LocalStore(tiny, tmp_path / "plain.db") as store:
        assert set(store.description) == {"type", "model", "path"}


def test_the_model_of_a_description_is_the_shared_one(goldens: Path, tmp_path: Path) -> None:
    model = ColBERT(goldens / "a_bert_pylate" / "checkpoint", query_length=24)
    with LocalStore(model, tmp_path / "notes.db") as store:
        _, again = opened_again(store)
    with again:
        assert list(MODELS.models.values()) == [again.model]
        assert again.model.query_length == 24


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"prefetch": "mean"},
        {"prefetch": Muvera(32, ksim=3, dprojections=8, repetitions=5, seed=7), "datatype": "float32"},
        {"sparse": Bm25("german", k=1.5, b=0.5, average_length=20.0), "payload_indexes": {"lang": "keyword"}},
        {"on_disk": False, "pool_factor": 2, "protected_tokens": 0},
    ],
    ids=str,
)
def test_an_edge_store(tiny: ColBERT, tmp_path: Path, options: dict[str, Any]) -> None:
    options = {**options, "prefetch": MeanVector(tiny.dim)} if options.get("prefetch") == "mean" else options
    with QdrantEdgeStore(tmp_path / "shard", tiny, **options) as store:
        store.upsert(DOCUMENTS)
        hits = store.search(QUERY)
        description = json.loads(json.dumps(store.description))
    assert set(description) == {"type", "model", "path", *options}
    with open_store(description) as again:
        assert again.search(QUERY) == hits
        assert again.description == description  # type: ignore[attr-defined]


@pytest.mark.parametrize("grpc", [False, True])
def test_a_server(tiny: ColBERT, server: QdrantLoopback, grpc: bool) -> None:
    client = server.connect(grpc=grpc)
    options: dict[str, Any] = {
        "prefetch": MeanVector(tiny.dim),
        "payload_indexes": {"lang": "keyword"},
        "adopt": True,
        "retries": 3,
        "timeout": 7,
    }
    store = QdrantStore(client, "notes", tiny, **options)
    store.upsert(DOCUMENTS)
    hits = store.search(QUERY)
    description, again = opened_again(store)
    client.close()
    assert description["client"]["type"] == "QdrantClient"
    assert {key: description[key] for key in ("retries", "timeout", "adopt")} == {
        key: options[key] for key in ("retries", "timeout", "adopt")
    }
    with again:
        assert again.search(QUERY) == hits
    with pytest.raises(StoreError, match="closed"):
        again.search(QUERY)


def test_a_server_over_an_asynchronous_client(tiny: ColBERT, server: QdrantLoopback) -> None:
    async def main() -> None:
        client = server.connect_async()
        async with QdrantStore(client, "notes", tiny) as store:
            await store.aupsert(DOCUMENTS)
            description, again = opened_again(store)
        assert description["client"]["type"] == "AsyncQdrantClient"
        async with again:
            assert [hit.id for hit in await again.asearch(QUERY)] == ["a", "b"]
        await client.close()

    asyncio.run(main())


def test_a_folder_of_the_clients_local_mode(tiny: ColBERT, tmp_path: Path) -> None:
    client = QdrantClient(path=str(tmp_path / "local"))
    store = QdrantStore(client, "notes", tiny)
    store.upsert(DOCUMENTS)
    description = store.description
    client.close()
    with ThreadPoolExecutor(1) as other:  # as components are opened in one thread and run in another
        again = other.submit(open_store, description).result()
    with again:
        again.upsert([Document("c", "The moon moves the sea.")])
        assert again.count() == 3
    with open_store(description) as once_more:  # the client was closed with the store, or the folder were locked
        assert once_more.count() == 3


@pytest.mark.filterwarnings("ignore:.*insecure connection:UserWarning")
def test_a_key_is_never_written_and_comes_from_the_environment(tiny: ColBERT, monkeypatch: pytest.MonkeyPatch) -> None:
    with QdrantLoopback(api_key="s3cret") as server:
        client = server.connect(api_key="s3cret")
        store = QdrantStore(client, "notes", tiny)
        store.upsert(DOCUMENTS)
        description = store.description
        client.close()
        assert "s3cret" not in json.dumps(description)
        monkeypatch.delenv("QDRANT_API_KEY", raising=False)
        with pytest.raises(StoreError, match="API key"):
            open_store(description)
        monkeypatch.setenv("QDRANT_API_KEY", "s3cret")
        with open_store(description) as again:
            assert again.count() == 2


class OwnEncoder(MeanVector):
    """One of the caller's own making."""


def client_with_a_password(server: QdrantLoopback) -> QdrantClient:
    return QdrantClient(url=f"http://me:pw@127.0.0.1:{server.rest_port}", check_compatibility=False)


@pytest.mark.parametrize(
    ("where", "names"),
    [
        ({"host": "me:pw@localhost"}, r"client\.host"),
        ({"url": "http://localhost/?api-key=pw"}, r"client\.url"),
        ({"location": "http://me:pw@localhost"}, r"client\.location"),
        ({"host": "localhost", "prefix": "a?key=pw"}, r"client\.prefix"),
    ],
)
def test_a_secret_in_an_address_is_not_written(where: dict[str, str], names: str) -> None:
    with pytest.raises(ArgumentError, match=names) as caught:
        described_client(QdrantClient(**where, check_compatibility=False))
    assert "pw" not in str(caught.value)


def test_folders_are_written_from_the_root_on(goldens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads a description may work in another folder."""
    monkeypatch.chdir(tmp_path)
    os.symlink(goldens / "a_bert_pylate" / "checkpoint", "model")
    model = ColBERT("model")
    client = QdrantClient(path="local")
    stores: list[Store] = [
        LocalStore(model, "notes.db"),
        QdrantEdgeStore("shard", model),
        QdrantStore(client, "notes", model),
    ]
    descriptions = [store.description for store in stores]  # type: ignore[attr-defined]
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert (
        [store.description["path"] for store in stores[:2]]
        == [  # type: ignore[attr-defined]
            description["path"] for description in descriptions[:2]
        ]
    )
    for store in stores:
        store.upsert(DOCUMENTS)
        store.close()
    client.close()
    for description in descriptions:
        assert description["model"] == {"model_name_or_path": str(tmp_path / "model")}
        with open_store(description) as again:
            assert again.count() == 2


@pytest.mark.parametrize(
    ("made", "names"),
    [
        (lambda tiny, _: LocalStore(tiny), "in memory"),
        (lambda tiny, _: QdrantStore(QdrantClient(":memory:"), "notes", tiny), "in memory"),
        (lambda tiny, server: QdrantStore(server.connect(headers={"x": "y"}), "notes", tiny), r"client\.headers"),
        (
            lambda tiny, server: QdrantStore(server.connect(auth_token_provider=lambda: "token"), "notes", tiny),
            r"client\.auth_token_provider",
        ),
        (
            lambda tiny, server: QdrantStore(client_with_a_password(server), "notes", tiny),
            r"client\.url",
        ),
        (
            lambda tiny, server: QdrantStore(server.connect(), "notes", tiny, prefetch=OwnEncoder(tiny.dim)),
            "prefetch: got OwnEncoder",
        ),
    ],
    ids=["memory", "client in memory", "headers", "provider", "password", "own encoder"],
)
@pytest.mark.filterwarnings("ignore:.*insecure connection:UserWarning")
def test_what_a_file_cannot_hold_is_refused_by_name(
    tiny: ColBERT, server: QdrantLoopback, made: Any, names: str
) -> None:
    store = made(tiny, server)
    with pytest.raises((StoreError, ArgumentError), match=names) as caught:
        _ = store.description
    assert "pw" not in str(caught.value)
    store.close()


def test_options_of_a_collection(tiny: ColBERT, tmp_path: Path) -> None:
    client = QdrantClient(path=str(tmp_path / "local"))
    plain = QdrantStore(client, "plain", tiny, create_options={"wal_config": {"wal_capacity_mb": 1}}).description
    assert plain["create_options"] == {"wal_config": {"wal_capacity_mb": 1}}
    wal = models.WalConfigDiff(wal_capacity_mb=1)
    with pytest.raises(ArgumentError, match=r"create_options\.wal_config: got WalConfigDiff"):
        _ = QdrantStore(client, "objects", tiny, create_options={"wal_config": wal}).description
    client.close()


def local(**changed: Any) -> dict[str, Any]:
    return {"type": "LocalStore", "model": {"model_name_or_path": "x"}, "path": "x", **changed}


BAD: list[tuple[Any, str]] = [
    ("LocalStore", "store: got str"),
    ({}, r"store\.type: got None"),
    ({"type": "os.system"}, r"store\.type: got 'os.system', wanted one of LocalStore"),
    ({"type": ["LocalStore"]}, r"store\.type"),
    ({"type": "LocalStore", "path": "x"}, r"store\.model: missing"),
    ({"type": "LocalStore", "model": "x"}, r"store\.model: got str"),
    ({"type": "LocalStore", "model": {}}, r"store\.model\.model_name_or_path: got NoneType"),
    ({"type": "LocalStore", "model": {"model_name_or_path": "x", "threds": 1}}, r"store\.model\.threds: unknown"),
    ({"type": "LocalStore", "model": {"model_name_or_path": "x", "token": "hf_secret"}}, r"store\.model\.token"),
    ({"type": "LocalStore", "model": {"model_name_or_path": "x"}, "pth": "x"}, r"store\.pth: unknown"),
    ({"type": "QdrantEdgeStore", "model": {"model_name_or_path": "x"}}, r"store\.path: missing"),
    (
        {"type": "QdrantEdgeStore", "model": {"model_name_or_path": "x"}, "path": "x", "prefetch": {"type": "Path"}},
        r"store\.prefetch\.type: got 'Path', wanted one of Bm25, MeanVector, Muvera",
    ),
    (
        {"type": "QdrantEdgeStore", "model": {"model_name_or_path": "x"}, "path": "x", "prefetch": {"type": "Muvera"}},
        r"store\.prefetch\.dim: missing",
    ),
    ({"type": "LocalStore", "model": {"model_name_or_path": "x"}}, r"store\.path: missing .* LocalStore"),
    (local(path=None), r"store\.path: missing .* LocalStore"),
    (local(path=5), r"store\.path: got int, wanted a path"),
    (local(path=""), r"store\.path: got str, wanted a path: a str that is not empty"),
    (local(path="a\0b"), r"store\.path: got str, wanted a path"),
    (local(memory_limit=datetime.date(2020, 1, 1)), r"store\.memory_limit: got date, which a file cannot hold"),
    (local(model={"model_name_or_path": 5}), r"store\.model\.model_name_or_path: got int"),
    (local(model={"token": "hf_secret"}), r"store\.model\.model_name_or_path: got NoneType"),
    ({**local(), 5: 5}, r"store: got dict, which a file cannot hold"),
]


@pytest.mark.parametrize(("description", "names"), BAD, ids=lambda value: str(value)[:60])
def test_a_description_that_is_none_is_refused_by_name(description: Any, names: str) -> None:
    for opened in (open_store, StoreHandle):
        if opened is StoreHandle and isinstance(description, str):
            continue  # there it is no store
        with pytest.raises(ArgumentError, match=names) as caught:
            opened(description)
        assert "hf_secret" not in str(caught.value)
        assert caught.value.argument.startswith("store")
    assert not MODELS.models


ODD = [5, -1, 0.5, float("nan"), True, "x", "\0", "\ud800", [], [1], [[]], {}, {"a": 1}, {"type": []}, None, 1 << 70]


@pytest.mark.parametrize("kind", ["LocalStore", "QdrantEdgeStore", "QdrantStore"])
def test_a_value_that_is_odd_opens_or_is_refused(
    tiny: ColBERT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Whatever stands in a file by mistake, nothing but our own errors comes of it."""
    monkeypatch.chdir(tmp_path)
    made: Any = {"LocalStore": LocalStore, "QdrantEdgeStore": QdrantEdgeStore, "QdrantStore": QdrantStore}[kind]
    for index, (name, value) in enumerate(itertools.product(inspect.signature(made).parameters, ODD)):
        if kind == "QdrantStore":
            place: dict[str, Any] = {"collection": "notes", "client": {"type": "QdrantClient", "path": str(index)}}
        else:
            place = {"path": str(index)}
        description = {"type": kind, "model": tiny.arguments, **place, name: value}
        with contextlib.suppress(ArgumentError, StoreError, ModelError, FileNotFoundError):
            handle = StoreHandle(description)
            json.dumps(handle.description)
            handle.open()
            handle.close()


@pytest.mark.parametrize(
    ("client", "names"),
    [
        ("http://localhost", r"store\.client: got str"),
        ("xpathx", r"store\.client: got str"),
        (None, r"store\.client: got NoneType"),
        ({"type": ["QdrantClient"]}, r"store\.client: got the type \['QdrantClient'\]"),
        ({"api_key": "s3cret"}, r"store\.client: got the type None"),
        ({"type": "QdrantClient", "url": 5}, r"store\.client\.url: got int"),
        ({"type": "QdrantClient", "port": "6333"}, r"store\.client\.port: got str"),
        ({"type": "QdrantClient", "port": -1}, r"store\.client\.port: got -1, wanted 1 to 65,535"),
        ({"type": "QdrantClient", "port": True}, r"store\.client\.port: got bool"),
        ({"type": "QdrantClient", "https": "yes"}, r"store\.client\.https: got str, wanted a value of type bool"),
        ({"type": "QdrantClient", "timeout": "5s"}, r"store\.client\.timeout: got str, wanted a number"),
        ({"type": "QdrantClient", "path": 5}, r"store\.client\.path: got int"),
        ({"type": "QdrantClient", "path": "\0"}, r"store\.client\.path: got str, wanted a path"),
        ({"type": "QdrantClient", "location": ":memory:"}, r"store\.client\.location: got ':memory:'"),
        ({"type": "QdrantClient", "location": "::bad::"}, r"store\.client: is none that can be made: .*::bad::"),
        (
            {"type": "QdrantClient", "url": "http://a", "host": "b"},
            r"store\.client: is none that can be made: Only one",
        ),
        ({"type": "QdrantClient", "url": "ftp://a"}, r"store\.client: is none that can be made: Unknown scheme"),
        ({"type": "QdrantClient", "url": "http://me:s3cret@a"}, r"store\.client\.url: .*QDRANT_API_KEY"),
        ({"type": "QdrantClient", "url": "me:s3cret@a"}, r"store\.client\.url: .*QDRANT_API_KEY"),
        ({"type": "QdrantClient", "url": "http://a/?api-key=s3cret"}, r"store\.client\.url: .*QDRANT_API_KEY"),
        ({"type": "QdrantClient", "location": "http://a#s3cret"}, r"store\.client\.location: .*QDRANT_API_KEY"),
        ({"type": "QdrantClient", "host": "me:s3cret@a"}, r"store\.client\.host: .*QDRANT_API_KEY"),
        ({"url": "http://localhost"}, r"store\.client"),
        ({"type": "Popen"}, r"store\.client"),
        ({"type": "QdrantClient", "api_key": "s3cret"}, r"store\.client\.api_key: unknown.*QDRANT_API_KEY"),
    ],
)
def test_a_client_that_is_none_is_refused_by_name(tiny: ColBERT, client: Any, names: str) -> None:
    description = {"type": "QdrantStore", "model": tiny.arguments, "collection": "notes", "client": client}
    for opened in (open_store, lambda description: StoreHandle(description).open()):
        with pytest.raises(ArgumentError, match=names) as caught:
            opened(description)
        assert "s3cret" not in str(caught.value)
        assert caught.value.argument.startswith("store")
    if "can be made" not in names:
        with pytest.raises(ArgumentError, match=names):
            StoreHandle(description)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the client leaves its lock file open
def test_a_folder_of_a_client_that_cannot_be_opened(tiny: ColBERT, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    client = {"type": "QdrantClient", "path": str(tmp_path / "file" / "folder")}
    description = {"type": "QdrantStore", "model": tiny.arguments, "collection": "notes", "client": client}
    with pytest.raises(StoreError, match=r"file/folder: cannot be opened: "):
        open_store(description)
    description["client"] = {"type": "QdrantClient", "path": str(tmp_path / "local")}
    with open_store(description), pytest.raises(StoreError, match=r"local: cannot be opened: .*already"):
        open_store(description)


def test_a_client_without_a_port_stays_without(server: QdrantLoopback) -> None:
    client = QdrantClient(url="https://localhost", port=None, check_compatibility=False)
    described = described_client(client)
    assert described["port"] is None
    assert opened_client(described).init_options["port"] is None


class TestHandle:
    @pytest.fixture
    def description(self, tiny: ColBERT, tmp_path: Path) -> dict[str, Any]:
        """Of a folder that can be open once only."""
        return {"type": "QdrantEdgeStore", "model": tiny.arguments, "path": str(tmp_path / "shard")}

    def test_nothing_is_opened_before_it_is_needed(self, description: dict[str, Any], tmp_path: Path) -> None:
        handle = StoreHandle(description)
        assert not handle.is_open
        assert handle.description == description
        assert not MODELS.models
        assert not list(tmp_path.iterdir())
        handle.open().upsert(DOCUMENTS)
        assert handle.is_open
        handle.close()

    def test_equal_descriptions_share_a_store_until_the_last_is_closed(
        self, description: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        one, other = StoreHandle(description), StoreHandle({**description, "path": "./shard"})
        assert one.open() is other.open() is one.open()
        one.open().upsert(DOCUMENTS)
        one.close()
        one.close()
        assert other.open().count() == 2
        other.close()
        assert SHARED.lent == {}
        with open_store(description) as store:  # nobody holds the folder any more
            assert store.count() == 2

    @pytest.mark.parametrize("kind", ["QdrantEdgeStore", "QdrantStore"])
    def test_descriptions_are_equal_however_they_are_written(self, tiny: ColBERT, tmp_path: Path, kind: str) -> None:
        """A folder of Qdrant is open once: who takes them for two cannot open the second."""
        checkpoint = tiny.arguments["model_name_or_path"]
        os.symlink(checkpoint, tmp_path / "model")
        os.symlink(tmp_path, tmp_path / "here")
        prefetch = {"type": "Muvera", "dim": tiny.dim}
        one: dict[str, Any] = {"type": kind, "model": tiny.arguments, "prefetch": prefetch}
        model = {"model_name_or_path": str(tmp_path / "model"), "device": "cpu", "dtype": "float32", "revision": None}
        written: dict[str, Any] = {"pool_factor": 1, "payload_indexes": None, "sparse": None, "on_disk": True}
        other = {"type": kind, "model": model, "prefetch": {**prefetch, "seed": Muvera(32).seed}, **written}
        if kind == "QdrantEdgeStore":
            one["path"] = str(tmp_path / "folder")
            other["path"] = str(tmp_path / "here" / "folder")
        else:
            one |= {"collection": "notes", "client": {"type": "QdrantClient", "path": str(tmp_path / "folder")}}
            client = {"type": "QdrantClient", "path": tmp_path / "here" / "folder", "prefer_grpc": False}
            other |= {"collection": "notes", "client": client}
        handles = [StoreHandle(one), StoreHandle(other)]
        assert handles[0].open() is handles[1].open()
        for handle in handles:
            handle.close()

    def test_what_becomes_of_a_description_does_not_touch_the_handle(self, description: dict[str, Any]) -> None:
        given = copy.deepcopy(description)
        handle = StoreHandle(given)
        given["model"]["query_length"] = 8
        handle.description["model"]["query_length"] = 9
        assert handle.description == description

    def test_it_is_opened_again_after_it_was_closed(self, description: dict[str, Any]) -> None:
        handle = StoreHandle(description)
        handle.open().upsert(DOCUMENTS)
        handle.close()
        assert not handle.is_open
        assert handle.open().count() == 2
        handle.close()

    def test_a_handle_that_is_gone_gives_its_store_back(self, description: dict[str, Any]) -> None:
        handle = StoreHandle(description)
        handle.open()
        assert SHARED.lent
        del handle
        gc.collect()
        assert SHARED.lent == {}

    def test_threads_open_one(self, description: dict[str, Any]) -> None:
        handles = [StoreHandle(description) for _ in range(16)]
        with ThreadPoolExecutor(16) as pool:
            stores = list(pool.map(StoreHandle.open, handles))
        assert len(set(map(id, stores))) == 1
        for handle in handles:
            handle.close()

    def test_a_failure_is_not_remembered(self, description: dict[str, Any], tmp_path: Path) -> None:
        (tmp_path / "shard").write_text("in the way")
        handle = StoreHandle(description)
        with pytest.raises(StoreError):
            handle.open()
        assert SHARED.lent == {}
        (tmp_path / "shard").unlink()
        assert handle.open().count() == 0
        handle.close()

    @pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
    def test_copies_open_nothing(self, description: dict[str, Any], copied: Any) -> None:
        other = copied(StoreHandle(description))
        assert not other.is_open
        assert other.description == description

    def test_a_store_that_was_given_stays_open_and_is_shared_by_copies(self, tiny: ColBERT) -> None:
        with LocalStore(tiny) as store:
            handle = StoreHandle(store)
            handle.close()
            assert handle.open() is copy.deepcopy(handle).open() is store
            assert store.count() == 0
            with pytest.raises(StoreError, match="in memory"):
                pickle.dumps(handle)

    def test_a_store_that_was_given_pickles_as_its_description(self, tiny: ColBERT, tmp_path: Path) -> None:
        with LocalStore(tiny, tmp_path / "notes.db") as store:
            store.upsert(DOCUMENTS)
            other = pickle.loads(pickle.dumps(StoreHandle(store)))
        assert not MODELS.models
        assert other.open().count() == 2
        other.close()

    def test_a_store_of_another_maker_serves_and_is_not_described(self, tiny: ColBERT) -> None:
        class Wrapped:
            def __init__(self, store: Store) -> None:
                self._store = store

        for name in dir(LocalStore):
            if not name.startswith("_") and name != "description":
                setattr(Wrapped, name, property(lambda self, name=name: getattr(self._store, name)))
        for name in ("__enter__", "__exit__", "__aenter__", "__aexit__"):
            setattr(Wrapped, name, lambda self, *_: self)
        with LocalStore(tiny) as store:
            handle = StoreHandle(Wrapped(store))  # type: ignore[arg-type]
            assert handle.open().count() == 0
            with pytest.raises(ArgumentError, match="Wrapped has no description"):
                _ = handle.description

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
    def test_a_child_leaves_its_parents_stores_alone(self, description: dict[str, Any]) -> None:
        program = """
import json, os, sys
from chandelier import Document
from chandelier.store.handles import SHARED, StoreHandle
handle = StoreHandle(json.loads(sys.argv[1]))
handle.open().upsert([Document("a", "Paris is in France.")])
child = os.fork()
if not child:
    assert SHARED.lent == {}
    del handle
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
assert handle.open().count() == 1
"""
        command = [sys.executable, "-W", "error", "-c", program, json.dumps(description)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr


def test_numbers_of_numpy_become_pythons(tiny: ColBERT, tmp_path: Path) -> None:
    count: Any = np.int64(2)
    with QdrantEdgeStore(tmp_path / "shard", tiny, pool_factor=count) as store:
        assert json.loads(json.dumps(store.description))["pool_factor"] == 2
