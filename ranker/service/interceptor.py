"""Whatever a method raises in, one gRPC status out; every ended request is counted.

A StatusError goes out as it is, a ValueError says what its caller can mend, and of anything else
only an id goes out: the log has the cause under it.
"""

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError
from grpc_status import rpc_status

from ranker.pb import ranker_pb2 as pb
from ranker.service import statuses
from ranker.service.metrics import Metrics

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["RankerService"].full_name

log = logging.getLogger(__name__)

Behavior = Callable[[Any, Any], Awaitable[Any]]


class StatusInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg, unused-ignore]
    """Stands before the methods of the ranker's service; health and reflection pass by."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """The method's handler, wrapped; gRPC calls this once for each request."""
        handler = await continuation(handler_call_details)
        service, _, method = handler_call_details.method.lstrip("/").partition("/")
        if handler is None or service != SERVICE_NAME:
            return handler
        return grpc.unary_unary_rpc_method_handler(
            self._answering(handler.unary_unary, method),
            request_deserializer=_tolerant(handler.request_deserializer),
            response_serializer=handler.response_serializer,
        )

    def _answering(self, behavior: Behavior, method: str) -> Behavior:
        async def answer(request: Any, context: Any) -> Any:
            try:
                if isinstance(request, DecodeError):
                    raise statuses.malformed(f"{method}Request")
                response = await behavior(request, context)
            except asyncio.CancelledError:
                self._metrics.count(method=method, code=grpc.StatusCode.CANCELLED.name)
                raise
            except Exception as error:
                status = _status_of(error, method=method, request=request)
                self._metrics.count(method=method, code=status.code.name)
                await _abort(context, status)
            self._metrics.count(method=method, code=grpc.StatusCode.OK.name)
            return response

        return answer


def _tolerant(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Hands a parsing error on as if it were the request.

    Raised inside gRPC it would reach the caller as UNKNOWN with our types in its text.
    """

    def parse(data: bytes) -> Any:
        try:
            return deserialize(data)
        except DecodeError as error:
            return error

    return parse


def _status_of(error: Exception, *, method: str, request: Any) -> statuses.StatusError:
    # Quoted in the log: a caller's text must not be able to write lines of its own there.
    request_id = getattr(request, "request_id", "")  # GetInfo has none
    match error:
        case statuses.StatusError():
            return error
        case ValueError():
            log.warning("%s %r: refused", method, request_id, exc_info=error)
            return statuses.refused(error)
        case _:
            error_id = uuid.uuid4().hex[:12]
            log.error("%s %r: error %s", method, request_id, error_id, exc_info=error)
            return statuses.internal(error_id)


async def _abort(context: Any, error: statuses.StatusError) -> NoReturn:
    status = rpc_status.to_status(error.status)
    await context.abort(status.code, status.details, status.trailing_metadata)
    raise AssertionError("abort returned")
