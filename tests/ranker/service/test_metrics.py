"""Metrics: counts of one server stay its own, answers are read, and its port is freed."""

import urllib.request

import pytest

from ranker.pb import ranker_pb2 as pb
from ranker.service.exchange import Exchange
from ranker.service.metrics import Metrics

TIMINGS = pb.Timings(queue_ms=1, retrieve_ms=2, rerank_ms=4, total_ms=8)
STATUSES = [pb.ITEM_STATUS_OK, pb.ITEM_STATUS_OK, pb.ITEM_STATUS_UNKNOWN_ITEM]
ANSWER = pb.RerankResponse(
    items=[pb.RankedItem(status=status) for status in STATUSES],
    timings=TIMINGS,
    scored_count=2,
    degraded=True,
)
RERANK = {"method": "Rerank"}


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def ended(**facts: object) -> Exchange:
    return Exchange(method="Rerank", protocol="grpc", **facts)  # type: ignore[arg-type]


def test_two_servers_in_one_process_count_apart() -> None:
    first, second = Metrics(), Metrics()
    first.observe(ended())
    labels = {"method": "Rerank", "code": "OK"}
    assert first.registry.get_sample_value("sommelier_requests_total", labels) == 1
    assert second.registry.get_sample_value("sommelier_requests_total", labels) is None


def test_an_answer_tells_its_stages_its_candidates_and_what_became_of_items(
    metrics: Metrics,
) -> None:
    metrics.observe(ended(answer=ANSWER))
    value = metrics.registry.get_sample_value
    for stage, seconds in (("queue", 0.001), ("retrieve", 0.002), ("rerank", 0.004)):
        labels = {**RERANK, "stage": stage}
        assert value("sommelier_latency_seconds_sum", labels) == pytest.approx(seconds)
    assert value("sommelier_latency_seconds_sum", {**RERANK, "stage": "total"}) == 0.008
    assert value("sommelier_latency_seconds_count", {**RERANK, "stage": "first"}) is None
    assert value("sommelier_candidates_sum", RERANK) == 2
    assert value("sommelier_items_total", {**RERANK, "status": "OK"}) == 2
    assert value("sommelier_items_total", {**RERANK, "status": "UNKNOWN_ITEM"}) == 1
    assert value("sommelier_degraded_total", RERANK) == 1


def test_a_stream_tells_when_its_first_message_went_out(metrics: Metrics) -> None:
    metrics.observe(ended(answer=ANSWER, first_s=0.25))
    labels = {**RERANK, "stage": "first"}
    assert metrics.registry.get_sample_value("sommelier_latency_seconds_sum", labels) == 0.25


def test_a_refusal_is_counted_by_its_reason_and_times_nothing(metrics: Metrics) -> None:
    refused = ended(code="RESOURCE_EXHAUSTED", reason="QUEUE_FULL", answer=ANSWER)
    metrics.observe(refused)
    value = metrics.registry.get_sample_value
    assert value("sommelier_refusals_total", {**RERANK, "reason": "QUEUE_FULL"}) == 1
    assert value("sommelier_latency_seconds_count", {**RERANK, "stage": "total"}) is None


def test_only_a_caller_beyond_their_rate_is_counted_by_name(metrics: Metrics) -> None:
    for reason in ("RATE_LIMITED", "QUEUE_FULL"):
        metrics.observe(ended(code="RESOURCE_EXHAUSTED", reason=reason, caller="shop"))
    metrics.observe(ended(caller="shop"))
    assert metrics.registry.get_sample_value("sommelier_limited_total", {"caller": "shop"}) == 1


def test_closing_frees_the_port_and_may_be_repeated() -> None:
    metrics = Metrics()
    port = metrics.serve(host="127.0.0.1", port=0)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as page:
        assert b"sommelier_requests_total" in page.read()
    with pytest.raises(OSError, match="in use"):
        Metrics().serve(host="127.0.0.1", port=port)
    metrics.close()
    metrics.close()
    again = Metrics()
    assert again.serve(host="127.0.0.1", port=port) == port
    again.close()
