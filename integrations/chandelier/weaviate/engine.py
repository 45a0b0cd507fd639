"""The engine behind `weaviate`: one collection of a server, or one tenant of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import isfinite
from typing import Any

from weaviate.classes.aggregate import Metrics
from weaviate.classes.query import Filter, HybridFusion, MetadataQuery

from chandelier.exceptions import ArgumentError, StoreError
from chandelier.multivectors import Float32Array
from chandelier.store.filters import Node
from chandelier.store.points.checks import check_settings, is_older
from chandelier.store.points.engine import ROWS, Found, Layout, Point, Refusal, Request
from chandelier.store.points.steps import Call, Steps, work
from chandelier.weaviate.collection import Collection, these
from chandelier.weaviate.exact import best
from chandelier.weaviate.failures import is_there_already
from chandelier.weaviate.layout import (
    PROPERTIES,
    Wanted,
    check_collection,
    check_encoding,
    creation,
    kept_settings,
    native_properties,
)
from chandelier.weaviate.objects import Object, object_of, point_of
from chandelier.weaviate.properties import declared, guessed, native
from chandelier.weaviate.terms import ALL, FILTER_TERMS, compiled
from chandelier.weaviate.writing import Writer

__all__ = ["CollectionEngine"]

PLAIN_BYTES, MUVERA_BYTES = 2 << 20, 8 << 20
"""A request to write: an index of all rows takes 1,000 to 5,000 of them a second, and has its answer in seconds."""

OLDEST = (1, 33)
"""The first server that negates filters; multi-vectors came with 1.29, MUVERA with 1.31."""

MOST_HITS = 10_000
"""What a server returns of a search, unless it is configured otherwise."""


class CollectionEngine:
    """One collection; see `Engine`.

    Args:
        collection: Whom to ask.
        wanted: What the collection must be like.
        create_tenant: Whether to make a tenant that is not there.
        create_options: More arguments of `collections.create`.
        guesses: Whether the first documents declare properties.
    """

    def __init__(
        self,
        collection: Collection,
        wanted: Wanted,
        *,
        create_tenant: bool,
        create_options: Mapping[str, Any],
        guesses: bool,
    ) -> None:
        self._collection = collection
        self._writer = Writer(collection)
        self._wanted = wanted
        self._create_tenant = create_tenant
        self._create_options = create_options
        self._guesses = guesses
        self._natives: dict[str, str] = {}
        self._most_message = 0
        self.most_bytes = MUVERA_BYTES if wanted.muvera else PLAIN_BYTES
        self.most_values = 0  # until the server has said how large a message may be
        self.candidates = range(1, MOST_HITS + 1)

    def open(self, layout: Layout) -> Steps[dict[str, Any]]:
        """Make the collection, or look at the one that is there; the settings that it keeps."""
        arguments = creation(layout, self._wanted, self._create_options)
        client, name = self._collection.client, self._collection.name
        meta = yield from self._asked(client.get_meta)
        self._check_meta(meta)
        self.most_values = self._most_message // 8  # half of a message of float32
        is_new = not (yield from self._asked(lambda: client.collections.exists(name)))
        if is_new:
            try:
                yield from self._asked(lambda: client.collections.create(name, **arguments))
            except StoreError as error:
                if not is_there_already(error):  # made by somebody else just now, or by a try whose answer was lost
                    raise
        config = yield from self._config()
        kept = kept_settings(self._collection.called, config)
        check_encoding(self._collection.called, config, self._wanted)
        check_settings(self._collection.called, kept, layout)
        check_collection(self._collection.called, config, self._wanted)
        if self._collection.tenant is not None:
            yield from self._open_tenant(may_create=is_new or self._create_tenant)
        self._natives = native_properties(config)
        self._guesses = self._guesses and not self._natives
        if self._wanted.muvera:
            ef = config.vector_config[ROWS].vector_index_config.ef
            self.candidates = range(max(1, ef), 2 * MOST_HITS + 1)  # the server reranks twice what it returns
        return kept

    def upsert(self, points: Sequence[Point]) -> Steps[Mapping[str, str]]:
        """Store points; why some are refused."""
        if self._guesses:
            yield from self._declare_guessed(points)
        refused: dict[str, str] = {}
        objects = yield from work(lambda: self._objects(points, refused))
        return refused | (yield from self._writer.upsert(objects))

    def query(self, requests: Sequence[Request], filter: Any, with_rows: bool) -> Steps[list[list[Found]]]:
        """The hits of each request, best first."""
        _check_limit(requests[0])
        if requests[0].exact:
            scores = yield from best(self, requests, filter)
        else:
            scores = []
            for request in requests:
                scores.append((yield from self.nearest(request.rows, self._limit(request), filter))[: request.limit])
        answers = []
        for each in scores:
            answers.append((yield from self.found(each, with_rows)))
        return answers

    def nearest(self, rows: Float32Array, limit: int, filter: Any = None) -> Steps[list[tuple[str, float]]]:
        """Uuids and scores, best first."""
        answer = yield self._collection.query(
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

    def hybrid(self, text: str, request: Request, alpha: float, fusion: str, filter: Any) -> Steps[list[str]]:
        """The uuids of the objects that words and rows find, in the order of Weaviate's fusion."""
        _check_limit(request)
        answer = yield self._collection.query(
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
            answer = yield self._collection.query(
                lambda query: query.fetch_objects(
                    filters=these(uuids, filter),
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
        return [point_of(each) for each in answer.objects]

    def scroll(self, filter: Any, limit: int, after: Any, with_rows: bool) -> Steps[tuple[list[Found], Any]]:
        """A page of points, and where the next one begins.

        A cursor takes no filter, and what takes a filter ends at 10,000: so the cursor gives a page of uuids, of which
        those that pass are fetched.
        """
        page = yield self._collection.query(
            lambda query: query.fetch_objects(limit=limit, after=after, return_properties=[])
        )
        uuids = [str(each.uuid) for each in page.objects]
        found = yield from self.retrieve(uuids, with_rows, filter)
        return found, uuids[-1] if len(uuids) == limit else None

    def count(self, filter: Any) -> Steps[int]:
        """How many points pass.

        Their values are counted: after a crash a filter alone counts some twice that are there once.
        """
        name = "row_count"
        answer = yield Call(
            lambda: self._collection.here.aggregate.over_all(
                filters=filter, return_metrics=[Metrics(name).integer(count=True)]
            )
        )
        return int(answer.properties[name].count)

    def count_of(self, uuids: Sequence[str]) -> Steps[int]:
        """How many of these are there."""
        return len((yield from self._collection.there(uuids)))

    def delete(self, uuids: Sequence[str] | None, filter: Any) -> Steps[None]:
        """Delete points by id, or those that pass."""
        yield from self._writer.delete(uuids, filter)

    def rewrite(self, uuids: Sequence[str]) -> Steps[dict[str, str]]:
        """See `Writer.rewrite`."""
        return (yield from self._writer.rewrite(uuids))

    def is_indexed(self) -> Steps[bool]:
        """Whether the index holds all that is stored: with `ASYNC_INDEXING` a server is behind."""
        client, name = self._collection.client, self._collection.name
        nodes = yield from self._asked(lambda: client.cluster.nodes(name, output="verbose"))
        shards = [shard for node in nodes for shard in node.shards or []]
        return all(not shard.vector_queue_length for shard in shards)

    def everything(self, limit: int, after: Any) -> Steps[tuple[list[Found], Any]]:
        """As `scroll`, of all that is stored, also what no filter finds, without texts and metadata."""
        page = yield self._collection.query(
            lambda query: query.fetch_objects(limit=limit, after=after, return_properties=["doc_id", "row_count"])
        )
        points = [point_of(each) for each in page.objects]
        return points, points[-1].uuid if len(points) == limit else None

    def passing_among(self, uuids: Sequence[str], filter: Any) -> Steps[set[str]]:
        """Those of these that a filter finds."""
        return set((yield from self._collection.there(uuids, filter)))

    def stored(self, uuid: str) -> Steps[Found | None]:
        """A point and its rows, also if no filter finds it."""
        stored = yield from self._collection.stored(uuid)
        return None if stored is None else point_of(stored)

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
        """How large the point is in a request, roughly; never so small that more than 10,000 go into one."""
        rows = 0 if point.rows is None else 4 * point.rows.size
        return rows + 8 * len(repr(point.payload["metadata"])) + len(point.payload["text"].encode()) + 1024

    def _asked(self, ask: Callable[[], Any]) -> Steps[Any]:
        """What a server answers in JSON, of which the client takes for granted that it is Weaviate's."""
        try:
            return (yield Call(ask))
        except (LookupError, TypeError, AttributeError) as error:
            raise self._misled(f"an answer that cannot be read ({type(error).__name__}: {error})") from error

    def _check_meta(self, meta: Any) -> None:
        """Look at the server's version, and take down how large a message may be."""
        try:
            version, self._most_message = str(meta["version"]), int(meta.get("grpcMaxMessageSize", 10 << 20))
            if self._most_message < 1:
                raise ValueError("grpcMaxMessageSize")
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            raise self._misled(f"{meta!r:.200} as /v1/meta") from error
        if is_older(version, OLDEST):
            wanted = f"wanted {OLDEST[0]}.{OLDEST[1]} or newer"
            raise self._collection.failure(f"the server is Weaviate {version}, {wanted}")

    def _misled(self, got: str) -> StoreError:
        hint = "is there another program, or a proxy, at this address?"
        return self._collection.failure(f"got {got}; {hint}")

    def _config(self) -> Steps[Any]:
        return (yield from self._asked(self._collection.schema.config.get))

    def _open_tenant(self, *, may_create: bool) -> Steps[None]:
        tenants, tenant = self._collection.schema.tenants, self._collection.tenant
        if (yield from self._asked(lambda: tenants.exists(tenant))):
            return
        if not may_create:
            raise self._collection.failure(f"tenant {tenant!r} is not there; create_tenant=True makes it")
        yield self._collection.write(lambda: tenants.create([tenant]))

    def _declare_guessed(self, points: Sequence[Point]) -> Steps[None]:
        """Declare the fields of the first documents as properties."""
        self._guesses = False
        config = self._collection.schema.config
        for name, kind in guessed(point.payload["metadata"] for point in points).items():
            try:
                yield self._collection.write(partial(config.add_property, declared(name, kind)))
            except StoreError as error:
                if not is_there_already(error):
                    raise
        self._natives = native_properties((yield from self._config()))

    def _objects(self, points: Sequence[Point], refused: dict[str, str]) -> list[Object]:
        objects = []
        for point in points:
            try:
                natives = native(point.payload["metadata"], self._natives, self._wanted.properties)
                objects.append(object_of(point, natives, self._most_message))
            except ArgumentError as error:
                refused[point.uuid] = str(error)
        return objects

    def _limit(self, request: Request) -> int:
        """What to ask for, so that at least `depth` candidates are scored.

        MUVERA scores twice the limit, and not less than `ef`. An index of all rows looks for `limit` neighbours of each
        row of the query.
        """
        if self._wanted.muvera is None:
            return max(request.limit, request.depth)
        return request.limit if request.depth <= self.candidates.start else max(request.limit, (request.depth + 1) // 2)


def _check_limit(request: Request) -> None:
    if request.limit > MOST_HITS:
        message = f"k: got {request.limit:,}, wanted at most {MOST_HITS:,}, as Weaviate returns"
        raise ArgumentError(message, argument="k")
