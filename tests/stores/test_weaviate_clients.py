"""Clients and processes of a store in Weaviate: not connected, pickled, forked, at an old server."""

from __future__ import annotations

import copy
import http.server
import json
import os
import pickle
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
import weaviate
from reference import ids, random_documents

from chandelier import ArgumentError, ColBERT
from chandelier.exceptions import StoreError
from chandelier.weaviate import WeaviateStore

if TYPE_CHECKING:
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
    with pytest.raises(StoreError, match=r"has an WeaviateAsyncClient; await asearch, aupsert, ..., or give a Weav"):
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


def test_a_store_after_a_fork(open_weaviate: Open) -> None:
    """gRPC opens its channels again in the child."""
    store = open_weaviate()
    store.upsert(random_documents(3, DIM))
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(10 + store.count() + len(store.search("text")))
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 16
    assert store.count() == len(store.search("text")) == 3


class OldServer(http.server.ThreadingHTTPServer):
    """Serves nothing but `/v1/meta`, which is where a client and a store look for the version."""

    version = "1.33.0"

    class RequestHandlerClass(http.server.BaseHTTPRequestHandler):
        server: OldServer

        def do_GET(self) -> None:
            body = json.dumps({"version": self.server.version, "modules": {}}).encode()
            self.send_response(200 if self.path == "/v1/meta" else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), self.RequestHandlerClass)


@pytest.fixture
def old_server() -> Iterator[OldServer]:
    with OldServer() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_an_old_server_is_refused(old_server: OldServer, tiny: ColBERT) -> None:
    port = old_server.server_port
    with weaviate.connect_to_local(port=port, grpc_port=port - 1, skip_init_checks=True) as client:
        for version in ("1.27.0", "1.32.9", "0.99", "1", "unknown", ""):
            old_server.version = version
            with pytest.raises(StoreError, match=rf"the server is Weaviate {version}, wanted 1\.33 or newer"):
                WeaviateStore(client, "Notes", tiny)
        old_server.version = "2.0.0-rc.0"
        with pytest.raises(StoreError, match="Unexpected status code"):  # of the collection
            WeaviateStore(client, "Notes", tiny)
