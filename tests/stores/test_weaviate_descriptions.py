"""`WeaviateStore` in plain JSON: opened again on a real server; what no file may hold is refused by name."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import itertools
import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import weaviate
from weaviate.classes.config import Configure
from weaviate.classes.init import AdditionalConfig, Auth, Proxies, Timeout
from weaviate.config import GrpcConfig

from chandelier import ArgumentError, ColBERT, Document, ModelError, StoreError
from chandelier.shared import release_models
from chandelier.store import open_store
from chandelier.store.handles import SHARED, StoreHandle
from chandelier.weaviate import WeaviateStore
from chandelier.weaviate.description import described_client, opened_client

if TYPE_CHECKING:
    from weaviate_server import WeaviateServer

DOCUMENTS = [Document("a", "Paris is in France.", {"lang": "en"}), Document("b", "Bread needs flour.", {"lang": "en"})]
QUERY = "where is paris?"


@pytest.fixture(autouse=True)
def _models() -> Iterator[None]:
    yield
    release_models()


@pytest.fixture
def name(weaviate_server: WeaviateServer) -> Iterator[str]:
    """A collection of the test's own."""
    name = f"Notes{uuid.uuid4().hex}"
    yield name
    with weaviate_server.connect() as client:
        client.collections.delete(name)


def described(store: WeaviateStore) -> dict[str, Any]:
    description: dict[str, Any] = json.loads(json.dumps(store.description))
    return description


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"muvera": True, "depth": 50},
        {"muvera": {"ksim": 3, "dprojections": 8, "repetitions": 5}, "quantizer": "bq", "timeout": 30.5},
        {"tenant": "acme", "create_tenant": True, "properties": {"lang": "text"}},
        {"properties": "auto", "pool_factor": 2, "protected_tokens": 0},
    ],
    ids=str,
)
def test_a_store(tiny: ColBERT, weaviate_server: WeaviateServer, name: str, options: dict[str, Any]) -> None:
    with weaviate_server.connect() as client:
        store = WeaviateStore(client, name, tiny, **options)
        store.upsert(DOCUMENTS)
        hits = store.search(QUERY)
        description = described(store)
    assert description == {
        "type": "WeaviateStore",
        "model": tiny.arguments,
        "client": {
            "type": "WeaviateClient",
            "http": {"host": "127.0.0.1", "port": weaviate_server.http_port, "secure": False},
            "grpc": {"host": "127.0.0.1", "port": weaviate_server.grpc_port, "secure": False},
            "skip_init_checks": True,
        },
        "collection": name,
        **options,
    }
    with open_store(description) as again:
        assert again.search(QUERY) == hits
        assert again.description == description  # type: ignore[attr-defined]
    with pytest.raises(StoreError, match="closed"):
        again.search(QUERY)
    assert not again._client.is_connected()  # type: ignore[attr-defined]


def test_an_asynchronous_client_is_connected_by_the_first_call_and_closed_with_the_store(
    tiny: ColBERT, weaviate_server: WeaviateServer, name: str
) -> None:
    async def main() -> None:
        async with weaviate_server.connect_async() as client:
            store = WeaviateStore(client, name, tiny)
            await store.aupsert(DOCUMENTS)
            description = described(store)
        assert description["client"]["type"] == "WeaviateAsyncClient"
        again: Any = open_store(description)
        assert not again._client.is_connected()
        assert await asyncio.gather(*(again.acount() for _ in range(4))) == [2] * 4
        await again.aclose()
        assert not again._client.is_connected()
        with pytest.raises(StoreError, match="closed"):
            await again.acount()

        handle = StoreHandle(description)
        shared: Any = await handle.aopen()
        assert [hit.id for hit in await shared.asearch(QUERY)] == ["a", "b"]
        handle.close()  # which cannot wait
        for _ in range(100):
            await asyncio.sleep(0.01)
        assert not shared._client.is_connected()

    asyncio.run(main())


