"""The graph learns first, the ranker from what follows, and the rest is judged."""

from datetime import UTC, datetime, timedelta, timezone

import pyarrow as pa
import pytest

from sommelier.settings import TimeSettings
from sommelier.timeline import timeline

START = datetime(2024, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def events(*days: float | None) -> pa.Table:
    times = [None if day is None else START + day * DAY for day in days]
    return pa.table({"timestamp": pa.array(times, pa.timestamp("us", tz="UTC"))})


def test_shares_are_of_the_events_in_time_order() -> None:
    line = timeline(events(*reversed(range(100))), TimeSettings())
    assert line.graph_until == START + 70 * DAY
    assert line.cut == START + 85 * DAY
    counts = (line.num_graph_events, line.num_ranker_events, line.num_judged_events)
    assert counts == (70, 15, 15)
    assert not line.is_open


def test_moments_replace_shares() -> None:
    settings = TimeSettings(graph_until=START + 2 * DAY, cut=START + 5 * DAY)
    line = timeline(events(*range(10)), settings)
    assert (line.num_graph_events, line.num_ranker_events, line.num_judged_events) == (2, 3, 5)


def test_a_moment_is_the_same_in_whatever_zone_it_is_written() -> None:
    eastward = timezone(timedelta(hours=2))
    moments = {"graph_until": START + 2 * DAY, "cut": START + 5 * DAY}
    shifted = {name: moment.astimezone(eastward) for name, moment in moments.items()}
    lines = [timeline(events(*range(10)), TimeSettings(**one)) for one in (moments, shifted)]
    assert repr(lines[0]) == repr(lines[1])


def test_the_end_leaves_nothing_to_be_judged() -> None:
    line = timeline(events(*range(10)), TimeSettings(cut="end"))
    assert line.is_open
    assert line.cut > START + 9 * DAY


def test_events_without_a_time_are_passed_over() -> None:
    line = timeline(events(None, *range(10), None), TimeSettings())
    assert line.num_graph_events + line.num_ranker_events + line.num_judged_events == 10


def test_without_any_time_nothing_can_be_placed() -> None:
    with pytest.raises(ValueError, match="none of the catalog's 2 interactions has a timestamp"):
        timeline(events(None, None), TimeSettings())


def test_a_cut_before_the_graphs_end_is_refused() -> None:
    with pytest.raises(ValueError, match="must come after graph_until"):
        timeline(events(*range(10)), TimeSettings(graph_share=0.8, cut_share=0.5))


def test_a_moment_beyond_the_events_says_from_when_they_are() -> None:
    settings = TimeSettings(graph_until=START - DAY, cut=START + DAY)
    with pytest.raises(ValueError, match=r"0 events lie before .* run from 2024-01-01"):
        timeline(events(*range(10)), settings)


@pytest.mark.parametrize("name", ["graph_until", "cut"])
def test_a_clock_of_its_own_has_no_moments_to_name(name: str) -> None:
    with pytest.raises(ValueError, match=f'{name} is a moment, and the split "user"'):
        TimeSettings(split="user", **{name: START})
