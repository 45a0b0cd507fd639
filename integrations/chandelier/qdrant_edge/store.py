"""`QdrantEdgeStore`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from chandelier.exceptions import ChandelierError
from chandelier.models import ColBERT
from chandelier.multivectors import checked_path
from chandelier.prefetch import PrefetchEncoder
from chandelier.qdrant_edge.failures import is_panic, translated
from chandelier.qdrant_edge.shard import ShardEngine
from chandelier.store.descriptions import description_of
from chandelier.store.encoding import Encoding
from chandelier.store.points.operations import Operations, layout_of
from chandelier.store.points.sparse import SparseEncoder
from chandelier.store.points.steps import Call
from chandelier.store.points.store import PointStore

__all__ = ["QdrantEdgeStore"]

NAMESPACE = "edge"
"""Of the ids: the same for every folder, so that one can be moved."""


class QdrantEdgeStore(PointStore):
    """Documents in Qdrant's engine, in this process and one folder; a `Store`.

    The folder is made if it is not there; one that holds anything else is refused. One store of one process has it open
    at a time. Vectors, payload and filters are those of `QdrantStore`, over the package `qdrant-edge-py`.

    What an upsert has reported is there after a kill; a power cut may take what was not flushed, as `close` and `flush`
    do. All documents are scored without a prefetch encoder. With one, its vectors are compared one by one until
    `optimize` builds an index over them, as it does when they take 10 MB or more.

    The engine's own limits: it holds Python's lock while it works, so that other threads and the event loop wait for a
    search. It does not survive a fork. With float16 it rounds the query, too. Floats of the metadata with 17 digits may
    come back with the last one changed. It keeps no checksums: not every damage to its files is noticed.

    Args:
        path: The folder.
        model: Encodes documents and queries.
        prefetch: `Muvera(dim)` or `MeanVector(dim)`: candidates are found by one vector, and `depth` of them scored by
            MaxSim. None scores all documents.
        datatype: `"float16"` or `"float32"`, of the vectors.
        on_disk: Whether the rows of a new store stay on disk until they are read.
        sparse: `Bm25()`: candidates are found by words too, and both lists fused.
        payload_indexes: Fields of the metadata that are filtered on, with their kinds: `"keyword"`, `"integer"`,
            `"float"`, `"bool"`, ...; filters on others read the metadata of every document. A value of another
            kind than declared may not be found under `"integer"` and `"datetime"`.
        pool_factor: Token pooling of documents, as in `encode_documents`.
        protected_tokens: How many rows at the start it leaves alone.

    Raises:
        ArgumentError: If an argument is out of range; it names it.
        StoreError: If the folder is open elsewhere, no store, or of another model, prefetch encoder, sparse encoder or
            datatype.

    Examples:
        >>> import tempfile
        >>> from chandelier import ColBERT, MeanVector
        >>> from chandelier.store import Document
        >>> model = ColBERT("tests/goldens/a_bert_pylate/checkpoint")
        >>> with QdrantEdgeStore(tempfile.mkdtemp(), model, prefetch=MeanVector(model.dim)) as store:
        ...     print(store.upsert([Document("a", "Paris is in France."), Document("b", "Bread needs flour.")]))
        ...     print([hit.id for hit in store.search("where is paris?", k=1)])
        stored 2
        ['a']
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        model: ColBERT,
        *,
        prefetch: PrefetchEncoder | None = None,
        datatype: str = "float16",
        on_disk: bool = True,
        sparse: SparseEncoder | None = None,
        payload_indexes: Mapping[str, str] | None = None,
        pool_factor: int = 1,
        protected_tokens: int = 1,
    ) -> None:
        folder = os.path.abspath(checked_path("path", path))  # whatever becomes of the working directory
        encoding = Encoding(model, pool_factor, protected_tokens)
        layout = layout_of(
            encoding,
            datatype=datatype,
            on_disk=on_disk,
            prefetch=prefetch,
            sparse=sparse,
            payload_indexes=payload_indexes or {},
            namespace=NAMESPACE,
        )
        self._given = {
            "path": folder,
            "prefetch": prefetch,
            "datatype": datatype,
            "on_disk": on_disk,
            "sparse": sparse,
            "payload_indexes": payload_indexes,
            "pool_factor": pool_factor,
            "protected_tokens": protected_tokens,
        }
        self._engine = ShardEngine(folder)
        self._operations = Operations(folder, encoding, self._engine, layout, prefetch, sparse)
        try:
            self._run(self._operations.open())
        except BaseException:
            self._engine.close()
            raise

    def __repr__(self) -> str:
        return f"QdrantEdgeStore({self._operations.name!r})"

    @property
    def description(self) -> dict[str, Any]:
        """What the store was opened with, as plain JSON: `chandelier.store.open_store` opens it again from that.

        Raises:
            ArgumentError: If it has an encoder of your own making, which a file cannot hold.
        """
        return description_of(QdrantEdgeStore, self.model, **self._given)

    def optimize(self) -> bool:
        """Index what was stored and give back the room of what was deleted or replaced; whether there was any to do.

        It takes as long as it takes: neither a timeout nor Ctrl-C stops the engine. `wait_until_indexed` does the same.

        Raises:
            StoreError: If the disk has no room for a second copy of the documents.
        """
        return self._run(self._engine.optimize())

    def flush(self) -> None:
        """Write to the disk what the operating system still holds, so that a power cut does not take it."""
        self._run(self._engine.flush())

    def close(self) -> None:
        """Flush, and let others open the folder; closing again does nothing."""
        self._ask(Call(self._engine.close))

    def _ask(self, call: Call, wait: Callable[[float], object] = time.sleep) -> Any:
        try:
            return call.function()
        except ChandelierError:
            raise
        except Exception as error:
            raise translated(error, self._operations.name) from error
        except BaseException as error:
            if not is_panic(error):
                raise
            raise translated(error, self._operations.name) from error
