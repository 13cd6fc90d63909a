"""Functions that tell a present state in, Prometheus samples out, each read when the metrics are.

Whoever owns a queue, a cache or a generation hands in a function once; nothing is counted twice
and nothing has to be told on the way. Totals may begin anew (a worker process was started again):
Prometheus takes that for a restart.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from feature_repo.base import CacheCounts
from ranker.serving import ServingInfo

Reading = TypeVar("Reading")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerCounts:
    """Those that compute at this moment; the deaths are a total."""

    num_alive: int
    num_busy: int
    num_deaths: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowerCounts:
    """How generations came and went, as totals."""

    num_switched: int
    num_refused: int
    """Published, but broken or not in agreement: the former one went on."""


class Readings:
    """The present state of one server, read by Prometheus's own thread."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._sources: dict[str, Callable[[], Iterable[Metric]]] = {}
        registry.register(_Collected(self._sources))

    def watch_queue(self, depth: Callable[[], int]) -> None:
        """Requests that wait for a worker."""
        self._watch("queue", depth, lambda now: [_gauge("queue_depth", "Requests waiting.", now)])

    def watch_under_way(self, count: Callable[[], int]) -> None:
        """Requests that have arrived and have not ended."""
        self._watch("under_way", count, lambda now: [_gauge("under_way", "Requests open.", now)])

    def watch_coalesced(self, total: Callable[[], int]) -> None:
        """Requests that were answered by the computation of an equal one."""
        self._watch(
            "coalesced",
            total,
            lambda now: [_total("coalesced", "Requests answered along with an equal one.", now)],
        )

    def watch_workers(self, counts: Callable[[], WorkerCounts]) -> None:
        """Threads or processes that compute."""
        self._watch("workers", counts, _of_workers)

    def watch_caches(self, counts: Callable[[], Mapping[str, CacheCounts]]) -> None:
        """Whatever is kept for later requests, by the caches' names."""
        self._watch("caches", counts, _of_caches)

    def watch_generation(self, info: Callable[[], ServingInfo]) -> None:
        """The generation that answers new requests."""
        self._watch("generation", info, _of_generation)

    def watch_follower(self, counts: Callable[[], FollowerCounts]) -> None:
        """Switches to another generation, and those that were refused."""
        self._watch("follower", counts, _of_follower)

    def watch_store(self, is_up: Callable[[], bool]) -> None:
        """Whether the online store answers."""
        told = "1 where the online store answers, 0 where histories come from the cache."
        self._watch("store", is_up, lambda now: [_gauge("store_up", told, now)])

    def _watch(
        self, name: str, read: Callable[[], Reading], told: Callable[[Reading], list[Metric]]
    ) -> None:
        self._sources[name] = lambda: told(read())


class _Collected(Collector):
    """What Prometheus asks."""

    def __init__(self, sources: dict[str, Callable[[], Iterable[Metric]]]) -> None:
        self._sources = sources

    def collect(self) -> Iterator[Metric]:
        """Every source's samples; one that fails is logged and takes no other along."""
        for name, read in list(self._sources.items()):
            try:
                yield from read()
            except Exception:
                log.exception("the metrics of %s cannot be read", name)


def _of_workers(now: WorkerCounts) -> list[Metric]:
    states = GaugeMetricFamily("sommelier_workers", "Workers by state.", labels=["state"])
    states.add_metric(["alive"], now.num_alive)
    states.add_metric(["busy"], now.num_busy)
    return [states, _total("worker_deaths", "Workers that died.", now.num_deaths)]


def _of_caches(now: Mapping[str, CacheCounts]) -> list[Metric]:
    hits, misses = (
        CounterMetricFamily(f"sommelier_cache_{name}", f"Cache {name}.", labels=["cache"])
        for name in ("hits", "misses")
    )
    entries, num_bytes = (
        GaugeMetricFamily(f"sommelier_cache_{name}", f"Cached {name}.", labels=["cache"])
        for name in ("entries", "bytes")
    )
    for name, counts in sorted(now.items()):
        hits.add_metric([name], counts.num_hits)
        misses.add_metric([name], counts.num_misses)
        entries.add_metric([name], counts.num_entries)
        num_bytes.add_metric([name], counts.num_bytes)
    return [hits, misses, entries, num_bytes]


def _of_generation(now: ServingInfo) -> list[Metric]:
    served = GaugeMetricFamily(
        "sommelier_generation_info",
        "1 for the generation that is served.",
        labels=["generation_id", "model", "calibrator"],
    )
    served.add_metric([now.generation_id, now.model, now.calibrator], 1)
    as_of = now.as_of.timestamp()
    return [
        served,
        _gauge("generation_items", "Items of the generation that is served.", now.num_items),
        _gauge("generation_as_of_timestamp_seconds", "Up to when its data was read.", as_of),
    ]


def _of_follower(now: FollowerCounts) -> list[Metric]:
    return [
        _total("generation_switches", "Switches to another generation.", now.num_switched),
        _total("generation_refusals", "Published generations refused.", now.num_refused),
    ]


def _gauge(name: str, told: str, value: float) -> Metric:
    return GaugeMetricFamily(f"sommelier_{name}", told, value=value)


def _total(name: str, told: str, value: float) -> Metric:
    return CounterMetricFamily(f"sommelier_{name}", told, value=value)
