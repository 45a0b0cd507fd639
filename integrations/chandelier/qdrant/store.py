"""`QdrantStore`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qdrant_client import AsyncQdrantClient, QdrantClient

from chandelier.exceptions import ArgumentError, StoreError
from chandelier.models import ColBERT
from chandelier.multivectors import checked_count
from chandelier.prefetch import PrefetchEncoder
from chandelier.qdrant.client import ClientEngine
from chandelier.qdrant.description import checked_client, described_client, opened_client
from chandelier.qdrant.failures import ERRORS, Patience, translated
from chandelier.qdrant.layout import DECIDED
from chandelier.scores import checked_bool
from chandelier.store.descriptions import description_of
from chandelier.store.encoding import Encoding
from chandelier.store.points.checks import checked_options
from chandelier.store.points.client_store import ClientStore
from chandelier.store.points.operations import Operations, layout_of
from chandelier.store.points.sparse import SparseEncoder

__all__ = ["QdrantStore"]

RETRIES_AT_FIRST = 2
"""Of the requests that open a store: a server that is not there should show soon."""


class QdrantStore(ClientStore):
    """Documents in a collection of Qdrant; a `Store`.

    A collection that is not there is made: a multi-vector `colbert` (DOT, MAX_SIM, no graph), with a prefetch encoder a
    vector `prefetch`, with a sparse encoder the words `bm25`. One that is there is read back, and refused if it would
    not give MaxSim of this model's rows. Payload: `doc_id`, `text` and `metadata`; the point's id is a UUID made of the
    document's. Points of others are left alone, and not searched if they have no `colbert`.

    Failures that may pass (no connection, a timeout, 429, 5xx) are tried again with growing waits; a batch that is
    refused is halved until the documents at fault are found. Every write is acknowledged before it is reported.

    Args:
        client: A `QdrantClient`, or an `AsyncQdrantClient` for the methods that begin with `a`; the collection is then
            looked at in the first of them. The store does not close it.
        collection: Its name.
        model: Encodes documents and queries.
        prefetch: `Muvera(dim)` or `MeanVector(dim)`: candidates are found by one vector, and `depth` of them scored by
            MaxSim, in one request. None scores all documents.
        datatype: `"float16"` or `"float32"`, of the vectors of a new collection.
        on_disk: Whether the rows of a new collection stay on disk.
        sparse: `Bm25()`: candidates are found by words too, and both lists fused.
        payload_indexes: Fields of the metadata that are filtered on, with their kinds: `"keyword"`, `"integer"`,
            `"float"`, `"bool"`, ...; filters on others are slow, and refused by a server in strict mode.
        pool_factor: Token pooling of documents, as in `encode_documents`.
        protected_tokens: How many rows at the start it leaves alone.
        create_options: More arguments for `create_collection`: `shard_number`, `quantization_config`, ...
        adopt: Take over a collection that keeps no fingerprint, because you know that this model wrote it.
        retries: How often a request is tried again; twice at most while the store is opened.
        timeout: Seconds for a request to write, search, read or delete, instead of the client's own, which are 5 if it
            was not told; 60 to write over gRPC. (A gRPC client gives up a deletion after its own in any case.)

    Raises:
        ArgumentError: If an argument is out of range; it names it.
        StoreError: If the server does not answer, or the collection has another layout, model or prefetch encoder.

    Examples:
        >>> from qdrant_client import QdrantClient
        >>> from chandelier import ColBERT, MeanVector
        >>> from chandelier.store import Document
        >>> model = ColBERT("tests/goldens/a_bert_pylate/checkpoint")
        >>> store = QdrantStore(QdrantClient(":memory:"), "notes", model, prefetch=MeanVector(model.dim))
        >>> print(store.upsert([Document("a", "Paris is in France."), Document("b", "Bread needs flour.")]))
        stored 2
        >>> [hit.id for hit in store.search("where is paris?", k=1)]
        ['a']
    """

    _errors = ERRORS
    _async_client = AsyncQdrantClient
    _checked_client = staticmethod(checked_client)
    _opened_client = staticmethod(opened_client)

    def __init__(
        self,
        client: QdrantClient | AsyncQdrantClient,
        collection: str,
        model: ColBERT,
        *,
        prefetch: PrefetchEncoder | None = None,
        datatype: str = "float16",
        on_disk: bool = True,
        sparse: SparseEncoder | None = None,
        payload_indexes: Mapping[str, str] | None = None,
        pool_factor: int = 1,
        protected_tokens: int = 1,
        create_options: Mapping[str, Any] | None = None,
        adopt: bool = False,
        retries: int = 6,
        timeout: int | None = None,
    ) -> None:
        if not isinstance(client, (QdrantClient, AsyncQdrantClient)):
            got = type(client).__name__
            raise ArgumentError(f"client: got {got}, wanted a QdrantClient or an AsyncQdrantClient", argument="client")
        if not isinstance(collection, str) or not collection:
            raise ArgumentError(f"collection: got {collection!r}, wanted a name", argument="collection")
        options = checked_options(create_options, client.create_collection, DECIDED)
        encoding = Encoding(model, pool_factor, protected_tokens)
        layout = layout_of(
            encoding,
            datatype=datatype,
            on_disk=on_disk,
            prefetch=prefetch,
            sparse=sparse,
            payload_indexes=payload_indexes or {},
            namespace=collection,
        )
        self._given = {
            "collection": collection,
            "prefetch": prefetch,
            "datatype": datatype,
            "on_disk": on_disk,
            "sparse": sparse,
            "payload_indexes": payload_indexes,
            "pool_factor": pool_factor,
            "protected_tokens": protected_tokens,
            "create_options": create_options,
            "adopt": adopt,
            "retries": retries,
            "timeout": timeout,
        }
        self._retries = checked_count("retries", retries, least=0)
        timeout = None if timeout is None else checked_count("timeout", timeout)
        name = f"collection {collection!r}" + _where(client)
        engine = ClientEngine(
            client, collection, name, create_options=options, adopt=checked_bool("adopt", adopt), timeout=timeout
        )
        self._sends_ahead = not engine.is_local  # local mode belongs to the thread that made it
        operations = Operations(name, encoding, engine, layout, prefetch, sparse)
        self._start(client, operations)

    def __repr__(self) -> str:
        return f"QdrantStore({self._operations.name})"

    @property
    def description(self) -> dict[str, Any]:
        """What the store was opened with, as plain JSON: `chandelier.store.open_store` opens it again from that.

        A server's key is left out, and read from `QDRANT_API_KEY` by whoever opens it.

        Raises:
            StoreError: If the client is in memory.
            ArgumentError: If there is a setting that a file cannot hold: headers, a token provider, an encoder of your
                own making.
        """
        return description_of(QdrantStore, self.model, client=described_client(self._client), **self._given)

    def _patience(self, *, opens: bool) -> Patience:
        return Patience(min(self._retries, RETRIES_AT_FIRST) if opens else self._retries)

    def _translated(self, error: Exception) -> StoreError:
        return translated(error, self._operations.name)


def _where(client: QdrantClient | AsyncQdrantClient) -> str:
    """Where the client's server is, for errors; nothing of local mode."""
    options = client.init_options
    if options.get("path") is not None or options.get("location") == ":memory:":
        return ""
    url = options.get("url") or options.get("location") or options.get("host") or "localhost"
    return f" of {url}"
