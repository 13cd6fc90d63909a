"""Who did what on which day, as the catalog and the store tell it; one day apart by default."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pyarrow as pa

from embedders.items import Interaction

DAY = timedelta(days=1)
START = datetime(2024, 1, 1, tzinfo=UTC)
Event = tuple[str, str, str, float | None, int]  # user, item, behavior, weight, day


def table(events: Sequence[Event]) -> pa.Table:
    users, items, behaviors, weights, days = zip(*events, strict=True) if events else [[]] * 5
    times = [None if day is None else START + day * DAY for day in days]
    return pa.table(
        {
            "user_id": pa.array(users, pa.string()),
            "item_id": pa.array(items, pa.string()),
            "behavior": pa.array(behaviors, pa.string()),
            "weight": pa.array(weights, pa.float64()),
            "timestamp": pa.array(times, pa.timestamp("us", tz="UTC")),
            "position": pa.nulls(len(events), pa.int64()),
        }
    )


def views(user: str, items: str, *, first: int = 0) -> list[Event]:
    """One view of each letter a day."""
    return [(user, item, "view", None, first + day) for day, item in enumerate(items)]


def histories(
    events: Sequence[Event], pairs: Sequence[tuple[str, datetime]]
) -> list[tuple[Interaction, ...]]:
    """What each user did strictly before a moment."""
    return [
        tuple(
            Interaction(
                user_id=who,
                item_id=item,
                behavior=behavior,
                weight=weight,
                timestamp=START + day * DAY,
            )
            for who, item, behavior, weight, day in events
            if who == user_id and START + day * DAY < as_of
        )
        for user_id, as_of in pairs
    ]
