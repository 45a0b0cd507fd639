"""What a server does with a decoded request: local mode, and where that differs, what a real server was seen to do.

Every method that a protocol calls is named like the method of `QdrantClient` whose request it answers, and takes the
collection's name and the body as the client's REST model.
"""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydantic import BaseModel, ValidationError
from qdrant_client import models
from qdrant_client.local.local_collection import LocalCollection
from qdrant_client.local.qdrant_local import QdrantLocal
from qdrant_client.local.utils import normalize_point_id

from .faults import Refusal
from .strict import StrictMode
from .vectors import as_stored, check_datatype, check_shape

UNPLAYED = {  # settings of a new collection
    "id_tracker",
    "payload",
    "replication_factor",
    "shard_number",
    "sharding_method",
    "wal_config",
    "write_consistency_factor",
}
ANSWERS = ("Wrong input", "Not found", "Bad request", "Format error", "Validation error")


@dataclass
class Settings:
    """What a server keeps of a collection and local mode does not."""

    created: models.CreateCollection
    strict: StrictMode = field(default_factory=StrictMode)
    indexes: dict[str, models.PayloadIndexInfo] = field(default_factory=dict)

    def types(self) -> dict[str, str]:
        return {key: index.data_type.value for key, index in self.indexes.items()}


class Engine:
    """The collections.

    Args:
        vector_limit: Floats that one multivector must stay below.
    """

    def __init__(self, vector_limit: int) -> None:
        self.local = QdrantLocal(":memory:")
        self.vector_limit = vector_limit
        self.settings: dict[str, Settings] = {}
        self.statuses: list[models.CollectionStatus] = []
        self.operations = 0
        self.lock = threading.RLock()

    def apply(self, operation: str, collection: str, body: Any, *, wait: bool = True) -> Any:
        """Does one operation and returns its result as the client's REST model."""
        with self.lock:
            try:
                result = getattr(self, operation)(collection, body)
            except ValidationError:
                raise  # a mistake of ours
            except ValueError as error:
                message = str(error)
                message = message if message.startswith(ANSWERS) else f"Wrong input: {message}"
                raise Refusal(400, message) from error
            if isinstance(result, models.UpdateResult):
                self.operations += 1
                result.operation_id = self.operations
                result.status = models.UpdateStatus.COMPLETED if wait else models.UpdateStatus.ACKNOWLEDGED
            return result

    # Collections

    def get_collections(self, _: str, __: None) -> models.CollectionsResponse:
        return self.local.get_collections()

    def collection_exists(self, name: str, _: None) -> models.CollectionExistence:
        return models.CollectionExistence(exists=self.local.collection_exists(name))

    def create_collection(self, name: str, body: models.CreateCollection) -> bool:
        if name in self.settings:
            raise Refusal(409, f"Wrong input: Collection `{name}` already exists!")
        if asked := [key for key in sorted(UNPLAYED) if getattr(body, key) is not None]:
            raise NotImplementedError(f"create_collection with {asked} is not played")
        for key, params in named(body.vectors).items():
            check_datatype(params)
            if not 1 <= params.size <= 65536:
                message = f"vectors.{key}.size: value {params.size} invalid, must be from 1 to 65536"
                raise Refusal(422, f"Validation error in JSON body: [{message}]")
        settings = Settings(body)
        settings.strict.update(body.strict_mode_config)
        self.local.create_collection(name, body.vectors, body.sparse_vectors, metadata=body.metadata)
        self.local.collections[name].LARGE_DATA_THRESHOLD = sys.maxsize  # a server does not warn
        self.settings[name] = settings
        return True

    def update_collection(self, name: str, body: models.UpdateCollection) -> bool:
        settings, created = self._settings(name), self._settings(name).created
        self.local.update_collection(name, body.sparse_vectors, body.metadata, body.vectors)
        settings.strict.update(body.strict_mode_config)
        for key, diff in (body.vectors or {}).items():
            merge(named(self.local.collections[name].config.vectors)[key], diff)
        created.hnsw_config = merge(created.hnsw_config or models.HnswConfigDiff(), body.hnsw_config)
        created.optimizers_config = merge(
            created.optimizers_config or models.OptimizersConfigDiff(), body.optimizers_config
        )
        if body.params is not None or body.quantization_config is not None:
            raise NotImplementedError("update_collection plays no params and no quantization_config")
        return True

    def delete_collection(self, name: str, _: None) -> bool:
        self.local.delete_collection(name)
        return self.settings.pop(name, None) is not None

    def get_collection(self, name: str, _: None) -> models.CollectionInfo:
        settings = self._settings(name)
        info = self.local.get_collection(name)
        merge(info.config.hnsw_config, settings.created.hnsw_config)
        merge(info.config.optimizer_config, settings.created.optimizers_config)
        info.config.quantization_config = settings.created.quantization_config
        info.config.strict_mode_config = settings.strict.output()
        params = info.config.params
        params.on_disk_payload = settings.created.on_disk_payload is not False
        params.shard_number = params.replication_factor = params.write_consistency_factor = 1
        info.payload_schema = {
            key: index.model_copy(update={"points": self._having(name, key)}) for key, index in settings.indexes.items()
        }
        if self.statuses:
            info.status = self.statuses.pop(0)
        return info

    def create_payload_index(self, name: str, body: models.CreateFieldIndex) -> models.UpdateResult:
        schema = body.field_schema
        if schema is None:
            raise NotImplementedError("an index without a type is not played")
        params = None if isinstance(schema, models.PayloadSchemaType) else schema
        kind = models.PayloadSchemaType(schema if params is None else params.type.value)
        self._settings(name).indexes[body.field_name] = models.PayloadIndexInfo(data_type=kind, params=params, points=0)
        return updated()

    def delete_payload_index(self, name: str, key: str) -> models.UpdateResult:
        self._settings(name).indexes.pop(key, None)
        return updated()

    # Writing points

    def upsert(self, name: str, body: models.PointsList) -> models.UpdateResult:
        strict = self._settings(name).strict
        strict.check_limit(len(body.points), strict.on.upsert_max_batchsize, "upsert limit")
        points = self._points(name, body.points, models.PointStruct)
        finite = [point.model_copy(update={"vector": without_nan(point.vector)}) for point in points]
        self.local.upsert(name, finite, update_filter=body.update_filter, update_mode=body.update_mode)
        self._put_nan_back(name, points)
        return updated()

    def update_vectors(self, name: str, body: models.UpdateVectors) -> models.UpdateResult:
        strict = self._settings(name).strict
        strict.check_limit(len(body.points), strict.on.upsert_max_batchsize, "update limit")
        points = self._points(name, body.points, models.PointVectors)
        finite = [point.model_copy(update={"vector": without_nan(point.vector)}) for point in points]
        self._of_points(self.local.update_vectors, name, finite, update_filter=body.update_filter)
        self._put_nan_back(name, points)
        return updated()

    def set_payload(self, name: str, body: models.SetPayload) -> models.UpdateResult:
        settings = self._settings(name)
        settings.strict.check_filter(body.filter, settings.types(), update=True)
        selected = body.points if body.points is not None else body.filter
        self._of_points(self.local.set_payload, name, body.payload, selected, key=body.key)
        return updated()

    def delete(self, name: str, body: models.PointIdsList | models.FilterSelector) -> models.UpdateResult:
        settings = self._settings(name)
        if isinstance(body, models.FilterSelector):
            settings.strict.check_filter(body.filter, settings.types(), update=True)
        else:
            check_ids(body.points)
        self.local.delete(name, body)
        return updated()

    # Reading points

    def retrieve(self, name: str, body: models.PointRequest) -> list[models.Record]:
        self._settings(name)
        check_ids(body.ids)
        payload = True if body.with_payload is None else body.with_payload
        return self.local.retrieve(name, body.ids, payload, body.with_vector or False)

    def scroll(self, name: str, body: models.ScrollRequest) -> models.ScrollResult:
        self._check_read(name, body.filter, body.limit)
        records, offset = self.local.scroll(
            name,
            scroll_filter=body.filter,
            limit=10 if body.limit is None else body.limit,
            order_by=body.order_by,
            offset=body.offset,
            with_payload=True if body.with_payload is None else body.with_payload,
            with_vectors=body.with_vector or False,
        )
        return models.ScrollResult(points=records, next_page_offset=offset)

    def count(self, name: str, body: models.CountRequest) -> models.CountResult:
        self._check_read(name, body.filter, None)
        return self.local.count(name, body.filter)

    def query_batch_points(self, name: str, body: models.QueryRequestBatch) -> list[models.QueryResponse]:
        return [self.query_points(name, request) for request in body.searches]

    def query_points(self, name: str, body: models.QueryRequest) -> models.QueryResponse:
        self._check_query(name, body)
        query = nearest(body.query)
        asks_nan = isinstance(query, list) and bool(np.isnan(np.asarray(query, np.float32)).any())
        answer = self.local.query_points(
            name,
            query=np.nan_to_num(query, nan=0.0).tolist() if asks_nan else body.query,
            using=body.using,
            prefetch=body.prefetch,
            query_filter=body.filter,
            # The others would make local mode warn that it ignores them.
            search_params=None if body.params is None else models.SearchParams(idf=body.params.idf),
            limit=10 if body.limit is None else body.limit,
            offset=body.offset,
            with_payload=body.with_payload or False,
            with_vectors=body.with_vector or False,
            score_threshold=body.score_threshold,
            lookup_from=body.lookup_from,
        )
        for hit in answer.points if asks_nan else []:
            hit.score = -np.inf
        return answer

    # What the above share

    def _settings(self, name: str) -> Settings:
        if name not in self.settings:
            raise Refusal(404, f"Not found: Collection `{name}` doesn't exist!")
        return self.settings[name]

    def _having(self, name: str, key: str) -> int:
        empty = models.IsEmptyCondition(is_empty=models.PayloadField(key=key))
        return self.local.count(name, models.Filter(must_not=[empty])).count

    def _check_read(self, name: str, condition: models.Filter | None, limit: int | None) -> None:
        settings = self._settings(name)
        if limit is not None and limit < 1:
            raise Refusal(422, f"Validation error in JSON body: [limit: value {limit} invalid, must be 1 or larger]")
        settings.strict.check_limit(limit or 0, settings.strict.on.max_query_limit, "limit")
        settings.strict.check_filter(condition, settings.types(), update=False)

    def _check_query(self, name: str, body: models.QueryRequest | models.Prefetch) -> None:
        self._check_read(name, body.filter, body.limit)
        config = self.local.collections[name].config
        if body.using is not None and body.using not in {*named(config.vectors), *(config.sparse_vectors or {})}:
            raise Refusal(400, f"Wrong input: Not existing vector name error: {body.using}")
        prefetch = body.prefetch or []
        for inner in prefetch if isinstance(prefetch, list) else [prefetch]:
            self._check_query(name, inner)

    def _points(self, name: str, points: list[Any], kind: type[BaseModel]) -> list[Any]:
        """The points with their vectors as they are stored; refuses them all if one is wrong."""
        check_ids([point.id for point in points])
        configured = named(self.local.collections[name].config.vectors)
        strict = self._settings(name).strict
        stored = []
        for row, point in enumerate(points):
            vectors = point.vector if isinstance(point.vector, dict) else {"": point.vector}
            for key, vector in vectors.items():
                check_shape(vector, f"points[{row}].vector.{key}", self.vector_limit)
            kept = {key: as_stored(key, vector, configured) for key, vector in vectors.items()}
            for key, vector in kept.items():
                if key in configured and configured[key].multivector_config is not None:
                    strict.check_rows(key, len(vector))
            vector = kept if isinstance(point.vector, dict) else kept[""]
            stored.append(kind.model_construct(**{**dict(point), "vector": vector}))
        return stored

    def _put_nan_back(self, name: str, points: list[Any]) -> None:
        """A server keeps NaN that came over gRPC; local mode refuses it, so it goes in behind its back."""
        collection: LocalCollection = self.local.collections[name]
        for point in points:
            row = collection.ids.get(normalize_point_id(point.id))
            vectors = point.vector if isinstance(point.vector, dict) else {"": point.vector}
            for key, vector in vectors.items():
                if row is not None and isinstance(vector, np.ndarray) and np.isnan(vector).any():
                    (collection.multivectors if key in collection.multivectors else collection.vectors)[key][row] = (
                        vector
                    )

    def _of_points(self, change: Any, name: str, *args: Any, **kwargs: Any) -> None:
        try:
            change(name, *args, **kwargs)
        except KeyError as missing:
            raise Refusal(404, f"Not found: No point with id {missing.args[0]} found") from missing


