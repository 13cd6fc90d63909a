import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from embedders.items import EPOCH, Item, Reject
from embedders.vectors import Embeddings, Space
from feature_repo import parts
from feature_repo.base import Entity, Profile, StoreError
from feature_repo.store import Store
from feature_repo.tables import profile_view

DAY = timedelta(days=1)
WriteAxes = Callable[..., int]


def axes(store: Store, space: Space, *, as_of: datetime | None = None) -> dict[str, int]:
    embeddings = store.read(space, as_of=as_of)
    which = embeddings.vectors_ND.argmax(axis=1).tolist()
    return dict(zip(embeddings.item_ids, which, strict=True))


def test_vectors_are_read_as_written_ordered_by_id(store: Store, space: Space) -> None:
    vectors_ND = np.array([[0.6, 0.8, 0], [0, 0.6, 0.8]], dtype=np.float32)
    written = Embeddings(space=space, item_ids=["b", "a"], vectors_ND=vectors_ND)
    assert store.write(written, content_hashes=["1", "2"], event_timestamps=[EPOCH, EPOCH]) == 2
    found = store.read(space)
    assert found.item_ids == ["a", "b"]
    np.testing.assert_array_equal(found.vectors_ND, vectors_ND[::-1])
    assert store.content_hashes(space) == {"a": "2", "b": "1"}
    assert store.spaces() == {(Entity.ITEM, space.space_id): space}


def test_items_and_users_of_one_space_are_kept_apart(
    store: Store, space: Space, write_axes: WriteAxes
) -> None:
    write_axes(store, {"x": 0})
    write_axes(store, {"x": 1}, entity=Entity.USER)
    assert store.content_hashes(space) == {"x": "hash-0"}
    assert store.content_hashes(space, entity=Entity.USER) == {"x": "hash-1"}


def test_as_of_shows_what_was_true_then(store: Store, space: Space, write_axes: WriteAxes) -> None:
    """`a` is embedded again on day 2; a backfill then adds its day 1; `b` appears on day 3."""
    write_axes(store, {"a": 0})
    write_axes(store, {"a": 2}, at=EPOCH + 2 * DAY)
    write_axes(store, {"b": 0}, at=EPOCH + 3 * DAY)
    write_axes(store, {"a": 1}, at=EPOCH + DAY)
    assert axes(store, space, as_of=EPOCH) == {"a": 0}
    assert axes(store, space, as_of=EPOCH + DAY) == {"a": 1}
    assert axes(store, space, as_of=EPOCH + 2 * DAY) == {"a": 2}
    assert axes(store, space) == {"a": 2, "b": 0}
    assert store.content_hashes(space) == {"a": "hash-2", "b": "hash-0"}


def test_the_same_moment_embedded_again_replaces_the_vector(
    store: Store, space: Space, write_axes: WriteAxes
) -> None:
    write_axes(store, {"a": 0})
    write_axes(store, {"a": 1})
    assert axes(store, space) == {"a": 1}


def test_vectors_of_a_wrong_length_never_reach_the_parts(store: Store, space: Space) -> None:
    with pytest.raises(ValueError, match="expected vectors of shape"):
        Embeddings(space=space, item_ids=["a"], vectors_ND=np.ones((1, 4), dtype=np.float32))
    good = Embeddings(space=space, item_ids=["a"], vectors_ND=np.eye(3, dtype=np.float32)[:1])
    with pytest.raises(StoreError, match="1 vectors came with 2 content hashes, 1"):
        store.write(good, content_hashes=["1", "2"], event_timestamps=[EPOCH])
    with pytest.raises(StoreError, match="no time zone"):
        store.write(good, content_hashes=["1"], event_timestamps=[datetime(2020, 1, 1)])
    assert not store.root.exists()


def test_an_unknown_space_is_named_with_those_known(
    store: Store, space: Space, write_axes: WriteAxes
) -> None:
    other = replace(space, revision="2")
    with pytest.raises(StoreError, match="only of: nothing"):
        store.read(other)
    write_axes(store, {"a": 0})
    with pytest.raises(StoreError, match=f"no item vectors of {other.space_id}, only of: .*toy"):
        store.read(other)
    assert store.content_hashes(other) == {}


