"""What owners of queues, caches and generations hand in is read whenever the metrics are."""

from datetime import UTC, datetime

import pytest
from prometheus_client import CollectorRegistry

from feature_repo.base import CacheCounts
from ranker.service.readings import FollowerCounts, Readings, WorkerCounts
from ranker.serving import ServingInfo

BORN = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def readings(registry: CollectorRegistry) -> Readings:
    return Readings(registry)


def info(generation_id: str) -> ServingInfo:
    return ServingInfo(
        generation_id=generation_id, model="m", num_items=5, spaces=(), as_of=BORN, calibrator="c"
    )


def test_the_present_state_is_told_and_not_the_one_at_the_start(
    registry: CollectorRegistry, readings: Readings
) -> None:
    depth = [3]
    readings.watch_queue(lambda: depth[0])
    assert registry.get_sample_value("sommelier_queue_depth") == 3
    depth[0] = 0
    assert registry.get_sample_value("sommelier_queue_depth") == 0


def test_nothing_is_told_of_what_nobody_watches(registry: CollectorRegistry) -> None:
    assert list(registry.collect()) == []


def test_only_the_generation_that_is_served_is_told(
    registry: CollectorRegistry, readings: Readings
) -> None:
    served = ["g1"]
    readings.watch_generation(lambda: info(served[0]))
    served[0] = "g2"
    value = registry.get_sample_value
    for generation_id, expected in (("g1", None), ("g2", 1)):
        labels = {"generation_id": generation_id, "model": "m", "calibrator": "c"}
        assert value("sommelier_generation_info", labels) == expected
    assert value("sommelier_generation_items") == 5
    assert value("sommelier_generation_as_of_timestamp_seconds") == BORN.timestamp()


def test_caches_are_told_by_their_names(registry: CollectorRegistry, readings: Readings) -> None:
    readings.watch_caches(
        lambda: {
            "prefix": CacheCounts(num_hits=3, num_misses=1, num_entries=2, num_bytes=512),
            "features": CacheCounts(num_hits=7),
        }
    )
    value = registry.get_sample_value
    assert value("sommelier_cache_hits_total", {"cache": "prefix"}) == 3
    assert value("sommelier_cache_misses_total", {"cache": "prefix"}) == 1
    assert value("sommelier_cache_entries", {"cache": "prefix"}) == 2
    assert value("sommelier_cache_bytes", {"cache": "prefix"}) == 512
    assert value("sommelier_cache_hits_total", {"cache": "features"}) == 7


def test_workers_follower_store_and_company_are_told(
    registry: CollectorRegistry, readings: Readings
) -> None:
    readings.watch_workers(lambda: WorkerCounts(num_alive=4, num_busy=2, num_deaths=1))
    readings.watch_follower(lambda: FollowerCounts(num_switched=3, num_refused=2))
    readings.watch_store(lambda: False)
    readings.watch_under_way(lambda: 6)
    readings.watch_coalesced(lambda: 9)
    value = registry.get_sample_value
    assert value("sommelier_workers", {"state": "alive"}) == 4
    assert value("sommelier_workers", {"state": "busy"}) == 2
    assert value("sommelier_worker_deaths_total") == 1
    assert value("sommelier_generation_switches_total") == 3
    assert value("sommelier_generation_refusals_total") == 2
    assert value("sommelier_store_up") == 0
    assert value("sommelier_under_way") == 6
    assert value("sommelier_coalesced_total") == 9


def test_one_reading_that_fails_takes_no_other_along(
    registry: CollectorRegistry, readings: Readings, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> int:
        raise KeyError("gone")

    readings.watch_queue(broken)
    readings.watch_under_way(lambda: 6)
    assert registry.get_sample_value("sommelier_queue_depth") is None
    assert registry.get_sample_value("sommelier_under_way") == 6
    assert "the metrics of queue cannot be read" in caplog.text
