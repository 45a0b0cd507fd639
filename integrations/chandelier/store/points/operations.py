"""What a store over points does, in steps: from documents and queries to points and requests, and back."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from chandelier.exceptions import ArgumentError, StoreError
from chandelier.multivectors import Float32Array, MultiVectors, as_matrix
from chandelier.prefetch import PrefetchEncoder
from chandelier.scores import checked_bool
from chandelier.store.documents import Document, Hit, checked_ids, point_uuid
from chandelier.store.encoding import Asked, Encoding, Query, checked_search
from chandelier.store.filters import parse, passes_everything
from chandelier.store.intake import Entry, Intake
from chandelier.store.points.engine import (
    LAYOUT_VERSION,
    MOST_PREFETCH,
    Engine,
    Found,
    Layout,
    Point,
    Refusal,
    Request,
    TimedOut,
)
from chandelier.store.points.sparse import SparseEncoder
from chandelier.store.points.steps import Steps, pause, work

__all__ = ["Operations", "layout_of"]

IDS_AT_ONCE = 1_000

QUERIES_AT_ONCE = 200
QUERY_BYTES = 4 << 20
"""Of a request that searches: far below what servers take."""

DIGITS = 22
"""Bytes of a float in JSON, at most."""


def layout_of(
    encoding: Encoding,
    *,
    datatype: str,
    on_disk: bool,
    prefetch: PrefetchEncoder | None,
    sparse: SparseEncoder | None,
    payload_indexes: Mapping[str, str],
    namespace: str,
) -> Layout:
    """What a collection must be like for a store with these options."""
    if datatype not in ("float16", "float32"):
        raise ArgumentError(f"datatype: got {datatype!r}, wanted 'float16' or 'float32'", argument="datatype")
    checked_bool("on_disk", on_disk)
    if prefetch is not None:
        if not isinstance(prefetch, PrefetchEncoder) or isinstance(prefetch, type):
            raise ArgumentError(
                f"prefetch: got {prefetch!r}, wanted Muvera(dim) or MeanVector(dim)", argument="prefetch"
            )
        dim = getattr(prefetch, "dim", encoding.dim)
        if dim != encoding.dim:
            wanted = f"wanted {encoding.dim}, as the model has"
            raise ArgumentError(f"prefetch: got an encoder of rows of {dim}, {wanted}", argument="prefetch")
        if prefetch.size > MOST_PREFETCH:
            wanted = f"wanted at most {MOST_PREFETCH:,}: fewer repetitions, dprojections or a smaller ksim"
            raise ArgumentError(f"prefetch: got encodings of {prefetch.size:,} values, {wanted}", argument="prefetch")
    if sparse is not None and (not isinstance(sparse, SparseEncoder) or isinstance(sparse, type)):
        raise ArgumentError(f"sparse: got {sparse!r}, wanted Bm25()", argument="sparse")
    if not isinstance(payload_indexes, Mapping):
        got = type(payload_indexes).__name__
        raise ArgumentError(f"payload_indexes: got {got}, wanted a mapping of fields", argument="payload_indexes")
    settings: dict[str, str | int] = {"layout": LAYOUT_VERSION, "namespace": namespace, "model": encoding.fingerprint}
    if prefetch is not None:
        settings["prefetch"] = prefetch.fingerprint
    if sparse is not None:
        settings["sparse"] = sparse.fingerprint
    size = None if prefetch is None else prefetch.size
    finder = " + ".join(repr(each) for each in (prefetch, sparse) if each is not None)
    return Layout(encoding.dim, datatype, on_disk, size, sparse is not None, settings, dict(payload_indexes), finder)


class Operations:
    """The operations of one store.

    Args:
        name: What to call the store in errors.
        encoding: How texts become rows.
        engine: Who keeps the points.
        layout: What the collection must be like.
        prefetch: How rows become one vector.
        sparse: How texts become words.
    """

    def __init__(
        self,
        name: str,
        encoding: Encoding,
        engine: Engine,
        layout: Layout,
        prefetch: PrefetchEncoder | None,
        sparse: SparseEncoder | None,
    ) -> None:
        self.name = name
        self.encoding = encoding
        self._engine = engine
        self.layout = layout
        self.prefetch = prefetch
        self.sparse = sparse
        self._namespace = ""

    @property
    def candidates(self) -> range:
        """The least and the most candidates of one search."""
        return self._engine.candidates

    def open(self) -> Steps[None]:
        """Make the collection, or see that the one that is there is of the same kind."""
        kept = yield from self._engine.open(self.layout)
        self._namespace = str(kept["namespace"])

    def store(self, intake: Intake, entries: Sequence[Entry]) -> Steps[None]:
        """Write a portion of an upsert, in requests of a bounded size, and take down what became of it."""
        fitting = []
        for entry in entries:
            if entry.rows.size > self._engine.most_values:
                most = self._engine.most_values // self.encoding.dim
                wanted = f"at most {most:,}, as the engine takes; pool its tokens or cut it up"
                intake.refused(entry.id, f"got {len(entry.rows):,} rows of {self.encoding.dim}, wanted {wanted}")
            else:
                fitting.append(entry)
        points = yield from work(lambda: self._points(fitting))
        by_uuid = {point.uuid: entry for point, entry in zip(points, fitting, strict=True)}
        for batch in self._batches(points):
            yield from self._send(batch, by_uuid, intake)

    def search(
        self,
        queries: Iterable[Query],
        k: int,
        *,
        filter: Any,
        depth: int | None,
        explain: bool,
        with_vectors: bool,
        exact: bool,
    ) -> Steps[list[list[Hit]]]:
        """The hits of each query."""
        k, depth = checked_search(k, depth)
        wanted = self.compiled(filter, own=False)
        asked = yield from work(lambda: self.encoding.queries(queries))
        if explain:
            self.encoding.check_explains(asked)
        if not asked:
            return []
        depth = self.depth(k, depth)
        requests = yield from work(lambda: self._requests(asked, k, depth, exact))
        answers = []
        for part in _bounded(requests, min(QUERY_BYTES, self._engine.most_bytes)):
            answers += yield from self._engine.query(part, wanted, with_vectors)
        hits = [[self.hit(found, with_vectors) for found in answer] for answer in answers]
        if not explain:
            return hits
        pairs = list(zip(asked, hits, strict=True))
        return (yield from work(lambda: [self.encoding.explained(query, answer) for query, answer in pairs]))

    def get(self, ids: Iterable[str], with_vectors: bool) -> Steps[list[Document]]:
        """The documents that are there, in the order of the ids."""
        wanted = checked_ids(ids)
        documents = []
        for part in _parts(wanted, IDS_AT_ONCE if not with_vectors else IDS_AT_ONCE // 10):
            uuids = [self._uuid(id) for id in part]
            found = yield from self._engine.retrieve(uuids, with_vectors)
            by_uuid = {point.uuid: point for point in found}
            documents += [self.document(by_uuid[uuid], with_vectors) for uuid in uuids if uuid in by_uuid]
        return documents

    def delete(self, ids: Iterable[str] | None, filter: Any) -> Steps[int]:
        """Delete by ids or by filter; how many there were."""
        if (ids is None) == (filter is None):
            got = "neither" if ids is None else "both"
            raise ArgumentError(f"delete: got {got} of ids and filter, wanted one; delete_all() deletes everything")
        if ids is None:
            if isinstance(filter, Mapping) and passes_everything(parse(filter)):
                got = f"filter: got {str(filter)[:80]}"
                raise ArgumentError(f"{got}, which everything passes; use delete_all()", argument="filter")
            return (yield from self._delete_those(self.compiled(filter, own=True)))
        deleted = 0
        for part in _parts(list(dict.fromkeys(checked_ids(ids))), IDS_AT_ONCE):
            uuids = [self._uuid(id) for id in part]
            deleted += yield from self._engine.count_of(uuids)
            yield from self._engine.delete(uuids, None)
        return deleted

    def delete_all(self) -> Steps[int]:
        """Delete every document of the store; points of others stay."""
        return (yield from self._delete_those(self.compiled(None, own=True)))

    def count(self, filter: Any) -> Steps[int]:
        """How many documents pass."""
        return (yield from self._engine.count(self.compiled(filter, own=True)))

    def page(self, filter: Any, after: Any, with_vectors: bool) -> Steps[tuple[list[Document], Any]]:
        """Some documents, and where to go on."""
        limit = IDS_AT_ONCE if not with_vectors else IDS_AT_ONCE // 10
        found, after = yield from self._engine.scroll(self.compiled(filter, own=True), limit, after, with_vectors)
        return [self.document(point, with_vectors) for point in found], after

    def wait_until_indexed(self, timeout: float) -> Steps[None]:
        """Ask the engine until it is done."""
        if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout >= 0:
            raise ArgumentError(f"timeout: got {timeout!r}, wanted seconds", argument="timeout")
        until = time.monotonic() + timeout
        while not (yield from self._engine.is_indexed()):
            if time.monotonic() > until:
                message = f"{self.name}: not indexed within {timeout:g} seconds; wait longer"
                raise StoreError(message, store=self.name)
            yield from pause(0.2)

    def document(self, found: Found, with_vectors: bool) -> Document:
        """A point as the document that it was."""
        id, text, metadata = self._parts_of(found)
        return Document(id, text, metadata, self._rows(found) if with_vectors else None)

    def hit(self, found: Found, with_vectors: bool) -> Hit:
        """A point as a hit."""
        id, text, metadata = self._parts_of(found)
        return Hit(id, found.score, text, metadata, self._rows(found) if with_vectors else None)

    def depth(self, k: int, depth: int | None) -> int:
        """How many candidates a search wants."""
        most = self.candidates.stop - 1
        for name, value in (("k", k), ("depth", depth or 0)):
            if value > most:
                message = f"{name}: got {value:,}, wanted at most {most:,}, as the engine takes"
                raise ArgumentError(message, argument=name)
        return min(max(self.layout.depth, 2 * k), most) if depth is None else depth

    def compiled(self, filter: Any, *, own: bool) -> Any:
        """A filter in our dialect or the engine's, as the engine takes it; with `own`, of what a store wrote only."""
        if filter is None or isinstance(filter, Mapping):
            return self._engine.compiled(parse(filter) if filter else None, own=own)
        return self._engine.compiled(None, filter, own=own)

    def _delete_those(self, wanted: Any) -> Steps[int]:
        count = yield from self._engine.count(wanted)
        if count:
            yield from self._engine.delete(None, wanted)
        return count

    def _send(self, points: Sequence[Point], entries: Mapping[str, Entry], intake: Intake) -> Steps[None]:
        """Store points; of a batch that is refused the halves are tried, down to those that are at fault.

        What became of each part is taken down at once, since the next one may end the upsert.
        """
        pending = [points]
        while pending:
            batch = pending.pop()
            try:
                refused = yield from self._engine.upsert(batch)
            except Refusal as error:
                if len(batch) == 1 and isinstance(error, TimedOut):
                    raise  # nothing can be asked for less: the server does not answer
                if len(batch) == 1:
                    intake.refused(entries[batch[0].uuid].id, str(error))
                else:
                    half = len(batch) // 2
                    pending += [batch[half:], batch[:half]]
            else:
                intake.stored(entries[point.uuid] for point in batch if point.uuid not in refused)
                for uuid, reason in refused.items():
                    intake.refused(entries[uuid].id, reason)

    def _batches(self, points: Sequence[Point]) -> Iterator[list[Point]]:
        batch: list[Point] = []
        size = 0
        for point in points:
            more = self._engine.bytes_of(point)
            if batch and size + more > self._engine.most_bytes:
                yield batch
                batch, size = [], 0
            batch.append(point)
            size += more
        if batch:
            yield batch

    def _points(self, entries: Sequence[Entry]) -> list[Point]:
        with_rows = [entry.rows for entry in entries if len(entry.rows)]
        vectors: Iterator[Float32Array] = iter(())
        if self.prefetch is not None and with_rows:
            vectors = iter(self._encodings(self.prefetch.encode_documents(with_rows), len(with_rows)))
        return [
            Point(
                self._uuid(entry.id),
                entry.rows if len(entry.rows) else None,
                next(vectors) if self.prefetch is not None and len(entry.rows) else None,
                None if self.sparse is None else self.sparse.encode_document(entry.text),
                {"doc_id": entry.id, "text": entry.text, "metadata": entry.metadata},
            )
            for entry in entries
        ]

    def _requests(self, asked: Sequence[Asked], k: int, depth: int, exact: bool) -> list[Request]:
        vectors: list[Float32Array | None] = [None] * len(asked)
        if self.prefetch is not None and not exact:
            rows = MultiVectors.from_arrays([query.rows for query in asked])
            vectors = list(self._encodings(self.prefetch.encode_queries(rows), len(asked)))
        words = None if exact else self.sparse
        return [
            Request(
                query.rows,
                vector,
                None if words is None or query.text is None else words.encode_query(query.text),
                depth,
                k,
                exact,
            )
            for query, vector in zip(asked, vectors, strict=True)
        ]

    def _encodings(self, encoded: npt.ArrayLike, count: int) -> Float32Array:
        """What a prefetch encoder gave, which may be the user's own."""
        vectors = as_matrix("prefetch", encoded)
        size = 0 if self.prefetch is None else self.prefetch.size
        if vectors.shape != (count, size) or not np.isfinite(vectors).all():
            wanted = f"finite values of the shape {(count, size)}"
            raise ArgumentError(f"prefetch: the encoder gave {vectors.shape}, wanted {wanted}", argument="prefetch")
        return vectors

    def _parts_of(self, found: Found) -> tuple[str, str, dict[str, Any]]:
        """Id, text and metadata; of a point that somebody else made, as much as there is."""
        id, text, metadata = (found.payload.get(key) for key in ("doc_id", "text", "metadata"))
        return (
            id if isinstance(id, str) else found.uuid,
            text if isinstance(text, str) else "",
            metadata if isinstance(metadata, dict) else {},
        )

    def _rows(self, found: Found) -> Any:
        return np.zeros((0, self.encoding.dim), np.float32) if found.rows is None else found.rows

    def _uuid(self, id: str) -> str:
        return point_uuid(self._namespace, id)


def _bounded(requests: Sequence[Request], most_bytes: int) -> Iterator[list[Request]]:
    """Searches, as many at once as fit into one request."""
    part: list[Request] = []
    size = 0
    for request in requests:
        more = DIGITS * (request.rows.size + (0 if request.prefetch is None else request.prefetch.size))
        if part and (len(part) == QUERIES_AT_ONCE or size + more > most_bytes):
            yield part
            part, size = [], 0
        part.append(request)
        size += more
    yield part


def _parts(ids: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (ids[start : start + size] for start in range(0, len(ids), size))
