"""``chandelier index`` and ``chandelier search`` over a real Weaviate."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from command_line import Result, Run, jsonl
from test_cli_stores import CHECKPOINT, DOCUMENTS, OBJECTS, OTHER, QUERY

from chandelier import ColBERT
from chandelier.weaviate import WeaviateStore

if TYPE_CHECKING:
    from weaviate_server import WeaviateServer


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """Documents as JSONL."""
    path = tmp_path / "notes.jsonl"
    path.write_bytes(jsonl(OBJECTS))
    return path


@pytest.fixture
def name(weaviate_server: WeaviateServer) -> Iterator[str]:
    """A collection of the test's own."""
    name = f"Notes{uuid.uuid4().hex}"
    yield name
    with weaviate_server.connect() as client:
        client.collections.delete(name)


@pytest.fixture
def there(weaviate_server: WeaviateServer, name: str) -> list[str]:
    return [*address(weaviate_server), "--collection", name]


def address(server: WeaviateServer) -> list[str]:
    return ["--weaviate", server.url, "--grpc-port", str(server.grpc_port)]


@pytest.mark.parametrize("tenant", [None, "acme"])
@pytest.mark.parametrize("muvera", [False, True])
def test_index_twice_and_search(
    run: Run,
    call: Run,
    notes: Path,
    tiny: ColBERT,
    weaviate_server: WeaviateServer,
    name: str,
    there: list[str],
    muvera: bool,
    tenant: str | None,
) -> None:
    chandelier = run if muvera and tenant else call  # once as a process of its own
    there += ["--tenant", tenant] if tenant else []
    for options in (["--muvera"] if muvera else [], []):  # the second time as it was made
        result = chandelier("index", CHECKPOINT, "notes.jsonl", *there, *options, "--timeout", "30")
        assert (result.code, result.out) == (0, ""), result.err
        assert result.err.startswith(f"chandelier: collection {name}: stored 4, ")
        assert result.err.count("\n") == 1

    with weaviate_server.connect() as client:
        store = WeaviateStore(client, name, tiny, muvera=muvera, tenant=tenant)  # refuses one of another encoding
        assert sorted(store.iterate(), key=lambda each: each.id) == sorted(DOCUMENTS, key=lambda each: each.id)
        hits = store.search(QUERY, 2, filter={"lang": "en"}, depth=5)
    options = ["-k", "2", "--filter", '{"lang": "en"}', "--depth", "5", "--timeout", "20", "--json"]
    found = chandelier("search", CHECKPOINT, "--query", QUERY, *there, *options)
    assert (found.code, found.err) == (0, "")
    assert [(hit["id"], hit["metadata"]) for hit in found.rows()] == [(hit.id, hit.metadata) for hit in hits]
    assert [hit["score"] for hit in found.rows()] == pytest.approx([hit.score for hit in hits], rel=1e-5)


def test_the_report_in_json(call: Run, notes: Path, there: list[str]) -> None:
    result = call("index", CHECKPOINT, notes, *there, "--json")
    assert (result.code, result.err) == (0, "")
    (report,) = result.rows()
    assert sorted(report["stored"]) == sorted(document.id for document in DOCUMENTS)
    assert (report["failed"], report["unknown"]) == ({}, [])


def test_an_encoding_that_was_made_in_python(
    call: Run, notes: Path, tiny: ColBERT, weaviate_server: WeaviateServer, name: str, there: list[str]
) -> None:
    with weaviate_server.connect() as client:
        WeaviateStore(client, name, tiny, muvera={"ksim": 3, "dprojections": 8, "repetitions": 5})
    assert call("index", CHECKPOINT, notes, *there, "--muvera").code == 0
    found = call("search", CHECKPOINT, "--query", QUERY, *there, "--json")
    assert (found.code, len(found.rows())) == (0, 4), found.err


def test_refusals(call: Run, notes: Path, weaviate_server: WeaviateServer, name: str, there: list[str]) -> None:
    index, search = ("index", CHECKPOINT, notes, *there), ("search", CHECKPOINT, "--query", QUERY, *there)
    call(*search).check_error(f"{weaviate_server.url}: no collection '{name}'; chandelier index makes one")
    with weaviate_server.connect() as client:
        assert not client.collections.exists(name), "a search made it"
    assert call(*index).code == 0
    call(*index, "--muvera").check_error(f"collection '{name}'", "was made with no muvera", "open it with no muvera")
    call(*search, "--tenant", "acme").check_error("has no tenants")
    call("search", OTHER, "--query", QUERY, *there).check_error(f"collection '{name}'")
    call(*search, "--depth", "3", "-k", "4").check_error("depth: got 3 with k=4")
    small = [part.replace(name, name.lower()) for part in index[3:]]
    call(*index[:3], *small).check_error(f"which Weaviate would call '{name}'; name it so")


