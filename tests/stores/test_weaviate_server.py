"""The real Weaviate of the tests: it is there when it says so, keeps what it acknowledged, and ends with its owner."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from weaviate.exceptions import UnexpectedStatusCodeError

if TYPE_CHECKING:
    from weaviate_server import WeaviateServer

HOLDER = """
import sys, time
sys.path.insert(0, sys.argv[1])
from weaviate_server import WeaviateServer
server = WeaviateServer(*sys.argv[2:])
print(server.pid, server.folder, flush=True)
time.sleep(600)
"""


def test_it_is_ready(weaviate_server: WeaviateServer) -> None:
    with weaviate_server.connect() as client:
        assert client.is_ready()
        assert client.get_meta()["version"] == "1.39.0"
    assert 30e6 < weaviate_server.memory() < 10e9


async def test_it_is_ready_for_asynchronous_clients(weaviate_server: WeaviateServer) -> None:
    async with weaviate_server.connect_async() as client:
        assert await client.is_ready()


def test_it_keeps_its_data_and_its_ports(start_weaviate: type[WeaviateServer]) -> None:
    with start_weaviate() as server, server.connect() as client:
        documents = client.collections.create("Documents")
        first = documents.data.insert({"text": "before"}, vector=[1.0, 2.0])
        before = server.url, server.grpc_port, server.pid
        server.kill()
        assert not runs(server.pid)
        server.restart()
        assert (server.url, server.grpc_port) == before[:2]
        assert server.pid != before[2]
        second = documents.data.insert({"text": "between"}, vector=[3.0, 4.0])
        server.terminate()
        assert not runs(server.pid)
        server.restart()
        assert {each.uuid for each in documents.iterator()} == {first, second}
    assert not runs(server.pid)
    assert not server.folder.exists()


def test_a_folder_of_ours_stays(start_weaviate: type[WeaviateServer], tmp_path: Path) -> None:
    with start_weaviate(tmp_path) as server, server.connect() as client:
        client.collections.create("Documents").data.insert({"text": "kept"}, vector=[1.0, 2.0])
    with start_weaviate(tmp_path) as server, server.connect() as client:
        begin = time.monotonic()
        with pytest.raises(RuntimeError, match=rf"{tmp_path}: a Weaviate runs over this folder already"):
            start_weaviate(tmp_path)
        assert time.monotonic() - begin < 10, "it is refused, and does not hang"
        assert len(client.collections.use("Documents")) == 1


def test_only_the_right_key_opens(start_weaviate: type[WeaviateServer]) -> None:
    with start_weaviate(api_key="correct horse") as server:
        with server.connect() as client:
            assert client.collections.list_all() == {}
        for key in ("correct cow", None):
            with pytest.raises(UnexpectedStatusCodeError) as caught:
                server.connect(auth_credentials=key)
            assert caught.value.status_code == 401


def test_what_it_does_not_understand_is_said(start_weaviate: type[WeaviateServer]) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)does not start: .*PERSISTENCE_HNSW_MAX_LOG_SIZE"):
        start_weaviate(PERSISTENCE_HNSW_MAX_LOG_SIZE="a lot")


@pytest.mark.parametrize("folder", ["ours", "its own"])
def test_it_ends_with_who_started_it(start_weaviate: type[WeaviateServer], tmp_path: Path, folder: str) -> None:
    given = [tmp_path / "data of ours"] if folder == "ours" else []
    command = [sys.executable, "-c", HOLDER, Path(__file__).parents[1], *given]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        pid, path = holder.stdout.readline().rstrip("\n").split(" ", 1)
        assert runs(int(pid))
        holder.kill()
    deadline = time.monotonic() + 10
    while runs(int(pid)) or (not given and Path(path).exists()):
        assert time.monotonic() < deadline, "it outlived its owner"
        time.sleep(0.01)
    if given:
        with start_weaviate(path) as server:
            assert runs(server.pid)


@pytest.mark.parametrize(("ci", "outcome"), [("", "1 skipped"), ("true", "1 error")])
def test_without_a_server_a_test_is_skipped_but_not_in_ci(tmp_path: Path, root: Path, ci: str, outcome: str) -> None:
    test = f"{Path(__file__).relative_to(root)}::test_it_is_ready"
    plugins = ["-p", "pytest_asyncio.plugin", "-p", "pytest_timeout", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *plugins, test]
    environment = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "XDG_CACHE_HOME": os.fspath(tmp_path), "CI": ci}
    done = subprocess.run(command, cwd=root, env={**os.environ, **environment}, capture_output=True, text=True)
    assert outcome in done.stdout, done.stdout
    assert "no Weaviate is built: install Go >= 1.26 and run `make weaviate`" in done.stdout


def runs(pid: int) -> bool:
    """Whether the process is there, and more than a name that its parent has not read yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
