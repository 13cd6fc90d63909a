"""Hand-computed histories; the rows are read back as parquet, without Feast."""

from collections.abc import Callable
from datetime import datetime, timedelta

import pyarrow as pa
import pytest

from embedders.items import EPOCH
from feature_repo import parts
from feature_repo.base import HistoryConfig, StoreError
from feature_repo.store import Store
from feature_repo.tables import history_view

DAY = timedelta(days=1)
Make = Callable[..., pa.Table]


def rows(store: Store) -> list[tuple[str, int, list[str]]]:
    """User, day and items of every stored row, in the order of writing for equal days."""
    with parts.connect() as connection:
        files = [str(part) for part in parts.list_parts(store.root, history_view())]
        found = connection.execute(
            "SELECT user_id, event_timestamp, item_ids FROM read_parquet($files) "
            "ORDER BY user_id, event_timestamp, created",
            {"files": files},
        ).fetchall()
    return [(user, (at - EPOCH).days, items) for user, at, items in found]


def test_each_event_has_the_last_events_up_to_it(store: Store, interactions_of: Make) -> None:
    short = Store(store.root, history=HistoryConfig(limit=2))
    # Out of order on purpose.
    log = [
        ("u", "c", EPOCH + 3 * DAY),
        ("u", "a", EPOCH),
        ("w", "z", EPOCH),
        ("u", "b", EPOCH + DAY),
    ]
    assert short.write_history(interactions_of(log)) == 4
    assert rows(short) == [
        ("u", 0, ["a"]),
        ("u", 1, ["a", "b"]),
        ("u", 3, ["b", "c"]),
        ("w", 0, ["z"]),
    ]


def test_events_of_one_time_share_a_row_in_the_order_of_the_table(
    store: Store, interactions_of: Make
) -> None:
    log = [("u", "b", EPOCH), ("u", "a", EPOCH), ("u", "c", EPOCH + DAY)]
    store.write_history(interactions_of(log))
    assert rows(store) == [("u", 0, ["b", "a"]), ("u", 1, ["b", "a", "c"])]


def test_positions_stand_in_for_missing_times(store: Store) -> None:
    log = pa.table(
        {
            "user_id": ["u", "u"],
            "item_id": ["second", "first"],
            "behavior": ["view", "view"],
            "weight": pa.array([2.5, None], pa.float64()),
            "timestamp": pa.nulls(2, pa.timestamp("us", tz="UTC")),
            "position": [1, 0],
        }
    )
    store.write_history(log)
    last = parts.latest(store.root, history_view()).to_pylist()[0]
    assert last["item_ids"] == ["first", "second"]
    assert last["times"] == [0, 1_000_000]
    assert last["event_timestamp"] == EPOCH + timedelta(seconds=1)
    assert str(last["weights"]) == "[nan, 2.5]"


def test_only_users_with_new_events_are_written_again(store: Store, interactions_of: Make) -> None:
    log = [("u", "a", EPOCH), ("w", "z", EPOCH)]
    assert store.write_history(interactions_of(log)) == 2
    assert store.write_history(interactions_of(log)) == 0
    assert store.write_history(interactions_of([*log, ("w", "y", EPOCH + DAY)])) == 1
    assert rows(store) == [("u", 0, ["a"]), ("w", 0, ["z"]), ("w", 1, ["z", "y"])]


def test_a_late_event_mends_the_rows_after_it(store: Store, interactions_of: Make) -> None:
    log = [("u", "a", EPOCH), ("u", "c", EPOCH + 2 * DAY)]
    store.write_history(interactions_of(log))
    assert store.write_history(interactions_of([*log, ("u", "b", EPOCH + DAY)])) == 2
    assert rows(store) == [
        ("u", 0, ["a"]),
        ("u", 1, ["a", "b"]),
        ("u", 2, ["a", "c"]),
        ("u", 2, ["a", "b", "c"]),
    ]


def test_an_event_without_any_time_is_refused(
    store: Store, interactions_of: Make, start: datetime
) -> None:
    log = interactions_of([("u", "a", start), ("w", "b", start)])
    timeless = log.set_column(4, "timestamp", pa.nulls(2, pa.timestamp("us", tz="UTC")))
    with pytest.raises(StoreError, match=r"2 interactions have neither .* user 'u'"):
        store.write_history(timeless)
