"""What the service does in, Prometheus metrics out.

Each server counts in a registry of its own, so that two servers in one process stay apart. Labels
are the service's own methods, gRPC's codes and fixed stages: their number cannot grow with traffic.
"""

from collections.abc import Callable
from threading import Thread
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

LATENCY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
CANDIDATE_BUCKETS = (1, 10, 25, 50, 100, 200, 500, 1000)


class Metrics:
    """Counts of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "sommelier_requests",
            "Requests answered, by gRPC code.",
            ["method", "code"],
            registry=self.registry,
        )
        self._latency = Histogram(
            "sommelier_latency_seconds",
            "Time of answered requests by stage: queue, retrieve, rerank, total.",
            ["method", "stage"],
            buckets=LATENCY_BUCKETS_S,
            registry=self.registry,
        )
        self._candidates = Histogram(
            "sommelier_candidates",
            "Candidates that one request had reranked.",
            ["method"],
            buckets=CANDIDATE_BUCKETS,
            registry=self.registry,
        )
        self._queue_depth = Gauge(
            "sommelier_queue_depth", "Requests waiting for a worker.", registry=self.registry
        )
        self._http: tuple[WSGIServer, Thread] | None = None

    def count(self, *, method: str, code: str) -> None:
        """One request has ended."""
        self._requests.labels(method, code).inc()

    def observe_stage(self, *, method: str, stage: str, seconds: float) -> None:
        """One stage of an answered request."""
        self._latency.labels(method, stage).observe(seconds)

    def observe_candidates(self, *, method: str, num_candidates: int) -> None:
        """How much one request had to rank."""
        self._candidates.labels(method).observe(num_candidates)

    def watch_queue(self, depth: Callable[[], int]) -> None:
        """Reads the queue's depth whenever the metrics are read."""
        self._queue_depth.set_function(depth)

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
