"""Metrics: counts of one server stay its own, and its port is freed."""

import urllib.request

import pytest

from ranker.service.exchange import Exchange
from ranker.service.metrics import Metrics


def test_two_servers_in_one_process_count_apart() -> None:
    first, second = Metrics(), Metrics()
    first.observe(Exchange(method="Rerank", protocol="grpc"))
    labels = {"method": "Rerank", "code": "OK"}
    assert first.registry.get_sample_value("sommelier_requests_total", labels) == 1
    assert second.registry.get_sample_value("sommelier_requests_total", labels) is None


def test_the_queue_is_read_whenever_the_metrics_are() -> None:
    metrics, depth = Metrics(), [3]
    metrics.watch_queue(lambda: depth[0])
    assert metrics.registry.get_sample_value("sommelier_queue_depth") == 3
    depth[0] = 0
    assert metrics.registry.get_sample_value("sommelier_queue_depth") == 0


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
