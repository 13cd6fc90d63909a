"""gRPC's calls in, exchanges out: what a method raises becomes its status with details.

A StatusError goes out as it is, a ValueError says what its caller can mend, and of anything else
only an id goes out: the log has the cause under it (`ranker.service.exchange`).
"""

import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError
from grpc_status import rpc_status

from ranker.pb import ranker_pb2 as pb
from ranker.service import statuses
from ranker.service.exchange import TRACE_HEADERS, Exchanges

NEARLY = 0.95  # of the time that a caller allows: they counted from earlier, and cancel first

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["RankerService"].full_name


class StatusInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg, unused-ignore]
    """Stands before the methods of the ranker's service; health and reflection pass by.

    The first of all interceptors, so that it also sees what those behind it refuse.
    """

    def __init__(self, exchanges: Exchanges) -> None:
        self._exchanges = exchanges

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
        codec = {
            "request_deserializer": _tolerant(handler.request_deserializer),
            "response_serializer": handler.response_serializer,
        }
        if handler.response_streaming:
            behavior = self._streaming(handler.unary_stream, method)
            return grpc.unary_stream_rpc_method_handler(behavior, **codec)
        behavior = self._answering(handler.unary_unary, method)
        return grpc.unary_unary_rpc_method_handler(behavior, **codec)

    def _answering(self, behavior: Callable[[Any, Any], Awaitable[Any]], method: str) -> Any:
        async def answer(request: Any, context: Any) -> Any:
            try:
                with self._exchange(method, request, context) as exchange:
                    response = await behavior(request, context)
                    exchange.sent(response)
                    return response
            except statuses.StatusError as error:
                await _abort(context, error)

        return answer

    def _streaming(self, behavior: Callable[[Any, Any], AsyncGenerator[Any]], method: str) -> Any:
        async def answers(request: Any, context: Any) -> AsyncIterator[Any]:
            try:
                with self._exchange(method, request, context) as exchange:
                    async with aclosing(behavior(request, context)) as responses:
                        async for response in responses:
                            exchange.sent(response)
                            yield response
            except statuses.StatusError as error:
                await _abort(context, error)

        return answers

    def _exchange(self, method: str, request: Any, context: Any) -> Any:
        metadata = context.invocation_metadata() or ()
        headers = {key: value for key, value in metadata if key in TRACE_HEADERS}
        allowed_s = context.time_remaining()
        until = math.inf if allowed_s is None else time.monotonic() + NEARLY * allowed_s
        return self._exchanges.begin(
            method,
            request,
            protocol="grpc",
            headers=headers,
            is_late=lambda: time.monotonic() >= until,
        )


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


async def _abort(context: Any, error: statuses.StatusError) -> NoReturn:
    status = rpc_status.to_status(error.status)
    await context.abort(status.code, status.details, status.trailing_metadata)
    raise AssertionError("abort returned")