def test_a_space_may_have_no_vectors_yet(store: Store, space: Space) -> None:
    none = Embeddings(space=space, item_ids=[], vectors_ND=np.zeros((0, 3), dtype=np.float32))
    assert store.write(none, content_hashes=[], event_timestamps=[]) == 0
    assert store.read(space).vectors_ND.shape == (0, 3)


def test_only_changed_profiles_are_written(store: Store, start: datetime) -> None:
    bread = Item(item_id="bread", title="Bread", attributes={"crust": "dark"})
    wine = Item(item_id="wine", title="Wine", category="drinks", created_at=start)
    assert store.write_profiles([bread, wine]) == 2
    assert store.write_profiles([bread, wine]) == 0
    assert store.write_profiles([replace(bread, description="Crisp"), wine]) == 1
    assert store.profiles() == {
        "bread": Profile(
            item_id="bread", title="Bread", description="Crisp", attributes={"crust": "dark"}
        ),
        "wine": Profile(item_id="wine", title="Wine", category="drinks"),
    }


def test_a_change_without_a_time_is_true_from_now_on(store: Store) -> None:
    before = datetime.now(UTC)
    store.write_profiles([Item(item_id="a", title="Old")])
    store.write_profiles([Item(item_id="a", title="New")])
    then = parts.latest(store.root, profile_view(), until=before).to_pylist()
    assert [(row["title"], row["event_timestamp"]) for row in then] == [("Old", EPOCH)]
    assert store.profiles()["a"].title == "New"


def test_rejects_are_kept_with_their_last_reason(store: Store) -> None:
    assert store.rejects() == []
    first = Reject(source="items", key="row 3", reason="no id")
    second = Reject(source="audio_mel", key="x", reason="empty file")
    assert store.write_rejects([first, second]) == 2
    assert store.write_rejects([replace(second, reason="damaged file")]) == 1
    assert store.write_rejects([]) == 0
    assert store.rejects() == [replace(second, reason="damaged file"), first]


def test_histories_come_in_the_order_asked_and_hide_the_moment_itself(
    served: Store, start: datetime
) -> None:
    pairs = [
        ("ann", start + 2 * DAY),  # sees days 0 and 1, not the event of this very moment
        ("bob", start + 9 * DAY),
        ("ann", start),
        ("nobody", start + 9 * DAY),
        ("ann", start + 2 * DAY + timedelta(microseconds=1)),
        ("ann", start + 2 * DAY),
    ]
    found = [[event.item_id for event in events] for events in served.histories(pairs)]
    assert found == [
        ["item-0", "item-1"],
        ["item-3"],
        [],
        [],
        ["item-0", "item-1", "item-2"],
        ["item-0", "item-1"],
    ]


def test_no_pairs_have_no_histories(served: Store) -> None:
    assert served.histories([]) == []


def test_histories_need_the_store_applied(
    store: Store, interactions_of: Callable[..., pa.Table], start: datetime
) -> None:
    store.write_history(interactions_of([("u", "a", start)]))
    with pytest.raises(StoreError, match="user_history is not defined; apply the store first"):
        store.histories([("u", start)])


def test_many_histories_agree_with_counting_by_hand(
    store: Store, interactions_of: Callable[..., pa.Table], start: datetime
) -> None:
    """User k has events on days 0..k; asked on day d they have seen min(d, k + 1) of them."""
    users = [f"user-{k:02d}" for k in range(40)]
    log = [
        (user, f"item-{day}", start + day * DAY)
        for k, user in enumerate(users)
        for day in range(k + 1)
    ]
    store.write_history(interactions_of(log))
    store.apply()
    pairs = [(user, start + day * DAY) for user in users for day in range(0, 60, 3)]
    lengths = [len(events) for events in store.histories(pairs)]
    assert lengths == [min(day, k + 1) for k in range(40) for day in range(0, 60, 3)]


def test_a_store_can_move(served: Store, space: Space, tmp_path: Path, start: datetime) -> None:
    """Nothing in the parts or in spaces.json depends on the folder; the registry is made anew."""
    shutil.copytree(served.root / "parts", tmp_path / "parts")
    shutil.copy(served.root / "spaces.json", tmp_path)
    moved = Store(tmp_path)
    moved.apply()
    assert moved.read(space).item_ids == ["item-0", "item-1", "item-2"]
    assert moved.materialize(start + 100 * DAY) == {
        f"item_{space.space_id}": 3,
        f"user_{space.space_id}": 1,
        "item_profile": 4,
        "user_history": 2,
    }
