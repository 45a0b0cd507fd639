"""The engine behind `weaviate`: one collection of a server, or one tenant of it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import count
from math import isfinite
from typing import Any
from uuid import UUID

import numpy as np
from weaviate.classes.data import DataObject
from weaviate.classes.query import Filter, HybridFusion, MetadataQuery

from chandelier.exceptions import ArgumentError, StoreError
from chandelier.multivectors import Float32Array
from chandelier.store.filters import Node
from chandelier.store.points.engine import (
    ROWS,
    Found,
    Layout,
    Point,
    Refusal,
    Request,
    TimedOut,
    check_settings,
)
from chandelier.store.points.steps import Call, Steps, pause, work
from chandelier.weaviate.calls import aquietly, awithin, quietly, within
from chandelier.weaviate.exact import best
from chandelier.weaviate.failures import AllRefused, Late, Lost, Undeleted, is_passing, is_there_already, wait_before
from chandelier.weaviate.layout import (
    PROPERTIES,
    Wanted,
    check_collection,
    creation,
    kept_settings,
    native_properties,
)
from chandelier.weaviate.properties import declared, guessed, native
from chandelier.weaviate.terms import ALL, FILTER_TERMS, compiled, terms

__all__ = ["CollectionEngine"]

PLAIN_BYTES, MUVERA_BYTES = 2 << 20, 8 << 20
"""A request to write: an index of all rows takes 1,000 to 5,000 of them a second, and has its answer in seconds."""

OLDEST = (1, 33)
"""The first server that negates filters; multi-vectors came with 1.29, MUVERA with 1.31."""

MOST_HITS = 10_000
"""What a server returns of a search, unless it is configured otherwise."""

REPLACED_AT_ONCE = 16
"""Documents that are gone for the moment between their deletion and their return."""


class CollectionEngine:
    """One collection; see `Engine`.

    Args:
        client: The client.
        collection: The name of the collection.
        name: What to call it in errors.
        wanted: What the collection must be like.
        tenant: Whose documents these are.
        create_tenant: Whether to make a tenant that is not there.
        create_options: More arguments of `collections.create`.
        guesses: Whether the first documents declare properties.
        is_async: Whether the client is asynchronous.
        timeout: Seconds for a request, all tries in.
    """

    def __init__(
        self,
        client: Any,
        collection: str,
        name: str,
        wanted: Wanted,
        *,
        tenant: str | None,
        create_tenant: bool,
        create_options: Mapping[str, Any],
        guesses: bool,
        is_async: bool,
        timeout: float,
    ) -> None:
        self._client = client
        self._collection = collection
        self._name = name
        self._wanted = wanted
        self._tenant = tenant
        self._create_tenant = create_tenant
        self._create_options = create_options
        self._guesses = guesses
        self._is_async = is_async
        self._timeout = timeout
        self._natives: dict[str, str] = {}
        self._dim = self._most_message = 0
        self.most_bytes = MUVERA_BYTES if wanted.muvera else PLAIN_BYTES
        self.most_values = 0  # until the server has said how large a message may be
        self.candidates = range(1, MOST_HITS + 1)

    def open(self, layout: Layout) -> Steps[dict[str, Any]]:
        """Make the collection, or look at the one that is there; the settings that it keeps."""
        arguments = creation(layout, self._wanted, self._create_options)
        meta = yield self._read(lambda: self._client.get_meta())
        self._check_version(str(meta.get("version")))
        self._most_message = int(meta.get("grpcMaxMessageSize") or 10 << 20)
        self.most_values = self._most_message // 8  # half of a message of float32
        self._dim = layout.dim
        is_new = not (yield self._read(lambda: self._client.collections.exists(self._collection)))
        if is_new:
            try:
                yield Call(lambda: self._client.collections.create(self._collection, **arguments))
            except StoreError as error:
                if not is_there_already(error):  # made by somebody else just now, or by a try whose answer was lost
                    raise
        config = yield from self._config()
        check_settings(self._name, kept := kept_settings(self._name, config), layout)
        check_collection(self._name, config, self._wanted)
        if self._tenant is not None:
            yield from self._open_tenant(may_create=is_new or self._create_tenant)
        self._natives = native_properties(config)
        self._guesses = self._guesses and not self._natives
        if self._wanted.muvera:
            ef = config.vector_config[ROWS].vector_index_config.ef
            self.candidates = range(max(1, ef), 2 * MOST_HITS + 1)  # the server reranks twice what it returns
        return kept

    def upsert(self, points: Sequence[Point]) -> Steps[Mapping[str, str]]:
        """Store points; why the server refuses some.

        Weaviate takes an object that is as it was for stored, also if a crash has kept it out of the index: so what is
        there is deleted first.
        """
        if self._guesses:
            yield from self._declare_guessed(points)
        refused: dict[str, str] = {}
        sound: list[tuple[Point, DataObject[Any, Any]]] = []
        for point, made in zip(points, (yield from work(lambda: list(map(self._object, points)))), strict=True):
            if isinstance(made, ArgumentError):
                refused[point.uuid] = str(made)
            else:
                sound.append((point, made))
        there = set((yield from self._uuids([point.uuid for point, _ in sound])))
        fresh = [made for point, made in sound if point.uuid not in there]
        replaced = [made for point, made in sound if point.uuid in there]
        if fresh:
            refused.update((yield from self._write(fresh, is_new=True)))
        for start in range(0, len(replaced), REPLACED_AT_ONCE):
            refused.update((yield from self._write(replaced[start : start + REPLACED_AT_ONCE], is_new=False)))
        return refused

    def query(self, requests: Sequence[Request], filter: Any, with_rows: bool) -> Steps[list[list[Found]]]:
        """The hits of each request, best first."""
        _check_limit(requests[0])
        if requests[0].exact:
            scores = yield from best(self, requests, filter)
        else:
            scores = []
            for request in requests:
                scores.append((yield from self._nearest(request, filter)))
        answers = []
        for each in scores:
            answers.append((yield from self.found(each, with_rows)))
        return answers

    def hybrid(self, text: str, request: Request, alpha: float, fusion: str, filter: Any) -> Steps[list[str]]:
        """The uuids of the objects that words and rows find, in the order of Weaviate's fusion."""
        _check_limit(request)
        answer = yield self._query(
            lambda query: query.hybrid(
                query=text,
                query_properties=["text"],
                vector=request.rows.tolist(),
                target_vector=ROWS,
                alpha=alpha,
                fusion_type=HybridFusion.RANKED if fusion == "ranked" else HybridFusion.RELATIVE_SCORE,
                limit=self._limit(request),
                filters=filter,
                return_properties=[],
            )
        )
        return [str(each.uuid) for each in answer.objects][: request.limit]

    def found(self, scores: Sequence[tuple[str, float]], with_rows: bool) -> Steps[list[Found]]:
        """Points by their uuids, each with the score it was found with; what is gone meanwhile is left out."""
        points = yield from self.retrieve([uuid for uuid, _ in scores], with_rows)
        by_uuid = {point.uuid: point for point in points}
        return [
            Found(uuid, score, by_uuid[uuid].payload, by_uuid[uuid].rows) for uuid, score in scores if uuid in by_uuid
        ]

    def retrieve(self, uuids: Sequence[str], with_rows: bool, filter: Any = None) -> Steps[list[Found]]:
        """The points that are there, and pass; an answer that is too large is asked for in halves."""
        if not uuids:
            return []
        limit = len(uuids)
        try:
            answer = yield self._query(
                lambda query: query.fetch_objects(
                    filters=_these(uuids, filter),
                    limit=limit,
                    return_properties=PROPERTIES,
                    include_vector=with_rows,
                )
            )
        except Refusal:
            if limit == 1:
                raise
            first = yield from self.retrieve(uuids[: limit // 2], with_rows, filter)
            return first + (yield from self.retrieve(uuids[limit // 2 :], with_rows, filter))
        return [_found(each) for each in answer.objects]

    def scroll(self, filter: Any, limit: int, after: Any, with_rows: bool) -> Steps[tuple[list[Found], Any]]:
        """A page of points, and where the next one begins.

        A cursor takes no filter, and what takes a filter ends at 10,000: so the cursor gives a page of uuids, of which
        those that pass are fetched.
        """
        page = yield self._query(lambda query: query.fetch_objects(limit=limit, after=after, return_properties=[]))
        uuids = [str(each.uuid) for each in page.objects]
        found = yield from self.retrieve(uuids, with_rows, filter)
        return found, uuids[-1] if len(uuids) == limit else None

    def count(self, filter: Any) -> Steps[int]:
        """How many points pass."""
        answer = yield self._read(
            lambda: self._here().aggregate.over_all(total_count=True, filters=filter),
        )
        return int(answer.total_count)

    def count_of(self, uuids: Sequence[str]) -> Steps[int]:
        """How many of these are there."""
        return len((yield from self._uuids(uuids)))

    def delete(self, uuids: Sequence[str] | None, filter: Any) -> Steps[None]:
        """Delete points by id, or those that pass; the server deletes some thousands in one request."""
        where = filter if uuids is None else _these(uuids)
        while True:
            answer = yield self._write_call(lambda: self._here().data.delete_many(where=where))
            if answer.failed:
                is_done = not (yield from self._delete_some(where))
            else:
                is_done = uuids is not None or not answer.matches
            if is_done:
                return

    def _delete_some(self, where: Any) -> Steps[int]:
        """Delete some of those that pass one by one, where all at once stay and do not say why; how many."""
        some = yield self._query(
            lambda query: query.fetch_objects(filters=where, limit=REPLACED_AT_ONCE, return_properties=[])
        )
        for each in some.objects:
            try:
                yield self._write_call(partial(self._delete_one, each.uuid))
            except (Late, Lost):
                raise
            except StoreError as error:
                raise Undeleted(str(error), store=self._collection) from error
        return len(some.objects)

    def is_indexed(self) -> Steps[bool]:
        """Whether the index holds all that is stored: with `ASYNC_INDEXING` a server is behind."""
        nodes = yield self._read(lambda: self._client.cluster.nodes(self._collection, output="verbose"))
        shards = [shard for node in nodes for shard in node.shards or []]
        return all(not shard.vector_queue_length for shard in shards)

    def indexed_among(self, uuids: Sequence[str], rows: Float32Array) -> Steps[set[str]]:
        """Those that a search for some rows finds among these."""
        return {uuid for uuid, _ in (yield from self._near(rows, len(uuids), _these(uuids)))}

    def rewrite(self, uuid: str) -> Steps[str | None]:
        """Delete an object and store it again as it was; why that could not be done."""
        answer = yield self._query(lambda query: query.fetch_object_by_id(uuid, include_vector=True))
        if answer is None:
            return "it is gone"
        rows = answer.vector.get(ROWS)
        if not rows:
            return "its rows are not stored; store it again"
        kept = {name: value for name, value in answer.properties.items() if value is not None}
        made = DataObject(properties=kept, uuid=UUID(uuid), vector={ROWS: rows})
        refused = yield from self._write([made], is_new=False)
        return refused.get(uuid)

    def compiled(self, node: Node | None, filter: Any = None, *, own: bool) -> Any:
        """A filter of the client's, for ours or for one of its own."""
        if filter is not None and not hasattr(filter, "operator"):
            wanted = "wanted a mapping in our dialect, or a filter of weaviate.classes.query.Filter"
            raise ArgumentError(f"filter: got {type(filter).__name__}, {wanted}", argument="filter")
        parts = [] if filter is None else [filter]
        if node is not None:
            parts.append(compiled(node))
        if own:
            parts.append(Filter.by_property(FILTER_TERMS).equal(ALL))
        return Filter.all_of(parts) if len(parts) > 1 else parts[0] if parts else None

    def bytes_of(self, point: Point) -> int:
        """How large the point is in a request, roughly."""
        rows = 0 if point.rows is None else 4 * point.rows.size
        return rows + 8 * len(repr(point.payload["metadata"])) + len(point.payload["text"].encode()) + 512

    def _check_version(self, version: str) -> None:
        numbers = re.match(r"(\d+)\.(\d+)", version)
        if numbers is None or tuple(map(int, numbers.groups())) < OLDEST:
            wanted = f"wanted {OLDEST[0]}.{OLDEST[1]} or newer"
            raise StoreError(f"{self._name}: the server is Weaviate {version}, {wanted}", store=self._collection)

    def _config(self) -> Steps[Any]:
        return (yield self._read(lambda: self._client.collections.use(self._collection).config.get()))

    def _open_tenant(self, *, may_create: bool) -> Steps[None]:
        tenants = self._client.collections.use(self._collection).tenants
        if (yield self._read(lambda: tenants.exists(self._tenant))):
            return
        if not may_create:
            way_out = "create_tenant=True makes it"
            message = f"{self._name}: tenant {self._tenant!r} is not there; {way_out}"
            raise StoreError(message, store=self._collection)
        yield self._write_call(lambda: tenants.create([self._tenant]))

    def _declare_guessed(self, points: Sequence[Point]) -> Steps[None]:
        """Declare the fields of the first documents as properties."""
        self._guesses = False
        config = self._client.collections.use(self._collection).config
        for name, kind in guessed(point.payload["metadata"] for point in points).items():
            try:
                yield self._write_call(partial(config.add_property, declared(name, kind)))
            except StoreError as error:
                if not is_there_already(error):
                    raise
        self._natives = native_properties((yield from self._config()))

    def _object(self, point: Point) -> DataObject[Any, Any] | ArgumentError:
        metadata = point.payload["metadata"]
        try:
            values = native(metadata, self._natives, self._wanted.properties)
        except ArgumentError as error:
            return error
        rows = point.rows
        properties = {
            **values,
            "doc_id": point.payload["doc_id"],
            "text": point.payload["text"],
            "metadata": json.dumps(metadata),
            FILTER_TERMS: terms(metadata),
            "row_count": 0 if rows is None else len(rows),
        }
        size = _message_bytes(properties) + (0 if rows is None else 4 * rows.size)
        if size > self._most_message:
            wanted = f"wanted at most {self._most_message:,}, as the server takes; cut it up"
            return ArgumentError(f"got a document of {size:,} bytes, {wanted}")
        vector = None if rows is None else {ROWS: rows.astype(np.float32).tolist()}
        return DataObject(properties=properties, uuid=UUID(point.uuid), vector=vector)

    def _write(self, objects: Sequence[DataObject[Any, Any]], *, is_new: bool) -> Steps[dict[str, str]]:
        """Insert objects; those whose fate is not known, or that are there, are deleted before.

        An object that the server refuses may be stored nevertheless, without being indexed: it is tried once more, and
        deleted if it is refused again. A server that deletes nothing, since it is read-only, has stored nothing either.
        """
        until = time.monotonic() + self._timeout
        try:
            refused = yield from self._insert(objects, is_new=is_new, until=until)
        except Undeleted as error:
            return {str(each.uuid): str(error) for each in objects}
        again = [each for each in objects if str(each.uuid) in refused]
        if again:
            with suppress(Undeleted):
                refused = yield from self._insert(again, is_new=False, until=until)
                yield from self.delete(list(refused), None)
        return refused

    def _insert(self, objects: Sequence[DataObject[Any, Any]], *, is_new: bool, until: float) -> Steps[dict[str, str]]:
        for tried in count():
            try:
                if not is_new:
                    yield from self.delete([str(each.uuid) for each in objects], None)
                answer = yield self._write_call(lambda: self._here().data.insert_many(objects), once=True)
                errors = {str(objects[index].uuid): error.message for index, error in answer.errors.items()}
                if not any(map(is_passing, errors.values())):
                    return (yield from self._refused(objects, errors))
                raise Lost(f"{self._name}: {next(iter(errors.values()))}", store=self._collection)
            except AllRefused as error:
                return {str(each.uuid): str(error) for each in objects}
            except Late as error:  # fewer may be stored in time
                raise TimedOut(str(error), store=self._collection) from error
            except Lost:
                if time.monotonic() > until:
                    raise
                is_new = False
                yield from pause(wait_before(tried))
        raise AssertionError("unreachable: `count` does not end")

    def _refused(self, objects: Sequence[DataObject[Any, Any]], errors: Mapping[str, str]) -> Steps[dict[str, str]]:
        """Why objects are not stored: a shard that refuses all of a batch gives one error, at the first of them."""
        if not errors:
            return {}
        uuids = [str(each.uuid) for each in objects]
        there = set((yield from self._uuids([uuid for uuid in uuids if uuid not in errors])))
        said = next(iter(errors.values()))
        return {uuid: errors.get(uuid, said) for uuid in uuids if uuid not in there}

    def _nearest(self, request: Request, filter: Any) -> Steps[list[tuple[str, float]]]:
        return (yield from self._near(request.rows, self._limit(request), filter))[: request.limit]

    def _near(self, rows: Float32Array, limit: int, filter: Any) -> Steps[list[tuple[str, float]]]:
        """Uuids and scores, best first."""
        answer = yield self._query(
            lambda query: query.near_vector(
                near_vector=rows.tolist(),
                target_vector=ROWS,
                limit=limit,
                filters=filter,
                return_metadata=MetadataQuery(distance=True),
                return_properties=[],
            )
        )
        # The distance is the negative MaxSim, whatever it is called; that of an object which a filter lets through and
        # the index does not hold is infinite.
        return [
            (str(each.uuid), -each.metadata.distance) for each in answer.objects if isfinite(each.metadata.distance)
        ]

    def _limit(self, request: Request) -> int:
        """What to ask for, so that at least `depth` candidates are scored.

        MUVERA scores twice the limit, and not less than `ef`. An index of all rows looks for `limit` neighbours of each
        row of the query.
        """
        if self._wanted.muvera is None:
            return max(request.limit, request.depth)
        return request.limit if request.depth <= self.candidates.start else max(request.limit, (request.depth + 1) // 2)

    def _uuids(self, uuids: Sequence[str]) -> Steps[list[str]]:
        """Those of these that are there."""
        if not uuids:
            return []
        answer = yield self._query(
            lambda query: query.fetch_objects(filters=_these(uuids), limit=len(uuids), return_properties=[])
        )
        return [str(each.uuid) for each in answer.objects]

    def _here(self) -> Any:
        collection = self._client.collections.use(self._collection)
        return collection if self._tenant is None else collection.with_tenant(self._tenant)

    def _delete_one(self, uuid: UUID) -> Any:
        return self._here().data.delete_by_id(uuid)

    def _query(self, ask: Callable[[Any], Any]) -> Call:
        return self._read(lambda: ask(self._here().query))

    def _read(self, function: Callable[[], Any]) -> Call:
        """What can be left behind when it takes too long."""
        if self._is_async:
            return Call(lambda: awithin(self._timeout, function))
        return Call(lambda: within(self._timeout, function))

    def _write_call(self, function: Callable[[], Any], *, once: bool = False) -> Call:
        """What is waited for, however long it takes."""
        return Call(lambda: aquietly(function) if self._is_async else quietly(function), once)


def _message_bytes(properties: Mapping[str, Any]) -> int:
    """How large an object without rows is in a request, or a little more than that."""
    size = 512
    for name, value in properties.items():
        for each in value if isinstance(value, list) else [value]:
            size += 8 + (len(each.encode()) if isinstance(each, str) else 8)
        size += 16 + len(name)
    return size


def _check_limit(request: Request) -> None:
    if request.limit > MOST_HITS:
        message = f"k: got {request.limit:,}, wanted at most {MOST_HITS:,}, as Weaviate returns"
        raise ArgumentError(message, argument="k")


def _these(uuids: Sequence[str], filter: Any = None) -> Any:
    """A filter: these objects, if they pass another one."""
    these = Filter.by_id().contains_any(list(uuids))
    return these if filter is None else these & filter


def _found(entry: Any) -> Found:
    payload = dict(entry.properties)
    if isinstance(metadata := payload.get("metadata"), str):
        with suppress(ValueError):  # of an object that somebody else made
            payload["metadata"] = json.loads(metadata)
    rows = (entry.vector or {}).get(ROWS) if isinstance(entry.vector, dict) else None
    return Found(str(entry.uuid), 0.0, payload, np.asarray(rows, np.float32) if rows else None)
