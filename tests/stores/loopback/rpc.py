"""The gRPC side: messages to the client's REST models and back, with the client's own conversions."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partialmethod
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
from grpc import StatusCode
from qdrant_client import grpc as messages
from qdrant_client import models
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc
from qdrant_client.grpc import collections_service_pb2_grpc, points_service_pb2_grpc, qdrant_pb2_grpc

from .engine import UNPLAYED
from .faults import Call, ConnectionDropped, Refusal

if TYPE_CHECKING:
    from .server import QdrantLoopback

CODES = {
    400: StatusCode.INVALID_ARGUMENT,
    401: StatusCode.UNAUTHENTICATED,
    403: StatusCode.PERMISSION_DENIED,
    404: StatusCode.NOT_FOUND,
    408: StatusCode.DEADLINE_EXCEEDED,
    409: StatusCode.ALREADY_EXISTS,
    413: StatusCode.RESOURCE_EXHAUSTED,
    422: StatusCode.INVALID_ARGUMENT,
    429: StatusCode.RESOURCE_EXHAUSTED,
    500: StatusCode.INTERNAL,
    502: StatusCode.UNAVAILABLE,
    503: StatusCode.UNAVAILABLE,
    504: StatusCode.UNAVAILABLE,
}


class RpcServer:
    """Listens on a port (0: a free one) until it is stopped."""

    def __init__(self, loopback: QdrantLoopback, port: int) -> None:
        self._threads = ThreadPoolExecutor(16, thread_name_prefix="loopback-grpc")
        options = [
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
        ]
        self._server = grpc.server(self._threads, options=options)
        qdrant_pb2_grpc.add_QdrantServicer_to_server(Root(loopback), self._server)
        collections_service_pb2_grpc.add_CollectionsServicer_to_server(Collections(loopback), self._server)
        points_service_pb2_grpc.add_PointsServicer_to_server(Points(loopback), self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        self._server.start()

    def stop(self) -> None:
        self._server.stop(None).wait()
        self._threads.shutdown()


class _Servicer:
    def __init_subclass__(cls) -> None:
        for name in vars(cls.__bases__[1]).keys() - vars(cls).keys():
            if not name.startswith("_"):
                setattr(cls, name, partialmethod(_Servicer._refuse_unplayed, name))

    def __init__(self, loopback: QdrantLoopback) -> None:
        self.loopback = loopback

    def answer(
        self, operation: str, request: Any, context: grpc.ServicerContext, decode: Callable[[], Any] = lambda: None
    ) -> Any:
        """The result of a call as the client's REST model, or the call's end."""
        wait = request.wait if "wait" in request.DESCRIPTOR.fields_by_name else True
        name = getattr(request, "collection_name", "")
        call = Call(operation, name, "grpc", request.ByteSize(), wait=wait)
        try:
            return self.loopback.answer(call, lambda: self._let_in(context), lambda: _decoded(decode))
        except ConnectionDropped:
            context.abort(StatusCode.UNAVAILABLE, "Stream removed")
        except Refusal as refusal:
            if refusal.retry_after is not None:
                context.set_trailing_metadata([("retry-after", str(refusal.retry_after))])
            context.abort(CODES[refusal.status], refusal.message)

    def _refuse_unplayed(self, name: str, _: Any, context: grpc.ServicerContext) -> NoReturn:
        self.loopback.crashed(NotImplementedError(f"{name} is not played"))
        context.abort(StatusCode.UNIMPLEMENTED, name)

    def _let_in(self, context: grpc.ServicerContext) -> None:
        sent = dict(context.invocation_metadata())
        self.loopback.lets_in(sent.get("api-key"), sent.get("authorization"))


def _decoded(decode: Callable[[], Any]) -> Any:
    try:
        return decode()
    except ValueError as error:
        raise Refusal(400, f"Wrong input: {error}") from error


class Root(_Servicer, qdrant_pb2_grpc.QdrantServicer):
    def HealthCheck(self, request: Any, context: Any) -> Any:
        return messages.HealthCheckReply(title="qdrant - vector search engine", version=self.loopback.version)


class Collections(_Servicer, collections_service_pb2_grpc.CollectionsServicer):
    def List(self, request: Any, context: Any) -> Any:
        result = self.answer("get_collections", request, context)
        found = [RestToGrpc.convert_collection_description(each) for each in result.collections]
        return messages.ListCollectionsResponse(collections=found)

    def CollectionExists(self, request: Any, context: Any) -> Any:
        exists = self.answer("collection_exists", request, context).exists
        return messages.CollectionExistsResponse(result=messages.CollectionExists(exists=exists))

    def Get(self, request: Any, context: Any) -> Any:
        info = self.answer("get_collection", request, context)
        return messages.GetCollectionInfoResponse(result=RestToGrpc.convert_collection_info(info))

    def Create(self, request: Any, context: Any) -> Any:
        result = self.answer("create_collection", request, context, lambda: create_collection(request))
        return messages.CollectionOperationResponse(result=result)

    def Update(self, request: Any, context: Any) -> Any:
        decode = lambda: GrpcToRest.convert_update_collection(request)  # noqa: E731
        return messages.CollectionOperationResponse(result=self.answer("update_collection", request, context, decode))

    def Delete(self, request: Any, context: Any) -> Any:
        return messages.CollectionOperationResponse(result=self.answer("delete_collection", request, context))


class Points(_Servicer, points_service_pb2_grpc.PointsServicer):
    def _write(self, operation: str, request: Any, context: Any, decode: Callable[[], Any]) -> Any:
        result = RestToGrpc.convert_update_result(self.answer(operation, request, context, decode))
        return messages.PointsOperationResponse(result=result)

    def CreateFieldIndex(self, request: Any, context: Any) -> Any:
        return self._write("create_payload_index", request, context, lambda: create_field_index(request))

    def DeleteFieldIndex(self, request: Any, context: Any) -> Any:
        return self._write("delete_payload_index", request, context, lambda: request.field_name)

    def Upsert(self, request: Any, context: Any) -> Any:
        def decode() -> models.PointsList:
            return models.PointsList.model_construct(
                points=[GrpcToRest.convert_point_struct(point) for point in request.points],
                update_filter=optional(request, "update_filter", GrpcToRest.convert_filter),
                update_mode=optional(request, "update_mode", GrpcToRest.convert_update_mode),
            )

        return self._write("upsert", request, context, decode)

    def UpdateVectors(self, request: Any, context: Any) -> Any:
        def decode() -> models.UpdateVectors:
            return models.UpdateVectors.model_construct(
                points=[GrpcToRest.convert_point_vectors(point) for point in request.points],
                update_filter=optional(request, "update_filter", GrpcToRest.convert_filter),
            )

        return self._write("update_vectors", request, context, decode)

    def SetPayload(self, request: Any, context: Any) -> Any:
        def decode() -> models.SetPayload:
            selector = GrpcToRest.convert_points_selector(request.points_selector)
            return models.SetPayload(
                payload=GrpcToRest.convert_payload(request.payload),
                points=getattr(selector, "points", None),
                filter=getattr(selector, "filter", None),
                key=optional(request, "key"),
            )

        return self._write("set_payload", request, context, decode)

    def Delete(self, request: Any, context: Any) -> Any:
        return self._write("delete", request, context, lambda: GrpcToRest.convert_points_selector(request.points))

    def Get(self, request: Any, context: Any) -> Any:
        def decode() -> models.PointRequest:
            return models.PointRequest(
                ids=[GrpcToRest.convert_point_id(id_) for id_ in request.ids], **selectors(request)
            )

        return messages.GetResponse(
            result=[record(point) for point in self.answer("retrieve", request, context, decode)]
        )

    def Scroll(self, request: Any, context: Any) -> Any:
        def decode() -> models.ScrollRequest:
            return models.ScrollRequest(
                filter=optional(request, "filter", GrpcToRest.convert_filter),
                limit=optional(request, "limit"),
                offset=optional(request, "offset", GrpcToRest.convert_point_id),
                order_by=optional(request, "order_by", GrpcToRest.convert_order_by),
                **selectors(request),
            )

        page = self.answer("scroll", request, context, decode)
        offset = page.next_page_offset
        return messages.ScrollResponse(
            result=[record(point) for point in page.points],
            next_page_offset=None if offset is None else RestToGrpc.convert_extended_point_id(offset),
        )

    def Count(self, request: Any, context: Any) -> Any:
        def decode() -> models.CountRequest:
            return models.CountRequest(
                filter=optional(request, "filter", GrpcToRest.convert_filter), exact=optional(request, "exact")
            )

        result = RestToGrpc.convert_count_result(self.answer("count", request, context, decode))
        return messages.CountResponse(result=result)

    def Query(self, request: Any, context: Any) -> Any:
        answer = self.answer("query_points", request, context, lambda: GrpcToRest.convert_query_points(request))
        return messages.QueryResponse(result=[RestToGrpc.convert_scored_point(hit) for hit in answer.points])

    def QueryBatch(self, request: Any, context: Any) -> Any:
        def decode() -> models.QueryRequestBatch:
            return models.QueryRequestBatch(
                searches=[GrpcToRest.convert_query_points(each) for each in request.query_points]
            )

        results = [
            messages.BatchResult(result=[RestToGrpc.convert_scored_point(hit) for hit in answer.points])
            for answer in self.answer("query_batch_points", request, context, decode)
        ]
        return messages.QueryBatchResponse(result=results)


def optional(request: Any, name: str, convert: Callable[[Any], Any] = lambda value: value) -> Any:
    return convert(getattr(request, name)) if request.HasField(name) else None


def selectors(request: Any) -> dict[str, Any]:
    return {
        "with_payload": optional(request, "with_payload", GrpcToRest.convert_with_payload_selector),
        "with_vector": optional(request, "with_vectors", GrpcToRest.convert_with_vectors_selector),
    }


def record(point: models.Record) -> Any:
    """A record's message; its converter takes no record without a payload."""
    return RestToGrpc.convert_record(point.model_copy(update={"payload": point.payload or {}}))


