"""Ended requests in, OpenTelemetry spans out: the request's own, and below it one for each stage.

Spans are made when a request has ended, from the stages' times in its answer. So they need nothing
from those who compute, in whichever process, and cost a request nothing while it is answered. The
stages follow one another, in the order queue, retrieve, rerank; what lies between the last of them
and the request's end is the service's own.

The parent is the caller's, if they sent a `traceparent` (https://www.w3.org/TR/trace-context/);
whether a trace is recorded is then theirs to say, and else drawn by lot.
"""

from collections.abc import Iterator

import grpc
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from ranker.service.exchange import OK, Exchange
from ranker.service.interceptor import SERVICE_NAME

STAGES = ("queue", "retrieve", "rerank")
SHOWN_CHARACTERS = 256
EXPORT_S = 2.0  # a collector that is not there also holds up a stop for so long
# What the server is to blame for, and not its caller:
# https://opentelemetry.io/docs/specs/semconv/rpc/grpc/
FAULTS = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
)


class Tracing:
    """An observer of exchanges that exports them."""

    def __init__(self, processor: SpanProcessor, *, share: float = 1.0) -> None:
        """Hands spans to the processor.

        Args:
            processor: Which exports them.
            share: Of requests without a parent, how many are recorded, in [0, 1].
        """
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(share)),
            resource=Resource.create({"service.name": "sommelier"}),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("ranker.service")
        self._propagator = TraceContextTextMapPropagator()

    def observe(self, exchange: Exchange) -> None:
        """Makes its spans; from now on the exchange knows its trace."""
        span = self._tracer.start_span(
            f"{SERVICE_NAME}/{exchange.method}",
            context=self._propagator.extract(exchange.headers),
            kind=trace.SpanKind.SERVER,
            start_time=exchange.began_ns,
        )
        exchange.trace_id = trace.format_trace_id(span.get_span_context().trace_id)
        if not span.is_recording():
            return
        span.set_attributes(_attributes(exchange))
        if exchange.code in FAULTS:
            told = exchange.reason or exchange.code
            span.set_status(trace.Status(trace.StatusCode.ERROR, told))
        within = trace.set_span_in_context(span)
        for stage, begin_ns, end_ns in _stages(exchange):
            child = self._tracer.start_span(stage, context=within, start_time=begin_ns)
            child.end(end_ns)
        if exchange.first_s is not None:
            first_ns = exchange.began_ns + round(exchange.first_s * 1e9)
            span.add_event("first message", timestamp=first_ns)
        span.end(exchange.began_ns + round(exchange.seconds * 1e9))

    def close(self) -> None:
        """Exports what is held, and stops."""
        self._provider.shutdown()


def exporting(endpoint: str, *, share: float) -> Tracing:
    """Spans to an OTLP collector over gRPC, in batches and from a thread of their own.

    Args:
        endpoint: Its URL: `http://host:4317`, or https for one with TLS.
        share: Of requests without a parent, how many are recorded, in [0, 1].
    """
    exporter = OTLPSpanExporter(
        endpoint=endpoint, insecure=endpoint.startswith("http://"), timeout=EXPORT_S
    )
    return Tracing(BatchSpanProcessor(exporter), share=share)


def _attributes(exchange: Exchange) -> dict[str, AttributeValue]:
    told: dict[str, AttributeValue] = {
        "rpc.system": exchange.protocol,
        "rpc.service": SERVICE_NAME,
        "rpc.method": exchange.method,
        "rpc.grpc.status_code": grpc.StatusCode[exchange.code].value[0],
        "sommelier.request_id": exchange.request_id[:SHOWN_CHARACTERS],
        "sommelier.caller": exchange.caller,
    }
    if exchange.code != OK:
        told["sommelier.reason"] = exchange.reason or exchange.code
    if exchange.answer is not None:
        told["sommelier.generation_id"] = exchange.answer.generation_id
        told["sommelier.items"] = len(exchange.answer.items)
        told["sommelier.scored"] = exchange.answer.scored_count
        told["sommelier.degraded"] = exchange.answer.degraded
    return told


def _stages(exchange: Exchange) -> Iterator[tuple[str, int, int]]:
    """Each stage with its begin and end in nanoseconds; none where there was no answer."""
    if exchange.answer is None or exchange.reason:
        return
    begin_ns = exchange.began_ns
    for stage in STAGES:
        end_ns = begin_ns + round(getattr(exchange.answer.timings, f"{stage}_ms") * 1e6)
        yield stage, begin_ns, end_ns
        begin_ns = end_ns
