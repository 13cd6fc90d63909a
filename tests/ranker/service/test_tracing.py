"""Spans say where a request's time went, below the caller's own; a real OTLP receiver gets them."""

from collections.abc import Iterator, Sequence
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as otlp
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as otlp_grpc
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from ranker.limits import ServerConfig
from ranker.pb import ranker_pb2 as pb
from ranker.pb import ranker_pb2_grpc as pb_grpc
from ranker.service import statuses
from ranker.service.exchange import Exchanges
from ranker.service.server import running
from ranker.service.tracing import Tracing
from tests.ranker.serving_world import TableServing

TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
RECORDED, UNRECORDED = (f"00-{TRACE_ID}-{SPAN_ID}-{flag}" for flag in ("01", "00"))
METHOD = "sommelier.ranker.v1.RankerService/Rerank"
REQUEST = pb.RerankRequest(request_id="r1", user=pb.User(user_id="ada"), item_ids=["a", "b"])
TIMINGS = pb.Timings(queue_ms=1, retrieve_ms=2, rerank_ms=4, total_ms=8)
ANSWER = pb.RerankResponse(generation_id="g1", timings=TIMINGS, scored_count=2)
PATIENCE_S = 10


class Receiver(otlp_grpc.TraceServiceServicer):
    """A collector of the protocol's own service, with nothing behind it."""

    def __init__(self) -> None:
        self.resources: list[Any] = []

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.resources.extend(request.resource_spans)
        return otlp.ExportTraceServiceResponse()

    @property
    def spans(self) -> list[Any]:
        return [span for one in self.resources for scope in one.scope_spans for span in scope.spans]


@contextmanager
def receiving() -> Iterator[tuple[Receiver, str]]:
    receiver, server = Receiver(), grpc.server(futures.ThreadPoolExecutor(1))
    otlp_grpc.add_TraceServiceServicer_to_server(receiver, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield receiver, f"http://127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def traced(
    *messages: Any, error: Exception | None = None, share: float = 1.0, **headers: str
) -> tuple[Sequence[ReadableSpan], str]:
    """The spans of one exchange by name, and the trace that it knew of in the end."""
    exporter = InMemorySpanExporter()
    tracing = Tracing(SimpleSpanProcessor(exporter), share=share)
    exchanges = Exchanges([tracing.observe])
    begun: Any = None
    try:
        with exchanges.begin("Rerank", REQUEST, protocol="grpc", headers=headers) as begun:
            if error is not None:
                raise error
            for message in messages:
                begun.sent(message)
    except statuses.StatusError:
        pass  # what the caller gets
    tracing.close()
    return exporter.get_finished_spans(), begun.trace_id


def test_stages_follow_one_another_below_the_request() -> None:
    spans, _ = traced(ANSWER)
    by_name = {span.name: span for span in spans}
    assert set(by_name) == {METHOD, "queue", "retrieve", "rerank"}
    request = by_name[METHOD]
    assert request.kind is SpanKind.SERVER
    assert request.attributes
    assert request.attributes["sommelier.request_id"] == "r1"
    assert request.attributes["sommelier.scored"] == 2
    assert request.attributes["rpc.grpc.status_code"] == 0
    begin_ns = request.start_time
    for name, milliseconds in (("queue", 1), ("retrieve", 2), ("rerank", 4)):
        stage = by_name[name]
        assert stage.parent is not None
        assert stage.parent.span_id == request.context.span_id
        assert stage.start_time == begin_ns
        assert stage.end_time - stage.start_time == milliseconds * 10**6
        begin_ns = stage.end_time


def test_a_callers_trace_goes_on_here() -> None:
    spans, trace_id = traced(ANSWER, traceparent=RECORDED)
    [request] = [span for span in spans if span.name == METHOD]
    assert trace_id == TRACE_ID
    assert request.parent is not None
    assert f"{request.parent.span_id:016x}" == SPAN_ID
    assert {f"{span.context.trace_id:032x}" for span in spans} == {TRACE_ID}


def test_the_caller_decides_what_is_recorded_and_else_the_share() -> None:
    assert traced(ANSWER, traceparent=UNRECORDED) == ((), TRACE_ID)
    assert traced(ANSWER, share=0.0)[0] == ()
    assert len(traced(ANSWER, share=0.0, traceparent=RECORDED)[0]) == 4


def test_what_is_no_trace_begins_one() -> None:
    spans, trace_id = traced(ANSWER, traceparent="00-hacked")
    assert {span.parent for span in spans if span.name == METHOD} == {None}
    assert len(trace_id) == 32


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (KeyError("ours"), StatusCode.ERROR),
        (statuses.shutting_down(), StatusCode.ERROR),
        (statuses.unknown_user("bob"), StatusCode.UNSET),
    ],
)
def test_only_the_servers_own_faults_are_errors(error: Exception, status: StatusCode) -> None:
    [request], _ = traced(error=error)
    assert request.status.status_code is status
    assert request.attributes
    assert request.attributes["sommelier.reason"] in {
        "INTERNAL",
        "SHUTTING_DOWN",
        "UNKNOWN_USER",
    }


def test_a_streams_first_message_is_an_event() -> None:
    spans, _ = traced(*[pb.StreamRerankResponse(ranking=ANSWER)] * 2)
    [request] = [span for span in spans if span.name == METHOD]
    [first] = request.events
    assert first.name == "first message"
    assert request.start_time <= first.timestamp <= request.end_time


def test_a_real_collector_gets_the_spans_of_a_real_server() -> None:
    metadata = (("traceparent", RECORDED),)
    with receiving() as (receiver, endpoint):
        config = ServerConfig(port=0, traces=endpoint, traces_share=0.0)
        with (
            running(TableServing(), config=config) as server,
            grpc.insecure_channel(server.address) as channel,
        ):
            stub = pb_grpc.RankerServiceStub(channel)
            stub.Rerank(REQUEST, timeout=PATIENCE_S, metadata=metadata)
            stub.Rerank(REQUEST, timeout=PATIENCE_S)  # of no trace, and not drawn
        # The server is stopped: what it held has been sent.
        spans = receiver.spans
    assert sorted(span.name for span in spans) == sorted([METHOD, "queue", "retrieve", "rerank"])
    assert {span.trace_id.hex() for span in spans} == {TRACE_ID}
    [resource] = receiver.resources
    attributes = {one.key: one.value.string_value for one in resource.resource.attributes}
    assert attributes["service.name"] == "sommelier"


def test_a_collector_that_is_not_there_refuses_nobody() -> None:
    config = ServerConfig(port=0, traces="http://127.0.0.1:9", traces_share=1.0)
    with (
        running(TableServing(), config=config) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        response = pb_grpc.RankerServiceStub(channel).Rerank(REQUEST, timeout=PATIENCE_S)
    assert len(response.items) == 2
