"""What the tests of all hosts share."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from chandelier import ColBERT, Document

if TYPE_CHECKING:
    from chandelier.weaviate import WeaviateStore

sys.path.insert(0, str(Path(__file__).parent))  # pytest's importlib mode puts no folder on the path
pytest.register_assert_rewrite("hosts_contract")


@pytest.fixture(scope="module")
def open_weaviate(request: pytest.FixtureRequest) -> Iterator[Callable[[ColBERT, str], WeaviateStore]]:
    """Makes stores over the real Weaviate, by their names in `WEAVIATE`, each in a collection of its own."""
    from hosts_contract import WEAVIATE

    with ExitStack() as opened:

        def make(model: ColBERT, name: str) -> WeaviateStore:
            from chandelier.weaviate import WeaviateStore

            server = request.getfixturevalue("weaviate_server")
            client = opened.enter_context(server.connect())
            collection = f"Notes{uuid.uuid4().hex}"
            opened.callback(client.collections.delete, collection)
            return WeaviateStore(client, collection, model, **WEAVIATE[name])

        yield make


@pytest.fixture(scope="module", params=["weaviate", "weaviate-muvera"])
def filled_weaviate(
    request: pytest.FixtureRequest, tiny: ColBERT, open_weaviate: Callable[[ColBERT, str], WeaviateStore]
) -> WeaviateStore:
    """The documents of the contract, no two alike, whose order the server would leave open."""
    from hosts_contract import TEXTS, items

    store = open_weaviate(tiny, request.param)
    store.upsert(Document(each.id, each.text, each.metadata) for each in items([*TEXTS[:-1], "The sea is deep."]))
    return store
