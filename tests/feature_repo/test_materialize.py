"""Against Feast's real SQLite online store; a row is read back through Feast."""

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from embedders.items import EPOCH
from embedders.vectors import Embeddings, Space
from feature_repo import comparison, repo_config
from feature_repo.base import Entity, StoreError
from feature_repo.reader import OnlineReader
from feature_repo.store import Store
from tests.child import child

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
    with pytest.raises(StoreError, match=r"3 rows looked at, 1 are missing online .* 'a'"):
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


def test_a_deleted_online_store_is_missed_and_made_anew(
    store: Store, space: Space, view: str, write_axes: WriteAxes
) -> None:
    write_axes(store, {"a": 0, "b": 1})
    store.apply()
    store.materialize(EPOCH)
    store.feature_store.close()
    (store.root / "online.db").unlink()
    with pytest.raises(StoreError, match=f"no such table: sommelier_{view}; .* apply the store"):
        store.materialize(EPOCH)
    store.apply()
    with pytest.raises(StoreError, match="2 rows looked at, 2 are missing online"):
        store.materialize(EPOCH)
    assert store.materialize(EPOCH, is_full=True)[view] == 2
    assert axes(store, space, ["a", "b"]) == [0, 1]


def test_a_row_that_was_changed_online_is_told_from_a_missing_one(
    store: Store, space: Space, view: str, write_axes: WriteAxes
) -> None:
    write_axes(store, {"a": 0, "b": 1})
    store.apply()
    store.materialize(EPOCH)
    with sqlite3.connect(store.root / "online.db") as online:
        online.execute(
            f'UPDATE "sommelier_{view}" SET value = (SELECT max(value) FROM "sommelier_{view}")'
        )
    online.close()
    with pytest.raises(StoreError, match="0 are missing online and 1 hold something else"):
        store.materialize(EPOCH)
    store.materialize(EPOCH, is_full=True)
    assert axes(store, space, ["a", "b"]) == [0, 1]


def test_a_full_run_that_is_cut_short_is_gone_on_with(
    store: Store, space: Space, view: str, write_axes: WriteAxes
) -> None:
    write_axes(store, {"a": 0, "b": 1})
    store.apply()
    store.materialize(EPOCH)

    def interrupt(name: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.materialize(EPOCH, is_full=True, on_progress=interrupt)
    assert store.materialize(EPOCH)[view] == 2


def test_progress_names_the_view_and_ends_with_all_rows(
    store: Store, view: str, write_axes: WriteAxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("feature_repo.materialize.BATCH_SIZE", 2)
    write_axes(store, {"a": 0, "b": 1, "c": 2})
    write_axes(store, {"a": 1}, at=EPOCH + DAY)
    store.apply()
    told: list[tuple[str, int, int]] = []
    store.materialize(EPOCH + DAY, on_progress=lambda *one: told.append(one))
    assert told == [(view, 2, 3), (view, 3, 3)]


def test_one_view_may_be_brought_alone(
    store: Store, space: Space, view: str, write_axes: WriteAxes
) -> None:
    write_axes(store, {"a": 0})
    write_axes(store, {"u": 1}, entity=Entity.USER)
    store.apply()
    assert store.materialize(EPOCH, views=[view]) == {view: 1}
    assert store.materialize(EPOCH)[f"user_{space.space_id}"] == 1
    with pytest.raises(StoreError, match="no view wrong in this store, only item_text_toy"):
        store.materialize(EPOCH, views=["wrong"])


@pytest.mark.slow
def test_two_processes_may_bring_a_view_each(
    store: Store, space: Space, view: str, write_axes: WriteAxes
) -> None:
    write_axes(store, {f"{n:04}": n % 3 for n in range(2_000)})
    write_axes(store, {f"{n:04}": n % 3 for n in range(2_000)}, entity=Entity.USER)
    store.apply()
    views = [view, f"user_{space.space_id}"]
    run = (
        "import sys; from datetime import UTC, datetime; from pathlib import Path;"
        "from feature_repo.store import Store;"
        "print(Store(Path(sys.argv[1])).materialize(datetime.now(UTC), views=sys.argv[2:]))"
    )
    command = [sys.executable, "-c", run, str(store.root)]
    with ExitStack() as ending:
        started = [
            ending.enter_context(child([*command, name], stdout=subprocess.PIPE, text=True))
            for name in views
        ]
        said = [process.communicate(timeout=200)[0] for process in started]
    assert said == [f"{{'{name}': 2000}}\n" for name in views]
    assert set(store.materialize(datetime.now(UTC)).values()) == {0}


def test_after_feasts_own_run_nothing_is_found_amiss(served: Store, tmp_path: Path) -> None:
    """Feast converts rows in its own way; what is compared must come out the same."""
    copy = Store(shutil.copytree(served.root, tmp_path / "copy"))
    copy.apply()
    feast_itself: Any = copy.feature_store._feast  # type: ignore[attr-defined]
    until = datetime.now(UTC)
    feast_itself.materialize(EPOCH - DAY, until)
    for view in copy.views():
        comparison.compare(copy.root, view, copy.feature_store, until=until, ids=[])
        comparison.count(copy.root, view, copy.feature_store, until=until)
