"""Rows of pushed events against the rows that the whole log gives."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedders.items import EPOCH
from feature_repo import parts
from feature_repo.base import HistoryConfig, StoreError
from feature_repo.reader import OnlineReader
from feature_repo.store import Store
from feature_repo.tables import history_view

DAY = timedelta(days=1)
VIEW = history_view()
Make = Callable[..., pa.Table]
Event = tuple[str, str, int]


def log(*events: Event) -> list[tuple[str, str, datetime]]:
    return [(user, item, EPOCH + day * DAY) for user, item, day in events]


def rows(store: Store) -> dict[tuple[str, int], str]:
    """The items of each user's and day's last row."""
    with parts.connect() as connection:
        found = connection.execute(
            f"SELECT user_id, event_timestamp, arg_max(item_ids, created) FROM {parts.ROWS} "
            "GROUP BY ALL ORDER BY ALL",
            {"files": [str(part) for part in parts.list_parts(store.root, VIEW)]},
        ).fetchall()
    return {(user, (at - EPOCH).days): "".join(items) for user, at, items in found}


def online(store: Store, user_id: str) -> str | None:
    history = OnlineReader(store).history(user_id)
    return None if history is None else "".join(event.item_id for event in history)


@pytest.fixture
def applied(store: Store) -> Store:
    store.apply()
    return store


def test_a_pushed_event_is_online_at_once_and_agrees_with_the_whole_log(
    applied: Store, interactions_of: Make
) -> None:
    whole = log(("u", "a", 1), ("u", "b", 2), ("w", "z", 1))
    applied.write_history(interactions_of(whole))
    applied.materialize(EPOCH + 9 * DAY)
    new = log(("u", "c", 3), ("v", "n", 3))
    assert applied.push_events(interactions_of(new)) == 2
    assert (online(applied, "u"), online(applied, "v")) == ("abc", "n")
    assert rows(applied)["u", 3] == "abc"
    assert applied.write_history(interactions_of(whole + new)) == 0
    applied.materialize(EPOCH + 9 * DAY)
    assert [online(applied, user) for user in "uvw"] == ["abc", "n", "z"]


def test_the_same_events_pushed_again_change_nothing(applied: Store, interactions_of: Make) -> None:
    twice = interactions_of(log(("u", "a", 1), ("u", "a", 1), ("u", "b", 2)))
    assert applied.push_events(twice) == 2
    before = parts.list_parts(applied.root, VIEW)
    assert applied.push_events(twice) == 0
    assert applied.push_events(interactions_of(log(("u", "a", 1)))) == 0
    assert parts.list_parts(applied.root, VIEW) == before
    assert online(applied, "u") == "aab"


def test_a_late_event_takes_its_place(applied: Store, interactions_of: Make) -> None:
    applied.push_events(interactions_of(log(("u", "a", 1), ("u", "c", 3), ("u", "d", 4))))
    assert applied.push_events(interactions_of(log(("u", "b", 2)))) == 3
    assert rows(applied) == {("u", 1): "a", ("u", 2): "ab", ("u", 3): "abc", ("u", 4): "abcd"}
    assert online(applied, "u") == "abcd"
    # Earlier than everything that is stored.
    assert applied.push_events(interactions_of(log(("u", "_", 0)))) == 5
    assert online(applied, "u") == "_abcd"


def test_events_beyond_the_limit_fall_out(store: Store, interactions_of: Make) -> None:
    short = Store(store.root, history=HistoryConfig(limit=2))
    short.apply()
    short.push_events(interactions_of(log(("u", "a", 1), ("u", "b", 2), ("u", "c", 3))))
    assert online(short, "u") == "bc"
    assert short.push_events(interactions_of(log(("u", "0", 0)))) == 2  # on days 0 and 1
    assert rows(short) == {("u", 0): "0", ("u", 1): "0a", ("u", 2): "ab", ("u", 3): "bc"}
    assert online(short, "u") == "bc"


def test_a_later_materialization_puts_nothing_older_there(
    applied: Store, interactions_of: Make
) -> None:
    now = datetime.now(UTC)
    old = [("u", "a", now - 2 * DAY)]
    applied.write_history(interactions_of(old))
    applied.push_events(interactions_of([("u", "b", now - DAY)]))
    # A run whose `until` is before the push still has the user's old row to bring.
    applied.materialize(now - 1.5 * DAY)
    assert online(applied, "u") == "ab"


def test_an_event_of_the_future_waits_for_its_time(applied: Store, interactions_of: Make) -> None:
    later = datetime.now(UTC) + DAY
    applied.push_events(interactions_of([("u", "a", EPOCH), ("u", "b", later)]))
    assert online(applied, "u") == "a"
    applied.materialize(later)
    assert online(applied, "u") == "ab"


def test_what_was_written_before_the_store_was_applied_goes_online_with_the_next_push(
    store: Store, interactions_of: Make
) -> None:
    events = interactions_of(log(("u", "a", 1)))
    with pytest.raises(StoreError, match="apply the store first"):
        store.push_events(events)
    assert rows(store) == {("u", 1): "a"}
    store.apply()
    assert store.push_events(events) == 0
    assert online(store, "u") == "a"


def test_weights_and_positions_are_kept(applied: Store) -> None:
    def table(position: int, weight: float | None) -> pa.Table:
        return pa.table(
            {
                "user_id": ["u"],
                "item_id": [f"{position}"],
                "behavior": ["rate"],
                "weight": pa.array([weight], pa.float32()),
                "timestamp": pa.nulls(1, pa.timestamp("us", tz="UTC")),
                "position": pa.array([position], pa.int32()),
            }
        )

    applied.push_events(table(3, 0.5))
    applied.push_events(table(1, None))
    assert applied.push_events(table(1, None)) == 0  # no weight is the same as no weight
    history = OnlineReader(applied).history("u")
    assert history is not None
    assert [(one.item_id, one.weight) for one in history] == [("1", None), ("3", 0.5)]


def test_an_event_without_any_time_is_refused(applied: Store, interactions_of: Make) -> None:
    events = interactions_of(log(("u", "a", 1)))
    timeless = events.set_column(4, "timestamp", pa.nulls(1, pa.timestamp("us", tz="UTC")))
    with pytest.raises(StoreError, match="neither a timestamp nor a position"):
        applied.push_events(timeless)


EVENTS = st.lists(
    st.tuples(st.sampled_from("uv"), st.sampled_from("abc"), st.integers(0, 6)),
    min_size=1,
    max_size=5,
)


@pytest.mark.slow
@settings(max_examples=10, deadline=None)
@given(pushed=st.lists(EVENTS, min_size=1, max_size=3), limit=st.integers(1, 4))
def test_any_pushes_in_any_order_give_the_rows_of_the_whole_log(
    tmp_path_factory: pytest.TempPathFactory,
    interactions_of: Make,
    pushed: list[list[Event]],
    limit: int,
) -> None:
    """But for the order within one time, which only the whole log knows: items are compared."""
    config = HistoryConfig(limit=limit)
    by_pushes = Store(tmp_path_factory.mktemp("pushed"), history=config)
    by_log = Store(tmp_path_factory.mktemp("whole"), history=config)
    distinct: list[Event] = []
    by_pushes.apply()
    for events in pushed:
        new = [one for one in dict.fromkeys(events) if one not in distinct]
        by_pushes.push_events(interactions_of(log(*dict.fromkeys(events))))
        distinct += new
    # Stable: among events of one time those pushed first come first.
    distinct.sort(key=lambda event: event[2])
    by_log.write_history(interactions_of(log(*distinct)))
    assert rows(by_pushes) == rows(by_log)
    assert by_pushes.write_history(interactions_of(log(*distinct))) == 0
