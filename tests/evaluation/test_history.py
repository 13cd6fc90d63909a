"""What was known at the cut."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from evaluation.history import history, seen_before
from evaluation.judgements import Judgement

CUT = datetime(2024, 3, 1, tzinfo=UTC)


def events(*rows):
    users, items, days = zip(*rows, strict=True)
    times = [CUT + timedelta(days=day) for day in days]
    return pa.table(
        {
            "user_id": list(users),
            "item_id": list(items),
            "timestamp": pa.array(times, pa.timestamp("us", tz="UTC")),
        }
    )


EVENTS = events(
    ("u1", "fan favorite", -5),
    ("u1", "fan favorite", -4),
    ("u1", "fan favorite", -3),
    ("u1", "b", -3),
    ("u2", "b", -2),
    ("u2", "a", -2),
    ("u2", "hit of tomorrow", 0),
    ("u3", "hit of tomorrow", 1),
)


def test_popularity_counts_users_not_events_and_ties_fall_by_item_id():
    assert history(EVENTS, cut=CUT).popularity == ("b", "a", "fan favorite")
    assert history(EVENTS, cut=CUT).num_fans == {"b": 2, "a": 1, "fan favorite": 1}


def test_nothing_from_the_cut_on_is_known():
    found = history(EVENTS, cut=CUT)
    assert "hit of tomorrow" not in found.popularity
    assert found.seen == {"u1": {"b", "fan favorite"}, "u2": {"a", "b"}}
    assert found.num_interactions == 6
    assert found.num_users == 2


def test_seen_items_are_given_for_the_users_asked_for_while_popularity_is_everybodys():
    found = history(EVENTS, cut=CUT, user_ids=["u2", "u3"])
    assert set(found.seen) == {"u2"}
    assert found.popularity == ("b", "a", "fan favorite")
    assert history(EVENTS, cut=CUT).num_fans == {"b": 2, "a": 1, "fan favorite": 1}


def judged(user_id, days):
    return Judgement(user_id=user_id, as_of=CUT + timedelta(days=days), item_ids=frozenset({"x"}))


def test_what_was_met_is_read_strictly_before_each_users_own_moment():
    moments = [judged("u3", 2), judged("u1", -4), judged("u2", 0), judged("u4", 9)]
    assert seen_before(EVENTS, moments) == {
        "u3": {"hit of tomorrow"},
        "u1": {"fan favorite"},
        "u2": {"a", "b"},
        "u4": frozenset(),
    }
    assert seen_before(EVENTS, []) == {}


def test_at_the_cut_it_is_what_the_history_says():
    found = seen_before(EVENTS, [judged("u1", 0), judged("u2", 0)])
    assert found == history(EVENTS, cut=CUT).seen


def test_events_without_a_time_are_not_known_to_have_come_before():
    timeless = EVENTS.set_column(
        2, "timestamp", pa.nulls(EVENTS.num_rows, pa.timestamp("us", tz="UTC"))
    )
    assert seen_before(timeless, [judged("u1", 0)]) == {"u1": frozenset()}


def test_ids_may_come_dictionary_encoded_and_times_in_seconds():
    encoded = pa.table(
        {
            "user_id": EVENTS["user_id"].dictionary_encode(),
            "item_id": EVENTS["item_id"].dictionary_encode(),
            "timestamp": EVENTS["timestamp"].cast(pa.timestamp("s", tz="UTC")),
        }
    )
    moments = [judged("u1", -4), judged("u2", 0)]
    assert seen_before(encoded, moments) == seen_before(EVENTS, moments)


def test_many_events_agree_with_a_plain_loop():
    random = np.random.default_rng(0)
    rows = [
        (f"u{random.integers(20)}", f"i{random.integers(60)}", int(random.integers(-50, 50)))
        for _ in range(2000)
    ]
    moments = [judged(f"u{n}", int(random.integers(-50, 50))) for n in range(20)]
    expected = {
        one.user_id: {
            item
            for user, item, day in rows
            if user == one.user_id and CUT + timedelta(days=day) < one.as_of
        }
        for one in moments
    }
    assert seen_before(events(*rows), moments) == expected


def test_two_moments_of_one_user_are_refused():
    with pytest.raises(ValueError, match="judged twice"):
        seen_before(EVENTS, [judged("u1", 0), judged("u1", 1)])
