"""Clients and processes of a store in Weaviate: not connected, pickled, forked, at an old server."""

from __future__ import annotations

import copy
import http.server
import json
import pickle
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import weaviate
from reference import ids, random_documents

from chandelier import ArgumentError, ColBERT
from chandelier.exceptions import StoreError
from chandelier.weaviate import WeaviateStore

if TYPE_CHECKING:
    from weaviate import WeaviateClient
    from weaviate_server import WeaviateServer

DIM = 32
Open = Callable[..., WeaviateStore]


def test_a_client_that_is_not_connected(weaviate_server: WeaviateServer, tiny: ColBERT, weaviate_name: str) -> None:
    client = weaviate_server.connect()
    store = WeaviateStore(client, weaviate_name, tiny)
    client.close()
    given = random_documents(2, DIM)
    for call in (store.count, lambda: store.search("text"), store.delete_all, store.wait_until_indexed, store.verify):
        with pytest.raises(StoreError, match=r"the client is not connected; call client.connect\(\) first"):
            call()
    with pytest.raises(StoreError, match="the client is not connected") as caught:
        store.upsert(given)
    assert caught.value.report.unknown == ids(given)
    with pytest.raises(StoreError, match="the client is not connected"):
        WeaviateStore(client, weaviate_name, tiny)
    client.connect()
    assert store.upsert(given).stored == ids(given)
    client.close()


async def test_an_asynchronous_client_that_is_not_connected(
    weaviate_server: WeaviateServer, tiny: ColBERT, weaviate_name: str
) -> None:
    client = weaviate_server.connect_async()
    store = WeaviateStore(client, weaviate_name, tiny)
    with pytest.raises(StoreError, match="the client is not connected"):
        await store.acount()
    with pytest.raises(StoreError, match=r"asynchronous \(WeaviateAsyncClient\); await asearch, .*give a Weav"):
        store.count()
    async with client:
        assert await store.acount() == 0


def test_what_is_no_client(tiny: ColBERT) -> None:
    for wrong in (None, "http://localhost:8080", weaviate):
        with pytest.raises(ArgumentError, match=r"client: got .*, wanted a WeaviateClient or a WeaviateAsyncClient"):
            WeaviateStore(wrong, "Notes", tiny)


def test_a_store_stays_in_its_process(open_weaviate: Open, weaviate_name: str) -> None:
    store = open_weaviate()
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(StoreError, match="cannot be pickled or copied: it belongs to its process"):
            attempt(store)


def test_a_store_after_a_fork(
    open_weaviate: Open, weaviate_server: WeaviateServer, weaviate_name: str, goldens: Path
) -> None:
    """gRPC opens its channels again in the child: in a process of its own, since it does not where gRPC also serves."""
    open_weaviate().upsert(random_documents(3, DIM))
    script = """
import os, sys, weaviate
from chandelier import ColBERT
from chandelier.weaviate import WeaviateStore
http, grpc, name, model = sys.argv[1:]
with weaviate.connect_to_local(host="127.0.0.1", port=int(http), grpc_port=int(grpc), skip_init_checks=True) as client:
    store = WeaviateStore(client, name, ColBERT(model))
    assert store.count() == len(store.search("text")) == 3
    child = os.fork()
    if child == 0:
        os._exit(10 + store.count() + len(store.search("text")))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 16
    assert store.count() == len(store.search("text")) == 3
"""
    ports = [str(weaviate_server.http_port), str(weaviate_server.grpc_port)]
    model = goldens / "a_bert_pylate" / "checkpoint"
    subprocess.run([sys.executable, "-c", script, *ports, weaviate_name, model], check=True, timeout=60)


class FalseServer(http.server.ThreadingHTTPServer):
    """Answers with what it is told to, wherever a client and a store look when a collection is opened."""

    answers: dict[str, Any]

    class RequestHandlerClass(http.server.BaseHTTPRequestHandler):
        server: FalseServer

        def do_GET(self) -> None:
            there = self.path in self.server.answers
            body = json.dumps(self.server.answers.get(self.path)).encode()
            self.send_response(200 if there else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), self.RequestHandlerClass)
        self.answers = {META: {"version": "1.39.0", "modules": {}}}


META, SCHEMA = "/v1/meta", "/v1/schema/Notes"


@pytest.fixture
def false_server() -> Iterator[FalseServer]:
    with FalseServer() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def false_client(false_server: FalseServer) -> Iterator[WeaviateClient]:
    port = false_server.server_port
    with weaviate.connect_to_local(port=port, grpc_port=port - 1, skip_init_checks=True) as client:
        yield client


def test_an_old_server_is_refused(false_server: FalseServer, false_client: WeaviateClient, tiny: ColBERT) -> None:
    for version in ("1.27.0", "1.32.9", "0.99", "1", "unknown", ""):
        false_server.answers[META] = {"version": version}
        with pytest.raises(StoreError, match=rf"the server is Weaviate {version}, wanted 1\.33 or newer"):
            WeaviateStore(false_client, "Notes", tiny)
    false_server.answers[META] = {"version": "2.0.0-rc.0"}
    with pytest.raises(StoreError, match="Unexpected status code"):  # of the collection
        WeaviateStore(false_client, "Notes", tiny)


@pytest.mark.parametrize(
    "meta",
    [
        *([], ["1.39.0"], "1.39.0", 1.39, {}, {"status": "ok"}, {"version": None}, {"version": ["1.39.0"]}),
        *({"version": "1.39.0", "grpcMaxMessageSize": size} for size in ("large", [], -1, 0.5, {"a": 1})),
    ],
)
def test_a_server_that_says_nonsense_of_itself(
    false_server: FalseServer, false_client: WeaviateClient, tiny: ColBERT, meta: Any
) -> None:
    false_server.answers[META] = meta
    with pytest.raises(StoreError, match=r"as /v1/meta; is there another program|wanted 1\.33 or newer"):
        WeaviateStore(false_client, "Notes", tiny)


def test_a_server_that_says_nonsense_of_a_collection(
    false_server: FalseServer,
    false_client: WeaviateClient,
    weaviate_server: WeaviateServer,
    weaviate_client: WeaviateClient,
    weaviate_name: str,
    open_weaviate: Open,
    tiny: ColBERT,
) -> None:
    """Each part of what a real server says, left out or of another kind: either it does not matter, or it is said."""
    open_weaviate(muvera=True)
    with urllib.request.urlopen(f"{weaviate_server.url}/v1/schema/{weaviate_name}") as answer:
        true = json.loads(answer.read().replace(weaviate_name.encode(), b"Notes"))
    opened = refused = 0
    for path in parts(true):
        for wrong in (None, [], {}, 5, "nonsense"):
            config = copy.deepcopy(true)
            inner = config
            for key in path[:-1]:
                inner = inner[key]
            inner[path[-1]] = wrong
            if wrong is None:
                del inner[path[-1]]
            false_server.answers[SCHEMA] = config
            try:
                WeaviateStore(false_client, "Notes", tiny, muvera=True)
                opened += 1
            except StoreError:
                refused += 1
    assert opened > 50
    assert refused > 50
    for wrong in (None, [], 5, "nonsense", {}):
        false_server.answers[SCHEMA] = wrong
        with pytest.raises(StoreError, match=r"got an answer that cannot be read|AssertionError"):
            WeaviateStore(false_client, "Notes", tiny, muvera=True)


def parts(value: Any) -> Iterator[tuple[Any, ...]]:
    """Where there is something in a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in items:
        yield (key,)
        yield from ((key, *path) for path in parts(each))
