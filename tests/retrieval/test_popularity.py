"""Counting, with a cut and with decay."""

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from retrieval.popularity import popularity

CUT = datetime(2024, 6, 1, tzinfo=UTC)


def table(*events: tuple[str, int | None]) -> pa.Table:
    """Events of (item id, days before the cut)."""
    return pa.table(
        {
            "item_id": pa.array([item_id for item_id, _ in events], pa.string()),
            "timestamp": pa.array(
                [None if days is None else CUT - timedelta(days=days) for _, days in events],
                pa.timestamp("us", "UTC"),
            ),
        }
    )


def test_the_most_touched_comes_first_and_ties_fall_by_id() -> None:
    events = table(("c", 1), ("b", 1), ("a", 2), ("b", 3))
    assert popularity(events, until=CUT) == [("b", 2), ("a", 1), ("c", 1)]


def test_events_from_the_cut_on_do_not_count_nor_do_untimed_ones() -> None:
    events = table(("a", 1), ("b", 0), ("b", -1), ("b", None))
    assert popularity(events, until=CUT) == [("a", 1)]
    assert popularity(events, until=None) == [("b", 3), ("a", 1)]


def test_old_events_fade() -> None:
    events = table(("old", 20), ("old", 20), ("old", 20), ("new", 0), ("half", 10))
    found = popularity(events, until=None, half_life_days=10)
    assert found == [("new", 1.0), ("old", 0.75), ("half", 0.5)]


def test_an_untimed_event_fades_as_the_oldest() -> None:
    events = table(("untimed", None), ("old", 10), ("new", 0))
    found = popularity(events, until=None, half_life_days=10)
    assert found == [("new", 1.0), ("old", 0.5), ("untimed", 0.5)]
    untimed = table(("a", None), ("a", None))
    assert popularity(untimed, until=None, half_life_days=10) == [("a", 2.0)]


def test_nothing_before_the_cut_is_an_empty_list() -> None:
    assert popularity(table(("a", -5)), until=CUT) == []


def test_a_half_life_that_is_not_positive_is_refused() -> None:
    with pytest.raises(ValueError, match="half_life_days must be positive"):
        popularity(table(), until=None, half_life_days=0)


def test_a_cut_without_a_time_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        popularity(table(), until=datetime(2024, 1, 1))