def create_collection(request: Any) -> models.CreateCollection:
    if asked := [name for name in sorted(UNPLAYED) if request.HasField(name)]:
        raise NotImplementedError(f"create_collection with {asked} is not played")
    return models.CreateCollection(
        vectors=optional(request, "vectors_config", GrpcToRest.convert_vectors_config),
        sparse_vectors=optional(request, "sparse_vectors_config", GrpcToRest.convert_sparse_vector_config),
        hnsw_config=optional(request, "hnsw_config", GrpcToRest.convert_hnsw_config_diff),
        optimizers_config=optional(request, "optimizers_config", GrpcToRest.convert_optimizers_config_diff),
        quantization_config=optional(request, "quantization_config", GrpcToRest.convert_quantization_config),
        strict_mode_config=optional(request, "strict_mode_config", GrpcToRest.convert_strict_mode_config),
        on_disk_payload=optional(request, "on_disk_payload"),
        metadata=GrpcToRest.convert_payload(request.metadata) or None,
    )


def create_field_index(request: Any) -> models.CreateFieldIndex:
    params = optional(request, "field_index_params", GrpcToRest.convert_payload_schema_params)
    if params is None and request.HasField("field_type"):
        params = models.PayloadSchemaType(messages.FieldType.Name(request.field_type).removeprefix("FieldType").lower())
    return models.CreateFieldIndex(field_name=request.field_name, field_schema=params)
