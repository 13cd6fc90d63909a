"""The last new choice of each user, asked just before it was first met."""

from datetime import UTC, datetime, timedelta

import pyarrow as pa

from evaluation.judgements import Judgement
from evaluation.last_choice import last_choices, touched

START = datetime(2024, 1, 1, tzinfo=UTC)
CUT = START + timedelta(days=5)


def events(*rows: tuple[str, str, int, int | None]) -> pa.Table:
    users, items, days, positions = zip(*rows, strict=True)
    return pa.table(
        {
            "user_id": list(users),
            "item_id": list(items),
            "timestamp": pa.array(
                [START + timedelta(days=day) for day in days], pa.timestamp("us", tz="UTC")
            ),
            "position": pa.array(positions, pa.int32()),
        }
    )


def judgement(user: str, items: str, day: int = 5) -> Judgement:
    return Judgement(user_id=user, as_of=START + timedelta(days=day), item_ids=frozenset(items))


def test_the_last_is_the_one_that_was_met_last_and_its_moment_is_the_first_meeting() -> None:
    table = events(
        ("u", "a", 1, None), ("u", "b", 6, None), ("u", "c", 7, None), ("u", "b", 9, None)
    )
    assert last_choices(table, [judgement("u", "bc")]) == (judgement("u", "c", 7),)


def test_events_of_one_moment_fall_by_position_then_by_id() -> None:
    table = events(("u", "c", 6, 0), ("u", "b", 6, 1), ("v", "b", 6, None), ("v", "c", 6, None))
    found = last_choices(table, [judgement("v", "bc"), judgement("u", "bc")])
    assert [(one.user_id, *one.item_ids) for one in found] == [("v", "c"), ("u", "b")]


def test_touched_are_all_items_ever() -> None:
    table = events(("u", "a", 1, None), ("u", "b", 6, None), ("v", "c", 7, None))
    assert touched(table, [judgement("u", "b"), judgement("w", "z")]) == {
        "u": frozenset("ab"),
        "w": frozenset(),
    }
