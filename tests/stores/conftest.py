"""What the tests of stores share; pytest's importlib mode puts no folder on the path, and `contract` is one of many."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from command_line import Result, Run

from chandelier import ColBERT
from chandelier.cli import main

if TYPE_CHECKING:
    from weaviate import WeaviateClient
    from weaviate_server import WeaviateServer

    from chandelier.weaviate import WeaviateStore

sys.path.insert(0, str(Path(__file__).parent))
pytest.register_assert_rewrite("contract", "reference")


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in this process, with nothing in standard input."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")  # a usage error is one line

    def call(*arguments: str | os.PathLike[str]) -> Result:
        try:
            code = main([os.fspath(argument) for argument in arguments])
        except SystemExit as end:
            code = int(str(end.code))
        out, err = capfd.readouterr()
        return Result(code, out.encode(), err.encode())

    return call


@pytest.fixture(scope="session")
def weaviate_client(weaviate_server: WeaviateServer) -> Iterator[WeaviateClient]:
    """A client of the Weaviate that all tests share."""
    with weaviate_server.connect() as client:
        yield client


@pytest.fixture
def weaviate_name(weaviate_client: WeaviateClient) -> Iterator[str]:
    """A collection of the test's own, which nobody has made yet."""
    name = f"Notes{uuid.uuid4().hex}"
    yield name
    weaviate_client.collections.delete(name)


@pytest.fixture
def weaviate_collection(weaviate_client: WeaviateClient, weaviate_name: str) -> Any:
    """The same, as the client has it."""
    return weaviate_client.collections.use(weaviate_name)


@pytest.fixture
def open_weaviate(weaviate_client: WeaviateClient, weaviate_name: str, tiny: ColBERT) -> Callable[..., WeaviateStore]:
    """Opens a store over it: `open_weaviate(muvera=True)`."""
    from chandelier.weaviate import WeaviateStore

    return lambda name=weaviate_name, model=tiny, **options: WeaviateStore(weaviate_client, name, model, **options)
