import sqlite3
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pytest

from embedders.items import EPOCH, Interaction, Modality
from embedders.vectors import Embeddings, Space, normalize
from feature_repo.base import Entity, Profile, StoreError
from feature_repo.reader import OnlineReader
from feature_repo.store import Store

DAY = timedelta(days=1)


def test_vectors_come_in_the_order_asked_with_zeros_for_the_absent(
    served: Store, space: Space
) -> None:
    ids = ["item-2", "nothing", "item-0", "item-2"]
    vectors_ND, is_present_N = OnlineReader(served).vectors(space, ids)
    assert vectors_ND.dtype == np.float32
    assert vectors_ND.tolist() == [[0, 0, 1], [0, 0, 0], [1, 0, 0], [0, 0, 1]]
    assert is_present_N.tolist() == [True, False, True, True]


def test_online_vectors_are_bit_equal_to_the_offline_ones(store: Store) -> None:
    space = Space(modality=Modality.AUDIO, encoder="random", revision="1", dim=384)
    vectors_ND = normalize(np.random.default_rng(0).standard_normal((50, 384)))
    ids = [f"i{n:02d}" for n in range(50)]
    store.write(
        Embeddings(space=space, item_ids=ids, vectors_ND=vectors_ND),
        content_hashes=ids,
        event_timestamps=[EPOCH] * 50,
    )
    store.apply()
    store.materialize(EPOCH)
    online_ND, is_present_N = OnlineReader(store).vectors(space, ids)
    assert is_present_N.all()
    np.testing.assert_array_equal(online_ND, store.read(space).vectors_ND)


def test_no_ids_have_no_vectors(served: Store, space: Space) -> None:
    vectors_ND, is_present_N = OnlineReader(served).vectors(space, [])
    assert vectors_ND.shape == (0, 3)
    assert is_present_N.shape == (0,)


def test_user_vectors_are_read_by_user(served: Store, space: Space) -> None:
    vectors_ND, _ = OnlineReader(served).vectors(space, ["ann"], entity=Entity.USER)
    assert vectors_ND.tolist() == [[0, 1, 0]]


def test_a_history_is_the_last_events_and_none_for_a_stranger(
    served: Store, start: datetime
) -> None:
    reader = OnlineReader(served)
    assert reader.history("bob") == (
        Interaction(user_id="bob", item_id="item-3", behavior="view", timestamp=start + DAY),
    )
    assert [event.item_id for event in reader.history("ann") or ()] == [
        "item-0",
        "item-1",
        "item-2",
    ]
    assert reader.history("nobody") is None


def test_profiles_come_in_the_order_asked(served: Store) -> None:
    assert OnlineReader(served).profiles(["item-1", "nothing", "item-3", "item-0"]) == [
        Profile(item_id="item-1", title="Cheese", description="Ripe", category="dairy"),
        None,
        Profile(item_id="item-3", title="Æbleskiver"),
        Profile(item_id="item-0", title="Bread", attributes={"crust": "dark"}),
    ]


def test_rows_are_remembered_until_cleared(
    store: Store, space: Space, write_axes: Callable[..., int]
) -> None:
    write_axes(store, {"a": 0})
    store.apply()
    store.materialize(EPOCH)
    reader = OnlineReader(store)
    assert reader.vectors(space, ["a", "b"])[0].argmax(axis=1)[0] == 0
    write_axes(store, {"a": 1, "b": 1})
    store.materialize(EPOCH)
    assert reader.vectors(space, ["a", "b"])[1].tolist() == [True, False]
    reader.clear()
    vectors_ND, is_present_N = reader.vectors(space, ["a", "b"])
    assert vectors_ND.tolist() == [[0, 1, 0], [0, 1, 0]]
    assert is_present_N.all()


def test_a_cache_smaller_than_a_request_still_answers_it(served: Store, space: Space) -> None:
    reader = OnlineReader(served, cached_rows=1)
    for _ in range(2):
        assert reader.vectors(space, ["item-0", "item-1", "item-2"])[1].all()
    assert len(reader._cache) == 1


def test_threads_share_a_reader(served: Store, space: Space) -> None:
    reader = OnlineReader(served, cached_rows=2)
    answers: list[list[list[float]]] = []

    def ask() -> None:
        for _ in range(20):
            answers.append(reader.vectors(space, ["item-1", "item-0", "item-2"])[0].tolist())

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [[[0, 1, 0], [1, 0, 0], [0, 0, 1]]] * 80


def test_a_space_that_was_not_applied_is_refused(served: Store, space: Space) -> None:
    with pytest.raises(StoreError, match="is not defined; apply the store first"):
        OnlineReader(served).vectors(replace(space, revision="2"), ["item-0"])


def test_a_stored_vector_of_another_length_is_refused(
    store: Store, space: Space, write_axes: Callable[..., int]
) -> None:
    write_axes(store, {"a": 0, "b": 1})
    store.apply()
    store.materialize(EPOCH)
    from feast.protos.feast.types.Value_pb2 import FloatList, Value

    value = Value(float_list_val=FloatList(val=[1.0])).SerializeToString()
    with sqlite3.connect(store.root / "online.db") as online:
        online.execute(f'UPDATE "sommelier_item_{space.space_id}" SET value = ?', [value])
    online.close()
    with pytest.raises(StoreError, match="'a' has 1 dimensions instead of 3"):
        OnlineReader(store).vectors(space, ["a"])