def test_tenants(call: Run, notes: Path, weaviate_server: WeaviateServer, name: str, there: list[str]) -> None:
    assert call("index", CHECKPOINT, notes, *there, "--tenant", "acme").code == 0
    search = ("search", CHECKPOINT, "--query", QUERY, *there)
    call(*search, "--tenant", "globex").check_error("no tenant 'globex'; chandelier index makes one")
    call(*search).check_error(f"collection '{name}' has tenants; name one with --tenant")
    assert call("index", CHECKPOINT, notes, *there, "--tenant", "globex").code == 0, "made by the first that stores"
    assert len(call(*search, "--tenant", "globex", "--json").rows()) == 4


def test_a_collection_of_somebody_else(
    call: Run, notes: Path, weaviate_server: WeaviateServer, name: str, there: list[str]
) -> None:
    with weaviate_server.connect() as client:
        client.collections.create(name)
    for command in (("index", CHECKPOINT, notes), ("search", CHECKPOINT, "--query", QUERY)):
        call(*command, *there).check_error(f"collection '{name}'", "no store of ours wrote it")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://127.0.0.1:1", "Connection refused"),
        ("http://[::1]:1", "Connection refused"),
        ("http://h ost", ""),
        ("http://no-such-host.invalid", "not known"),
        ("https://a..b", ""),
    ],
)
def test_a_mistyped_url_shows_at_once(call: Run, notes: Path, url: str, why: str) -> None:
    begun = time.monotonic()
    for command in (("index", CHECKPOINT, notes), ("search", CHECKPOINT, "--query", QUERY)):
        call(*command, "--weaviate", url, "--collection", "Notes").check_error(url, why)
    assert time.monotonic() - begun < 10


def test_a_mistyped_port_for_grpc_shows_at_once(call: Run, notes: Path, weaviate_server: WeaviateServer) -> None:
    index = ("index", CHECKPOINT, notes, "--weaviate", weaviate_server.url, "--collection", "Notes")
    begun = time.monotonic()
    for port, named in (([], "port 50051"), (["--grpc-port", "1"], "port 1")):
        call(*index, *port).check_error(weaviate_server.url, f"not over gRPC ({named}", "with --grpc-port")
    same = str(weaviate_server.http_port)
    call(*index, "--grpc-port", same).check_error(f"gRPC cannot be on port {same}, too; name its own with --grpc-port")
    assert time.monotonic() - begun < 10


def test_a_cloud_is_connected_to_as_the_client_does(call: Run, notes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def nobody(host: Any, port: Any, *_: Any, **__: Any) -> Any:
        asked.append((host, port))
        raise socket.gaierror("there is no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    monkeypatch.setenv("WEAVIATE_API_KEY", "s3cret")
    url = "https://x.c0.weaviate.cloud"
    result = call("index", CHECKPOINT, notes, "--weaviate", url, "--collection", "Notes")
    result.check_error(url)
    assert "s3cret" not in result.err
    assert {(str(host), port) for host, port in asked} == {("x.c0.weaviate.cloud", 443)}


def test_the_key_comes_from_the_environment_only(
    call: Run, notes: Path, start_weaviate: type[WeaviateServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    with start_weaviate(api_key="open sesame") as server:
        index = ("index", CHECKPOINT, notes, *address(server), "--collection", "Notes")
        monkeypatch.delenv("WEAVIATE_API_KEY", raising=False)
        call(*index).check_error("401", "anonymous access not enabled", "set WEAVIATE_API_KEY")
        monkeypatch.setenv("WEAVIATE_API_KEY", "friend")
        wrong = call(*index)
        wrong.check_error("401", "invalid api key", "the key in WEAVIATE_API_KEY is not one of")
        assert "friend" not in wrong.err
        monkeypatch.setenv("WEAVIATE_API_KEY", "open sesame")
        right = call(*index)
        assert right.code == 0, right.err


def test_without_the_extra_one_line_says_what_to_install(notes: Path) -> None:
    code = "import sys; sys.modules['weaviate'] = None; from chandelier.cli import main; sys.exit(main())"
    arguments = ["index", os.fspath(CHECKPOINT), os.fspath(notes), "--weaviate", "http://h", "--collection", "C"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, timeout=60, check=False)
    Result(done.returncode, done.stdout, done.stderr).check_error("pip install 'chandelier[weaviate]'")
