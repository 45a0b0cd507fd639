"""`WeaviateStore`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from weaviate import WeaviateAsyncClient, WeaviateClient

from chandelier.exceptions import ArgumentError, StoreError
from chandelier.models import ColBERT
from chandelier.multivectors import checked_count
from chandelier.scores import checked_bool
from chandelier.store.descriptions import description_of
from chandelier.store.documents import Hit
from chandelier.store.encoding import Encoding
from chandelier.store.points.checks import checked_options
from chandelier.store.points.client_store import ClientStore
from chandelier.store.points.engine import DEPTH, LAYOUT_VERSION, Layout
from chandelier.store.points.operations import Operations
from chandelier.weaviate.collection import Collection
from chandelier.weaviate.description import checked_client, described_client, opened_client
from chandelier.weaviate.engine import MOST_HITS, CollectionEngine
from chandelier.weaviate.failures import ERRORS, Patience, translated
from chandelier.weaviate.hybrid import hybrid_search
from chandelier.weaviate.layout import (
    DECIDED,
    Wanted,
    checked_muvera,
    checked_name,
    checked_quantizer,
    checked_tenant,
)
from chandelier.weaviate.properties import checked_properties
from chandelier.weaviate.server import connect_async, url_of
from chandelier.weaviate.verification import Verification, verify

__all__ = ["WeaviateStore"]

NEIGHBOURS = 50
"""Of each row of a query by default: more took longer, and found nearly the same, on real texts."""

SECONDS_AT_FIRST = 5.0
"""For the requests that open a store: a server that is not there should show soon."""


class WeaviateStore(ClientStore):
    """Documents in a collection of Weaviate; a `Store`.

    A collection that is not there is made: a named multi-vector `colbert` (self-provided, DOT, HNSW), the properties
    `doc_id`, `text` (searched by BM25), `metadata` (JSON), `filter_terms` (what our filters ask) and `row_count`. One
    that is there is read back, and refused if another model or encoding wrote it. The object's id is a UUID made of the
    document's; scores are MaxSim of the rows as they were given, in float32, under every setting.

    Failures that may pass (no connection, a server that starts or stops, 429, 503) are tried again until `timeout`. A
    document that is there, or whose fate an error has hidden, is deleted and then stored: Weaviate leaves an equal
    object as it is, also if a crash has kept it out of the index. In the moment between, at most 16 documents that are
    replaced are gone. Writers of one process take turns; two processes must not write the same ids at once.

    Args:
        client: A connected `WeaviateClient`, or a `WeaviateAsyncClient` for the methods that begin with `a`; the
            collection is then looked at in the first of them. The store does not close it.
        collection: Its name, with a capital letter in front, as Weaviate wants it.
        model: Encodes documents and queries.
        muvera: True, or `{"ksim": 4, "dprojections": 16, "repetitions": 10}` (those are Weaviate's defaults): the
            server computes a fixed-dimensional encoding of each document, finds candidates by it, and scores them by
            MaxSim. None puts every row into the index: exact or nearly so, and several times slower to store.
            `chandelier.Muvera` computes other encodings (other seeds), so it is not taken here.
        tenant: Whose documents these are; the collection is then one with tenants.
        create_tenant: Make a tenant that is not there, in a collection that is; a new collection is made with it.
        quantizer: `"rq"`, `"bq"`, `"sq"` or `"pq"`: compress the index. Scores stay exact, candidates may be lost.
        properties: Fields of the metadata that become properties of Weaviate's own, for its filters, aggregations and
            other programs: `{"lang": "text", "year": "int"}`, of the kinds `text`, `int`, `number`, `boolean` and lists
            of them (`"text[]"`). A document whose value is of another kind is refused. `"auto"` declares what the first
            documents hold, 100 fields at most; values of another kind are then left out. Filters in our dialect need
            none of them.
        depth: Candidates of a search that does not say how many, and `ef` of a new collection; 200 with MUVERA. Without
            it, how many neighbours each row of the query finds, 50.
        pool_factor: Token pooling of documents, as in `encode_documents`.
        protected_tokens: How many rows at the start it leaves alone.
        create_options: More arguments for `collections.create`: `replication_config`, `sharding_config`, ...
        timeout: Seconds after which a read is given up, and a failure that may pass is not tried again (5 at most while
            the store is opened). A request that writes is waited for as long as the client does (its own
            `Timeout(insert=90)`).

    Raises:
        ArgumentError: If an argument is out of range; it names it.
        StoreError: If the server does not answer, or the collection has another layout, model or encoding.
    """

    _errors = ERRORS
    _async_client = WeaviateAsyncClient
    _checked_client = staticmethod(checked_client)
    _opened_client = staticmethod(opened_client)

    def __init__(
        self,
        client: WeaviateClient | WeaviateAsyncClient,
        collection: str,
        model: ColBERT,
        *,
        muvera: bool | Mapping[str, int] | None = None,
        tenant: str | None = None,
        create_tenant: bool = False,
        quantizer: str | None = None,
        properties: Mapping[str, str] | str | None = None,
        depth: int | None = None,
        pool_factor: int = 1,
        protected_tokens: int = 1,
        create_options: Mapping[str, Any] | None = None,
        timeout: float = 60.0,
    ) -> None:
        if not isinstance(client, (WeaviateClient, WeaviateAsyncClient)):
            got = type(client).__name__
            wanted = "wanted a WeaviateClient or a WeaviateAsyncClient: weaviate.connect_to_local()"
            raise ArgumentError(f"client: got {got}, {wanted}", argument="client")
        options = checked_options(create_options, client.collections.create, DECIDED)
        if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 < timeout <= 1e6:
            raise ArgumentError(f"timeout: got {timeout!r}, wanted seconds", argument="timeout")
        encoding = Encoding(model, pool_factor, protected_tokens)
        self._given = {
            "collection": checked_name(collection),
            "muvera": muvera,
            "tenant": checked_tenant(tenant),
            "create_tenant": checked_bool("create_tenant", create_tenant),
            "quantizer": checked_quantizer(quantizer),
            "properties": properties,
            "depth": depth,
            "pool_factor": pool_factor,
            "protected_tokens": protected_tokens,
            "create_options": create_options,
            "timeout": timeout,
        }
        kinds = checked_properties(properties)
        numbers = checked_muvera(muvera)
        default = DEPTH if numbers else NEIGHBOURS
        least = default if depth is None else checked_count("depth", depth, most=MOST_HITS)
        wanted = Wanted(numbers, quantizer, kinds or {}, least, tenant is not None)
        layout = _layout(encoding, wanted, collection)
        is_async = isinstance(client, WeaviateAsyncClient)
        where = f" of {url_of(client)}"
        name = f"collection {collection!r}" + where + (f", tenant {tenant!r}" if tenant is not None else "")
        self._timeout = float(timeout)
        self._connecting = asyncio.Lock()
        self._engine = CollectionEngine(
            Collection(client, collection, tenant, called=name, is_async=is_async, timeout=self._timeout),
            wanted,
            create_tenant=create_tenant,
            create_options=options,
            guesses=kinds is None,
        )
        operations = Operations(name, encoding, self._engine, layout, None, None)
        self._start(client, operations)

    def __repr__(self) -> str:
        return f"WeaviateStore({self._operations.name})"

    @property
    def description(self) -> dict[str, Any]:
        """What the store was opened with, as plain JSON: `chandelier.store.open_store` opens it again from that.

        A server's key is left out, and read from `WEAVIATE_API_KEY` by whoever opens it.

        Raises:
            ArgumentError: If there is a setting that a file cannot hold: headers, proxies, a login that is no key, an
                embedded server, objects among `create_options`.
        """
        return description_of(WeaviateStore, self.model, client=described_client(self._client), **self._given)

    async def aopen(self) -> None:
        """Make the collection, or look at the one that is there; the first call of another method does so too."""
        if self._owns_client and self._is_async:
            async with self._connecting:
                self._check_open()
                await connect_async(self._client)
        await super().aopen()

    def hybrid_search(
        self,
        query: str,
        k: int = 10,
        *,
        alpha: float = 0.5,
        fusion: str = "relative",
        filter: Any = None,
        depth: int | None = None,
        explain: bool = False,
        with_vectors: bool = False,
    ) -> list[Hit]:
        """The `k` documents that Weaviate's hybrid search ranks highest: BM25 of the text and vectors, fused.

        The order is the one of the fusion; `Hit.score` is the document's MaxSim nevertheless, as everywhere.

        Args:
            query: A text.
            k: How many.
            alpha: How much the vectors count, from 0 (words only) to 1.
            fusion: `"relative"`, of scores brought between 0 and 1, or `"ranked"`, of places.
            filter: What the metadata must be like.
            depth: How many candidates are fused, as in `search`.
            explain: Say which words matched.
            with_vectors: Give the rows of the hits too.
        """
        options = dict(
            alpha=alpha, fusion=fusion, filter=filter, depth=depth, explain=explain, with_vectors=with_vectors
        )
        return self._run(hybrid_search(self._operations, self._engine, query, k, **options))

    async def ahybrid_search(
        self,
        query: str,
        k: int = 10,
        *,
        alpha: float = 0.5,
        fusion: str = "relative",
        filter: Any = None,
        depth: int | None = None,
        explain: bool = False,
        with_vectors: bool = False,
    ) -> list[Hit]:
        """As `hybrid_search`."""
        options = dict(
            alpha=alpha, fusion=fusion, filter=filter, depth=depth, explain=explain, with_vectors=with_vectors
        )
        return await self._arun(hybrid_search(self._operations, self._engine, query, k, **options))

    def verify(self, *, repair: bool = False) -> Verification:
        """Find documents that are stored and that no search finds, or no filter: each is looked for with its own rows.

        A server that dies while it stores can leave such, and one at which all searches in its neighbourhood end;
        `upsert` with what was under way mends that too. It takes two requests for each document. One of which some rows
        are in the index, and others are not, counts as found.

        Args:
            repair: Delete and store again, with the rows that are stored, each of them, or the few documents at which
                the search for it ends.

        Raises:
            RepairError: If it ends in the middle of a repair; its `verification.removed` has the documents that were
                deleted and are not stored again.
        """
        return self._run_to_end(verify(self._operations, self._engine, repair=checked_bool("repair", repair)))

    async def averify(self, *, repair: bool = False) -> Verification:
        """As `verify`."""
        steps = verify(self._operations, self._engine, repair=checked_bool("repair", repair))
        return await self._arun(steps, writes=True)

    def _patience(self, *, opens: bool) -> Patience:
        seconds = min(self._timeout, SECONDS_AT_FIRST) if opens else self._timeout
        return Patience(time.monotonic() + seconds)

    def _translated(self, error: Exception) -> StoreError:
        return translated(error, self._operations.name)


def _layout(encoding: Encoding, wanted: Wanted, collection: str) -> Layout:
    settings: dict[str, str | int] = {
        "layout": LAYOUT_VERSION,
        "namespace": collection,
        "model": encoding.fingerprint,
        "dim": encoding.dim,
    }
    if wanted.fingerprint is not None:
        settings["prefetch"] = wanted.fingerprint
    finder = (
        "an index of all rows"
        if wanted.muvera is None
        else "Weaviate's MUVERA ({ksim}, {dprojections}, {repetitions})".format(**wanted.muvera)
    )
    on_disk = wanted.muvera is not None  # an index of all rows holds them in memory
    return Layout(encoding.dim, "float32", on_disk, wanted.fde_size, False, settings, finder=finder, depth=wanted.depth)