def named(vectors: Any) -> dict[str, models.VectorParams]:
    """The dense vectors of a collection by name; the only one without a name has the name ""."""
    return {"": vectors} if isinstance(vectors, models.VectorParams) else vectors or {}


def merge(config: Any, diff: BaseModel | None) -> Any:
    """Writes what a diff says into a configuration."""
    for key, value in dict(diff or {}).items():
        if value is not None:
            inner = getattr(config, key)
            setattr(config, key, merge(inner, value) if isinstance(inner, BaseModel) else value)
    return config


def updated() -> models.UpdateResult:
    return models.UpdateResult(status=models.UpdateStatus.COMPLETED)


def nearest(query: Any) -> Any:
    return query.nearest if isinstance(query, models.NearestQuery) else query


def without_nan(vectors: Any) -> Any:
    if isinstance(vectors, dict):
        return {key: without_nan(vector) for key, vector in vectors.items()}
    return np.where(np.isnan(vectors), np.float32(0), vectors) if isinstance(vectors, np.ndarray) else vectors


def check_ids(ids: list[Any]) -> None:
    """Refuses what is neither an unsigned integer nor a UUID."""
    for id_ in ids:
        try:
            fine = not isinstance(id_, int) or id_ >= 0
            normalize_point_id(id_, validate=True)
        except ValueError:
            fine = False
        if not fine:
            rule = "valid values are either an unsigned integer or a UUID"
            raise Refusal(400, f"Format error in JSON body: value {id_} is not a valid point ID, {rule}")