def test_a_store_of_another_event_loop_says_so(tiny: ColBERT, weaviate_server: WeaviateServer, name: str) -> None:
    async def make() -> dict[str, Any]:
        async with weaviate_server.connect_async() as client:
            store = WeaviateStore(client, name, tiny)
            await store.aupsert(DOCUMENTS)
            return described(store)

    store: Any = open_store(asyncio.run(make()))
    with contextlib.closing(asyncio.new_event_loop()) as its_own:
        assert its_own.run_until_complete(store.acount()) == 2
        for again in (store.acount, lambda: store.asearch(QUERY), lambda: store.aupsert(DOCUMENTS)):
            with pytest.raises(StoreError, match="belongs to another event loop; make a client and a store in"):
                asyncio.run(again())
        its_own.run_until_complete(store.aclose())


def test_a_key_is_never_written_and_comes_from_the_environment(
    tiny: ColBERT, start_weaviate: type[WeaviateServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    with start_weaviate(api_key="s3cret") as server:
        with server.connect() as client:
            store = WeaviateStore(client, "Notes", tiny)
            store.upsert(DOCUMENTS)
            description = described(store)
        assert "s3cret" not in json.dumps(description)
        monkeypatch.delenv("WEAVIATE_API_KEY", raising=False)
        with pytest.raises(StoreError, match=r"401.*; set WEAVIATE_API_KEY"):
            open_store(description)
        monkeypatch.setenv("WEAVIATE_API_KEY", "fr1end")
        with pytest.raises(StoreError, match=r"401.*; the key in WEAVIATE_API_KEY is not one of") as caught:
            open_store(description)
        assert "fr1end" not in str(caught.value)
        description["client"]["type"] = "WeaviateAsyncClient"
        lost: Any = open_store(description)
        with pytest.raises(StoreError, match="401"):
            asyncio.run(lost.acount())
        description["client"]["type"] = "WeaviateClient"
        monkeypatch.setenv("WEAVIATE_API_KEY", "s3cret")
        with open_store(description) as again:
            assert again.count() == 2


def test_a_server_that_is_not_there_shows_at_once(tiny: ColBERT) -> None:
    client = {
        "type": "WeaviateClient",
        "http": {"host": "127.0.0.1", "port": 1, "secure": False},
        "grpc": {"host": "127.0.0.1", "port": 2, "secure": False},
    }
    description = {"type": "WeaviateStore", "model": tiny.arguments, "client": client, "collection": "Notes"}
    begun = time.monotonic()
    for host in ("127.0.0.1", "h ost", "\0", "\ud800", "[::1", "a..b", "x" * 300):
        client["http"] = {"host": host, "port": 1, "secure": False}
        handle = StoreHandle(description)
        with pytest.raises(StoreError):
            handle.open()
    assert SHARED.lent == {}
    assert time.monotonic() - begun < 10


def test_handles_share_a_store(tiny: ColBERT, weaviate_server: WeaviateServer, name: str) -> None:
    with weaviate_server.connect() as client:
        description = described(WeaviateStore(client, name, tiny))
    one, other = StoreHandle(description), StoreHandle({**description, "pool_factor": 1, "muvera": None})
    assert not one.is_open
    assert one.open() is other.open()
    one.open().upsert(DOCUMENTS)
    one.close()
    assert other.open().count() == 2
    other.close()
    assert SHARED.lent == {}
    assert one.open().count() == 2  # opened again
    one.close()


def test_times_are_kept(weaviate_server: WeaviateServer) -> None:
    config = AdditionalConfig(timeout=Timeout(init=3, insert=300.5))
    with weaviate_server.connect(additional_config=config) as client:
        description = json.loads(json.dumps(described_client(client)))
    assert description["timeout"] == {"init": 3, "insert": 300.5}
    with opened_client(description) as again:  # type: ignore[union-attr]
        assert described_client(again) == description


def test_a_cloud_is_two_hosts() -> None:
    client = weaviate.use_async_with_weaviate_cloud("https://x.c0.weaviate.cloud", Auth.api_key("s3cret"))
    description = described_client(client)
    assert description == {
        "type": "WeaviateAsyncClient",
        "http": {"host": "x.c0.weaviate.cloud", "port": 443, "secure": True},
        "grpc": {"host": "grpc-x.c0.weaviate.cloud", "port": 443, "secure": True},
    }
    assert described_client(opened_client(description)) == description


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"headers": {"X-OpenAI-Api-Key": "s3cret"}}, r"client\.additional_headers"),
        ({"auth_credentials": Auth.bearer_token("s3cret")}, r"client\.auth_client_secret"),
        ({"auth_credentials": Auth.client_password("me", "s3cret")}, r"client\.auth_client_secret"),
        (
            {"additional_config": AdditionalConfig(proxies=Proxies(http="http://me:s3cret@proxy"))},
            r"client\.proxies",
        ),
        ({"additional_config": AdditionalConfig(grpc_config=GrpcConfig())}, r"client\.grpc_config"),
        ({"host": "me:s3cret@localhost"}, r"client\.http\.host: holds '@'.*WEAVIATE_API_KEY"),
    ],
    ids=["headers", "token", "password", "proxies", "grpc", "user"],
)
def test_what_a_file_cannot_hold_is_refused_by_name(tiny: ColBERT, options: dict[str, Any], names: str) -> None:
    store = WeaviateStore(weaviate.use_async_with_local(**options), "Notes", tiny)
    with pytest.raises(ArgumentError, match=names) as caught:
        _ = store.description
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("host", ["me:s3cret@127.0.0.1", "127.0.0.1?key=s3cret", "a@b:s3cret@127.0.0.1#s3cret"])
def test_a_password_in_the_host_is_never_printed(tiny: ColBERT, host: str) -> None:
    store = WeaviateStore(weaviate.use_async_with_local(host=host, port=1), "Notes", tiny)
    assert repr(store).startswith("WeaviateStore(collection 'Notes' of http://127.0.0.1")
    with pytest.raises(StoreError) as caught:
        asyncio.run(store.acount())
    assert "s3cret" not in repr(store) + str(caught.value)


