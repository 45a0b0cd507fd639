"""`WeaviateStore` over a real server: the contract, plain and MUVERA, synchronous and asynchronous, with tenants."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from contract import StoreContract

from chandelier import ColBERT
from chandelier.weaviate import WeaviateStore

if TYPE_CHECKING:
    from weaviate_server import WeaviateServer


class TestPlain(StoreContract):
    """Every candidate counts: a depth above the number of documents, and of their rows."""

    options: dict[str, Any] = {"depth": 10_000}  # noqa: RUF012

    @pytest.fixture
    def raw(
        self, weaviate_server: WeaviateServer, tiny: ColBERT, loop: asyncio.AbstractEventLoop | None
    ) -> Iterator[WeaviateStore]:
        name = f"Notes{uuid.uuid4().hex}"
        if loop is None:
            client = weaviate_server.connect()
            yield WeaviateStore(client, name, tiny, **self.options)
            client.close()
        else:
            aclient = weaviate_server.connect_async()
            loop.run_until_complete(aclient.connect())
            yield WeaviateStore(aclient, name, tiny, **self.options)
            loop.run_until_complete(aclient.close())
        with weaviate_server.connect() as client:
            client.collections.delete(name)


class TestAsyncPlainTenant(TestPlain):
    asynchronous = True
    options: dict[str, Any] = {"depth": 10_000, "tenant": "acme"}  # noqa: RUF012


class TestMuveraTenant(TestPlain):
    options: dict[str, Any] = {"depth": 10_000, "muvera": True, "tenant": "acme"}  # noqa: RUF012


class TestAsyncMuvera(TestPlain):
    asynchronous = True
    options: dict[str, Any] = {"depth": 10_000, "muvera": True}  # noqa: RUF012
