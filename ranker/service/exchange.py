"""One request while it is answered in, a note of how it ended out, for whoever watches the service.

Every way to the service (gRPC, HTTP) answers inside an exchange. It gives errors their status, and
tells the observers once, however the request ends: answered, refused, cancelled or cut off.
Observers see the answer that went out and so need nothing from whoever computed it, in whichever
process that was.
"""

import asyncio
import logging
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from google.protobuf.message import DecodeError

from ranker.pb import ranker_pb2 as pb
from ranker.service import statuses

Answer: TypeAlias = pb.RerankResponse | pb.RecommendResponse

CALLER: ContextVar[str] = ContextVar("caller", default="")
"""Who asks. Set by whoever has checked a token, in the task that answers."""

TRACE_HEADERS = ("traceparent", "tracestate")  # https://www.w3.org/TR/trace-context/
TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")

CANCELLED = "CANCELLED"
DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
OK = "OK"

log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Exchange:
    """One request; final once the observers have it."""

    method: str
    """As the .proto names it, without its service."""
    protocol: str
    """`grpc` or `http`."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """What the caller sent of the trace that the request is part of: `TRACE_HEADERS`."""
    trace_id: str = ""
    """32 hexadecimal digits; empty where the request is part of no trace."""
    request_id: str = ""
    """The caller's, else the one that the service made up; empty where there is neither."""
    caller: str = ""
    """Empty where tokens are not asked for, and where none was accepted."""
    began_ns: int = field(default_factory=time.time_ns)
    """By the clock on the wall, for spans and logs alone."""
    seconds: float = 0.0
    """From the arrival to the end."""
    first_s: float | None = None
    """Until the first message of a stream."""
    num_messages: int = 0
    code: str = OK
    """gRPC's name of it, over HTTP as well."""
    reason: str = ""
    """Of a refusal; empty where the request was answered or cancelled."""
    answer: Answer | None = None
    """What went out; of a stream its last."""
    _began: float = field(default_factory=time.perf_counter)

    def sent(self, message: Any) -> None:
        """An answer goes out: a response, or one message of a stream."""
        self.num_messages += 1
        self.caller = CALLER.get()
        if isinstance(message, pb.StreamRerankResponse):
            if self.first_s is None:
                self.first_s = time.perf_counter() - self._began
            message = message.ranking
        if isinstance(message, Answer):
            self.answer = message
            self.request_id = self.request_id or message.request_id

    def failed(self, error: statuses.StatusError) -> None:
        """The request is refused."""
        self.code, self.reason = error.code.name, error.reason

    def ended(self) -> None:
        """Nothing more will come."""
        self.caller = self.caller or CALLER.get()
        self.seconds = time.perf_counter() - self._began


Observer: TypeAlias = Callable[[Exchange], None]


class Exchanges:
    """Those under way, and who is told of each that ends. Used from one event loop."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = tuple(observers)
        self.num_under_way = 0

    @contextmanager
    def begin(
        self,
        method: str,
        request: Any,
        *,
        protocol: str,
        headers: Mapping[str, str],
        is_late: Callable[[], bool] = lambda: False,
    ) -> Iterator[Exchange]:
        """One request, from its arrival to its end.

        Args:
            method: As the .proto names it.
            request: As it was parsed, or the DecodeError of what could not be.
            protocol: `grpc` or `http`.
            headers: Those of a trace.
            is_late: Whether the caller's time is over: gRPC then cancels, as if they had left.

        Raises:
            StatusError: whatever went wrong inside, but for being cancelled.
        """
        exchange = Exchange(
            method=method,
            protocol=protocol,
            headers=headers,
            trace_id=_trace_id(headers),
            request_id=_request_id(request),
        )
        self.num_under_way += 1
        try:
            if isinstance(request, DecodeError):
                raise statuses.malformed(f"{method}Request")
            yield exchange
        except (asyncio.CancelledError, GeneratorExit):  # a stream that nobody reads is closed
            exchange.code = DEADLINE_EXCEEDED if is_late() else CANCELLED
            raise
        except Exception as error:
            status = _status_of(error, exchange)
            exchange.failed(status)
            if status is error:
                raise
            raise status from error
        finally:
            self.num_under_way -= 1
            exchange.ended()
            for observe in self._observers:
                observe(exchange)


def _request_id(request: Any) -> str:
    if isinstance(request, pb.StreamRerankRequest):
        request = request.rerank
    # GetInfo's request has none, nor have bytes that are no request.
    return str(getattr(request, "request_id", ""))


def _trace_id(headers: Mapping[str, str]) -> str:
    parent = TRACEPARENT.fullmatch(headers.get("traceparent", ""))
    return parent[1] if parent else ""


def _status_of(error: Exception, exchange: Exchange) -> statuses.StatusError:
    # Quoted in the log: a caller's text must not be able to write lines of its own there.
    request = exchange.method, exchange.request_id
    match error:
        case statuses.StatusError():
            return error
        case ValueError():
            log.warning("%s %r: refused", *request, exc_info=error)
            return statuses.refused(error)
        case _:
            error_id = uuid.uuid4().hex[:12]
            log.error("%s %r: error %s", *request, error_id, exc_info=error)
            return statuses.internal(error_id)
