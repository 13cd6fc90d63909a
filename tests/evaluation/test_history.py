"""What was known at the cut."""

from datetime import UTC, datetime, timedelta

import pyarrow as pa

from evaluation.history import history

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
