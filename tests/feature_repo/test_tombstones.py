from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from embedders.items import EPOCH, Item
from embedders.vectors import Embeddings, Space
from feature_repo import parts
from feature_repo.base import Entity, StoreError
from feature_repo.store import Store
from feature_repo.tables import history_view, profile_view, vector_view

DAY = timedelta(days=1)
WriteAxes = Callable[..., int]


def ids(store: Store, space: Space, *, as_of: datetime | None = None) -> list[str]:
    return store.read(space, as_of=as_of).item_ids


def num_parts(store: Store, space: Space) -> int:
    return len(parts.list_parts(store.root, vector_view(space)))


def test_a_deleted_item_is_gone_now_and_still_there_then(
    store: Store, space: Space, write_axes: WriteAxes
) -> None:
    write_axes(store, {"a": 0, "b": 1})
    store.write_profiles([Item(item_id="a", title="A"), Item(item_id="b", title="B")])
    assert store.delete(["a"], at=EPOCH + 2 * DAY) == 1
    assert ids(store, space) == ["b"]
    assert ids(store, space, as_of=EPOCH + 2 * DAY) == ["b"]
    assert ids(store, space, as_of=EPOCH + 2 * DAY - timedelta(microseconds=1)) == ["a", "b"]
    assert list(store.profiles()) == list(store.profile_ids()) == ["b"]
    assert store.content_hashes(space) == {"b": "hash-1"}


def test_an_item_that_is_written_again_comes_back(
    store: Store, space: Space, write_axes: WriteAxes
) -> None:
    item = Item(item_id="a", title="A")
    write_axes(store, {"a": 0})
    store.write_profiles([item])
    gone = datetime.now(UTC)
    store.delete(["a"], at=gone)
    assert store.profiles() == {}
    # The same content as before: its hash is not the tombstone's, and it is true from now on.
    assert store.write_profiles([item]) == 1
    write_axes(store, {"a": 0}, at=datetime.now(UTC))
    assert list(store.profiles()) == ["a"]
    assert ids(store, space) == ["a"]
    assert ids(store, space, as_of=gone) == []
    assert ids(store, space, as_of=EPOCH) == ["a"]
    then = parts.latest(store.root, profile_view(), until=gone)
    assert then.num_rows == 0


def test_deleting_again_or_the_unknown_changes_nothing(
    store: Store, space: Space, write_axes: WriteAxes
) -> None:
    write_axes(store, {"a": 0})
    assert store.delete(["nobody"], at=EPOCH + DAY) == 0
    assert store.delete([], at=EPOCH + DAY) == 0
    assert store.delete(["a", "a"], at=EPOCH + DAY) == 1
    before = num_parts(store, space)
    assert store.delete(["a"], at=EPOCH + 9 * DAY) == 0
    assert num_parts(store, space) == before


def test_every_space_that_holds_the_item_gets_a_tombstone(store: Store, space: Space) -> None:
    other = replace(space, revision="2")
    for one, item_ids in ((space, ["a", "b"]), (other, ["b", "c"])):
        embeddings = Embeddings(
            space=one, item_ids=item_ids, vectors_ND=np.eye(3, dtype=np.float32)[:2]
        )
        store.write(embeddings, content_hashes=["1", "2"], event_timestamps=[EPOCH] * 2)
    assert store.delete(["a", "b"], at=EPOCH + DAY) == 2
    assert ids(store, space) == []
    assert ids(store, other) == ["c"]


def test_content_of_the_future_is_buried_at_its_own_moments(
    store: Store, space: Space, write_axes: WriteAxes
) -> None:
    """Announced for days 5 and 9, taken away on day 1: it must not come true."""
    write_axes(store, {"a": 0})
    write_axes(store, {"a": 1}, at=EPOCH + 5 * DAY)
    write_axes(store, {"a": 2}, at=EPOCH + 9 * DAY)
    assert store.delete(["a"], at=EPOCH + DAY) == 1
    for day in (1, 4, 5, 7, 9, 20):
        assert ids(store, space, as_of=EPOCH + day * DAY) == []
    assert ids(store, space, as_of=EPOCH) == ["a"]


def test_users_outlive_the_items(
    store: Store, space: Space, write_axes: WriteAxes, interactions_of: Callable[..., pa.Table]
) -> None:
    write_axes(store, {"x": 0}, entity=Entity.USER)
    store.write_history(interactions_of([("x", "x", EPOCH)]))
    assert store.delete(["x"], at=EPOCH + DAY) == 0
    assert store.read(space, entity=Entity.USER).item_ids == ["x"]
    assert parts.ids(store.root, history_view(), until=EPOCH + DAY) == ["x"]


def test_a_deletion_without_a_time_zone_is_refused(store: Store) -> None:
    with pytest.raises(StoreError, match="no time zone"):
        store.delete(["a"], at=datetime(2020, 1, 1))


def test_a_run_to_the_online_store_is_told_of_tombstones(
    store: Store, space: Space, write_axes: WriteAxes
) -> None:
    view = vector_view(space)
    write_axes(store, {"a": 0, "b": 1})
    seen = set(parts.list_parts(store.root, view))
    store.delete(["a"], at=EPOCH + DAY)
    new = sorted(set(parts.list_parts(store.root, view)) - seen)
    (rows,) = parts.latest_of_changed(
        store.root, view, changed=new, until=EPOCH + DAY, batch_size=10
    )
    (row,) = rows.to_pylist()
    assert row["item_id"] == "a"
    assert row["content_hash"] == "deleted"
    assert row["vector"] is None
    assert parts.ids(store.root, view, until=EPOCH + DAY) == ["b"]
    assert parts.ids(store.root, view, until=EPOCH) == ["a", "b"]


def test_imputed_marks_follow_the_latest_row(store: Store, space: Space) -> None:
    def write(axes: dict[str, int], imputed: list[bool], *, at: datetime) -> None:
        vectors_ND = np.eye(3, dtype=np.float32)[list(axes.values())]
        embeddings = Embeddings(space=space, item_ids=list(axes), vectors_ND=vectors_ND)
        times = [at] * len(axes)
        hashes = ["x"] * len(axes)
        store.write(embeddings, content_hashes=hashes, event_timestamps=times, imputed=imputed)

    assert store.imputed(space) == set()
    write({"a": 0, "b": 1, "c": 2}, [True, True, False], at=EPOCH)
    assert store.imputed(space) == {"a", "b"}
    write({"b": 1, "c": 0}, [False, True], at=EPOCH + DAY)
    assert store.imputed(space) == {"a", "c"}
    store.delete(["c"], at=EPOCH + 2 * DAY)
    assert store.imputed(space) == {"a"}
    with pytest.raises(StoreError, match=r"1 vectors came with .* 2 marks of being imputed"):
        write({"a": 0}, [True, False], at=EPOCH)
