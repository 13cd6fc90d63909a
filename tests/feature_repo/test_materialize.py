"""Against Feast's real SQLite online store; a row is read back through Feast."""

import sqlite3
from collections.abc import Callable
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest

from embedders.items import EPOCH
from embedders.vectors import Embeddings, Space
from feature_repo import repo_config
from feature_repo.base import StoreError
from feature_repo.reader import OnlineReader
from feature_repo.store import Store

DAY = timedelta(days=1)
WriteAxes = Callable[..., int]


@pytest.fixture
def view(space: Space) -> str:
    return f"item_{space.space_id}"


def axes(store: Store, space: Space, ids: list[str]) -> list[int | None]:
    """The axis of each online vector; None for an absent one."""
    vectors_ND, is_present_N = OnlineReader(store).vectors(space, ids)
    which = vectors_ND.argmax(axis=1).tolist()
    return [axis if present else None for axis, present in zip(which, is_present_N, strict=True)]


def test_a_second_run_writes_only_what_is_new(
    store: Store, space: Space, view: str, write_axes: WriteAxes
) -> None:
    write_axes(store, {"a": 0, "b": 1})
    store.apply()
    assert store.materialize(EPOCH + DAY) == {view: 2, "item_profile": 0, "user_history": 0}
    assert store.materialize(EPOCH + DAY)[view] == 0
    write_axes(store, {"b": 2, "c": 0})
    assert store.materialize(EPOCH + DAY)[view] == 2
    assert axes(store, space, ["a", "b", "c", "d"]) == [0, 2, 0, None]


def test_a_new_row_of_an_old_time_is_not_passed_over(
    store: Store, space: Space, view: str, write_axes: WriteAxes
) -> None:
    write_axes(store, {"a": 0}, at=EPOCH + 5 * DAY)
    store.apply()
    store.materialize(EPOCH + 9 * DAY)
    write_axes(store, {"b": 1}, at=EPOCH)
    assert store.materialize(EPOCH + 9 * DAY)[view] == 1
    assert axes(store, space, ["a", "b"]) == [0, 1]


def test_a_backfill_does_not_replace_newer_content(
    store: Store, space: Space, view: str, write_axes: WriteAxes
) -> None:
    write_axes(store, {"a": 2}, at=EPOCH + 5 * DAY)
    store.apply()
    store.materialize(EPOCH + 9 * DAY)
    write_axes(store, {"a": 0}, at=EPOCH)
    store.materialize(EPOCH + 9 * DAY)
    assert axes(store, space, ["a"]) == [2]
    # An earlier `until` than before does not turn time back either.
    write_axes(store, {"a": 1}, at=EPOCH + DAY)
    store.materialize(EPOCH + 2 * DAY)
    assert axes(store, space, ["a"]) == [2]


def test_rows_of_the_future_wait_for_their_time(
    store: Store, space: Space, view: str, write_axes: WriteAxes
) -> None:
    write_axes(store, {"a": 0})
    write_axes(store, {"a": 1, "b": 1}, at=EPOCH + 5 * DAY)
    store.apply()
    assert store.materialize(EPOCH + DAY)[view] == 1
    assert axes(store, space, ["a", "b"]) == [0, None]
    assert store.materialize(EPOCH + 5 * DAY)[view] == 2
    assert axes(store, space, ["a", "b"]) == [1, 1]


def test_views_without_rows_do_no_harm(store: Store, space: Space, view: str) -> None:
    none = Embeddings(space=space, item_ids=[], vectors_ND=np.zeros((0, 3), dtype=np.float32))
    store.write(none, content_hashes=[], event_timestamps=[])
    assert store.apply() == [view, "item_profile", "user_history"]
    assert store.materialize(EPOCH) == {view: 0, "item_profile": 0, "user_history": 0}


def test_rows_that_are_gone_are_reported_and_a_full_run_restores_them(
    store: Store, space: Space, view: str, write_axes: WriteAxes
) -> None:
    write_axes(store, {"a": 0, "b": 1, "c": 2})
    store.apply()
    store.materialize(EPOCH)
    with sqlite3.connect(store.root / "online.db") as online:
        online.execute(f'DELETE FROM "sommelier_{view}" WHERE rowid = 1')
    online.close()
    with pytest.raises(StoreError, match="3 rows looked at, 1 are missing online .* 'a'"):
        store.materialize(EPOCH)
    assert store.materialize(EPOCH, is_full=True)[view] == 3
    assert axes(store, space, ["a", "b", "c"]) == [0, 1, 2]


def test_another_online_store_starts_from_nothing(
    store: Store, view: str, write_axes: WriteAxes
) -> None:
    write_axes(store, {"a": 0})
    store.apply()
    store.materialize(EPOCH)
    profile = store.root / "other.yaml"
    profile.write_text(repo_config.EMBEDDED.read_text().replace("online.db", "other.db"))
    other = Store(store.root, profile=profile)
    other.apply()
    assert other.materialize(EPOCH)[view] == 1
    assert store.materialize(EPOCH)[view] == 0


def test_a_view_must_be_applied_first(store: Store, view: str, write_axes: WriteAxes) -> None:
    write_axes(store, {"a": 0})
    with pytest.raises(StoreError, match=f"{view} is not defined; apply the store first"):
        store.materialize(EPOCH)


def test_a_damaged_ledger_says_what_to_do(store: Store) -> None:
    store.apply()
    (store.root / "materialized.json").write_text("{")
    with pytest.raises(StoreError, match="delete it and materialize again"):
        store.materialize(EPOCH)


def test_a_changed_history_is_served_after_the_next_run(
    store: Store, interactions_of: Callable[..., pa.Table]
) -> None:
    log = [("u", "a", EPOCH), ("w", "b", EPOCH)]
    store.write_history(interactions_of(log))
    store.apply()
    assert store.materialize(EPOCH + 9 * DAY)["user_history"] == 2
    store.write_history(interactions_of([*log, ("u", "c", EPOCH + DAY)]))
    assert store.materialize(EPOCH + 9 * DAY)["user_history"] == 1
    history = OnlineReader(store).history("u")
    assert history is not None
    assert [event.item_id for event in history] == ["a", "c"]
