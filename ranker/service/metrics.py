"""What the service does in, Prometheus metrics out.

Each server counts in a registry of its own, so that two servers in one process stay apart. Labels
are the service's own methods, gRPC's codes, fixed reasons, stages and statuses, and the callers
that hold a token: their number cannot grow with traffic.

Two ways in. `observe` counts every exchange that ended. The `watch_*` methods take a function that
is called whenever the metrics are read, from another thread: it should answer at once, and what it
raises is logged while everything else is still told.
"""

from collections import Counter as Tally
from functools import cache
from operator import attrgetter
from threading import Thread
from typing import Any
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Counter, Histogram, start_http_server

from ranker.pb import ranker_pb2 as pb
from ranker.service.exchange import Answer, Exchange
from ranker.service.readings import Readings

LATENCY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
CANDIDATE_BUCKETS = (1, 10, 25, 50, 100, 200, 500, 1000)
STAGES = ("queue", "retrieve", "rerank", "total")
STATUS_NAMES = {number: name.removeprefix("ITEM_STATUS_") for name, number in pb.ItemStatus.items()}
RATE_LIMITED = "RATE_LIMITED"

_status = attrgetter("status")


class Metrics(Readings):
    """Counts of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        super().__init__(self.registry)
        self._requests = self._counter("requests", "Requests, by gRPC code.", "method", "code")
        self._refusals = self._counter("refusals", "Requests refused.", "method", "reason")
        self._limited = self._counter("limited", "Requests beyond their caller's rate.", "caller")
        self._latency = self._histogram(
            "latency_seconds",
            "Time of answered requests by stage: queue, retrieve, rerank, total; of streams also "
            "first, until their first message.",
            ("method", "stage"),
            LATENCY_BUCKETS_S,
        )
        self._candidates = self._histogram(
            "candidates", "Candidates that one request had scored.", ("method",), CANDIDATE_BUCKETS
        )
        self._items = self._counter("items", "Items answered, by status.", "method", "status")
        self._degraded = self._counter(
            "degraded", "Answers cut short by their deadline, or from old histories.", "method"
        )
        # Else the library looks up each series again, in several steps and under a lock.
        self._of: Any = cache(lambda metric, *labels: metric.labels(*labels))
        self._http: tuple[WSGIServer, Thread] | None = None

    def observe(self, exchange: Exchange) -> None:
        """One request has ended."""
        self._of(self._requests, exchange.method, exchange.code).inc()
        if exchange.reason:
            self._of(self._refusals, exchange.method, exchange.reason).inc()
        if exchange.reason == RATE_LIMITED:
            self._of(self._limited, exchange.caller).inc()
        if exchange.first_s is not None:
            self._of(self._latency, exchange.method, "first").observe(exchange.first_s)
        if exchange.answer is not None and not exchange.reason:
            self._observe_answer(exchange.method, exchange.answer)

    def _observe_answer(self, method: str, answer: Answer) -> None:
        timings = answer.timings
        for stage in STAGES:
            seconds = getattr(timings, f"{stage}_ms") / 1e3
            self._of(self._latency, method, stage).observe(seconds)
        self._of(self._candidates, method).observe(answer.scored_count)
        for status, count in Tally(map(_status, answer.items)).items():
            self._of(self._items, method, STATUS_NAMES[status]).inc(count)
        if answer.degraded:
            self._of(self._degraded, method).inc()

    def _counter(self, name: str, told: str, *labels: str) -> Counter:
        return Counter(f"sommelier_{name}", told, labels, registry=self.registry)

    def _histogram(
        self, name: str, told: str, labels: tuple[str, ...], buckets: tuple[float, ...]
    ) -> Histogram:
        name = f"sommelier_{name}"
        return Histogram(name, told, labels, buckets=buckets, registry=self.registry)

    def serve(self, *, host: str, port: int) -> int:
        """Answers HTTP until `close`; returns the port.

        Raises:
            OSError: the port cannot be had, `errno.EADDRINUSE` where it is taken.
        """
        assert self._http is None, "metrics are served already"
        self._http = start_http_server(port, addr=host, registry=self.registry)
        return int(self._http[0].server_port)

    def close(self) -> None:
        """Stops answering and frees the port."""
        if self._http is not None:
            server, thread = self._http
            server.shutdown()
            server.server_close()
            thread.join()
            self._http = None