def test_an_embedded_server_is_refused_by_name(tiny: ColBERT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weaviate.embedded.EmbeddedV4.start", lambda self: None)  # it would download a server
    folders = {"persistence_data_path": str(tmp_path / "data"), "binary_path": str(tmp_path / "program")}
    client = weaviate.use_async_with_embedded(**folders)
    with pytest.raises(ArgumentError, match=r"client\.embedded_options: is nothing for a file"):
        _ = WeaviateStore(client, "Notes", tiny).description


def test_options_of_a_collection(tiny: ColBERT) -> None:
    client = weaviate.use_async_with_local()
    replication = Configure.replication(factor=1)
    store = WeaviateStore(client, "Notes", tiny, create_options={"replication_config": replication})
    with pytest.raises(ArgumentError, match=r"create_options\.replication_config: got _ReplicationConfigCreate"):
        _ = store.description


HTTP = {"host": "localhost", "port": 8080, "secure": False}
GRPC = {**HTTP, "port": 50051}


def client_of(**changed: Any) -> dict[str, Any]:
    return {"type": "WeaviateClient", "http": HTTP, "grpc": GRPC, **changed}


@pytest.mark.parametrize(
    ("client", "names"),
    [
        ("http://localhost", r"store\.client: got str"),
        (None, r"store\.client: got NoneType"),
        ({"type": ["WeaviateClient"]}, r"store\.client: got the type \['WeaviateClient'\]"),
        ({"http": HTTP, "grpc": GRPC}, r"store\.client: got the type None, wanted .*WeaviateClient or Weav"),
        ({"type": "QdrantClient"}, r"store\.client: got the type 'QdrantClient'"),
        ({"type": "WeaviateClient"}, r"store\.client\.http: got NoneType, wanted .* host, port and secure"),
        (client_of(grpc="localhost"), r"store\.client\.grpc: got str"),
        (client_of(http={"host": "a", "port": 1}), r"store\.client\.http: got \['host', 'port'\]"),
        (client_of(http={**HTTP, "user": "s"}), r"store\.client\.http: got .*'user'"),
        (client_of(http={**HTTP, "host": 5}), r"store\.client\.http\.host: got int"),
        (client_of(http={**HTTP, "host": ""}), r"store\.client\.http\.host: is empty"),
        (client_of(http={**HTTP, "host": "me:s3cret@a"}), r"store\.client\.http\.host: .*WEAVIATE_API_KEY"),
        (client_of(grpc={**GRPC, "host": "a/?key=s3cret"}), r"store\.client\.grpc\.host: .*WEAVIATE_API_KEY"),
        (client_of(http={**HTTP, "port": "8080"}), r"store\.client\.http\.port: got str"),
        (client_of(http={**HTTP, "port": True}), r"store\.client\.http\.port: got bool"),
        (client_of(grpc={**GRPC, "port": 1 << 16}), r"store\.client\.grpc\.port: got 65536, wanted 1 to 65,535"),
        (client_of(http={**HTTP, "secure": 1}), r"store\.client\.http\.secure: got int"),
        (client_of(grpc=HTTP), r"store\.client\.grpc\.port: got 8080, which is that of http"),
        (client_of(timeout=5), r"store\.client\.timeout: got int"),
        (client_of(timeout={"querry": 5}), r"store\.client\.timeout\.querry: unknown, wanted one of query"),
        (client_of(timeout={"query": -1}), r"store\.client\.timeout\.query: got int, wanted seconds"),
        (client_of(timeout={"query": float("nan")}), r"store\.client\.timeout\.query: got nan"),
        (client_of(timeout={"query": "5"}), r"store\.client\.timeout\.query: got str"),
        (client_of(skip_init_checks="yes"), r"store\.client\.skip_init_checks: got str"),
        (client_of(api_key="s3cret"), r"store\.client\.api_key: unknown.*WEAVIATE_API_KEY"),
        (client_of(auth_credentials="s3cret"), r"store\.client\.auth_credentials: unknown.*WEAVIATE_API_KEY"),
        (client_of(headers={"X": "s3cret"}), r"store\.client\.headers: unknown"),
    ],
)
def test_a_client_that_is_none_is_refused_by_name(tiny: ColBERT, client: Any, names: str) -> None:
    description = {"type": "WeaviateStore", "model": tiny.arguments, "collection": "Notes", "client": client}
    for opened in (open_store, StoreHandle):
        with pytest.raises(ArgumentError, match=names) as caught:
            opened(description)
        assert "s3cret" not in str(caught.value)
        assert caught.value.argument.startswith("store")


ODD = [5, -1, 0.5, float("nan"), True, "x", "\0", "\ud800", [], [1], [[]], {}, {"a": 1}, {"type": []}, None, 1 << 70]


def test_a_value_that_is_odd_opens_or_is_refused(tiny: ColBERT, weaviate_server: WeaviateServer, name: str) -> None:
    """Whatever stands in a file by mistake, nothing but our own errors comes of it."""
    with weaviate_server.connect() as client:
        description = described(WeaviateStore(client, name, tiny))
    parts = {**description, **dict.fromkeys(inspect.signature(WeaviateStore).parameters)}
    for part, value in itertools.product(parts, ODD):
        with contextlib.suppress(ArgumentError, StoreError, ModelError, FileNotFoundError):
            handle = StoreHandle({**description, part: value})
            json.dumps(handle.description)
            handle.open()
            handle.close()
    for part, value in itertools.product(description["client"], ODD):
        with contextlib.suppress(ArgumentError, StoreError):
            handle = StoreHandle({**description, "client": {**description["client"], part: value}})
            handle.open()
            handle.close()
    assert SHARED.lent == {}
