import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from embedders.items import EPOCH, Interaction, Modality
from embedders.vectors import Embeddings, Space, normalize
from feature_repo.base import Entity, Profile, StoreError
from feature_repo.reader import OnlineReader
from feature_repo.store import Store

DAY = timedelta(days=1)


class Changing:
    """A store whose online vectors of six items all point along one axis, now this, now that."""

    def __init__(self, store: Store, space: Space) -> None:
        self.store, self.space = store, space

    def turn(self, axis: int) -> None:
        """Point all of them along the axis, at once."""
        from feast.protos.feast.types.Value_pb2 import FloatList, Value

        vector = np.eye(self.space.dim)[axis].tolist()
        value = Value(float_list_val=FloatList(val=vector)).SerializeToString()
        with self._online() as online:
            online.execute(f'UPDATE "sommelier_item_{self.space.space_id}" SET value = ?', [value])

    def seen_by(self, reader: OnlineReader, one: str = "a") -> int:
        """The axis that a reader says the item's vector points along."""
        return int(reader.vectors(self.space, [one])[0].argmax())

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else may read the online store meanwhile; they wait."""
        with self._online() as online:
            online.execute("BEGIN EXCLUSIVE")
            yield

    @contextmanager
    def _online(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.store.root / "online.db", timeout=60)) as online, online:
            yield online


@pytest.fixture
def changing(store: Store, space: Space, write_axes: Callable[..., int]) -> Changing:
    write_axes(store, dict.fromkeys("abcdef", 0))
    store.apply()
    store.materialize(EPOCH)
    return Changing(store, space)


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


def test_several_spaces_are_read_at_once_each_as_it_is_alone(
    store: Store, space: Space, write_axes: Callable[..., int]
) -> None:
    other = Space(modality=Modality.AUDIO, encoder="toy", revision="1", dim=2)
    write_axes(store, {"a": 0, "b": 1})
    store.write(
        Embeddings(space=other, item_ids=["b"], vectors_ND=np.array([[0, 1]], dtype=np.float32)),
        content_hashes=["b"],
        event_timestamps=[EPOCH],
    )
    store.apply()
    store.materialize(EPOCH)
    reader, ids = OnlineReader(store), ["b", "a", "nothing", "b"]
    for _ in range(2):
        found = reader.vectors_of([other, space], ids)
        assert set(found) == {space.space_id, other.space_id}
        assert found[space.space_id][0].tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 0], [0, 1, 0]]
        assert found[space.space_id][1].tolist() == [True, True, False, True]
        assert found[other.space_id][0].tolist() == [[0, 1], [0, 0], [0, 0], [0, 1]]
        assert found[other.space_id][1].tolist() == [True, False, False, True]


def test_a_cache_without_room_still_answers(served: Store, space: Space) -> None:
    reader = OnlineReader(served, cached_bytes=0)
    for _ in range(2):
        assert reader.vectors(space, ["item-0", "item-1", "item-2"])[1].all()
        assert reader.history("ann") is not None
    assert reader.num_bytes == 0


def test_answers_do_not_depend_on_the_room(store: Store) -> None:
    space = Space(modality=Modality.TEXT, encoder="random", revision="1", dim=8)
    ids = [f"i{n:03d}" for n in range(300)]
    vectors_ND = normalize(np.random.default_rng(0).standard_normal((300, 8)))
    store.write(
        Embeddings(space=space, item_ids=ids, vectors_ND=vectors_ND),
        content_hashes=ids,
        event_timestamps=[EPOCH] * 300,
    )
    store.apply()
    store.materialize(EPOCH)
    reader, random = OnlineReader(store, cached_bytes=20_000), np.random.default_rng(1)
    for _ in range(100):
        rows = random.integers(0, 320, size=50)  # the last twenty are nobody's
        found_ND, is_present_N = reader.vectors(space, [f"i{n:03d}" for n in rows])
        np.testing.assert_array_equal(is_present_N, rows < 300)
        np.testing.assert_array_equal(found_ND[is_present_N], vectors_ND[rows[rows < 300]])
        assert not found_ND[~is_present_N].any()
        assert reader.num_bytes <= 20_000


def test_what_a_caller_does_to_an_answer_stays_with_the_caller(served: Store, space: Space) -> None:
    reader = OnlineReader(served)
    for _ in range(3):
        vectors_ND, _ = reader.vectors(space, ["item-0"])
        assert vectors_ND.tolist() == [[1, 0, 0]]
        vectors_ND[:] = 7


def test_another_generation_drops_what_is_held(changing: Changing) -> None:
    reader = OnlineReader(changing.store)
    assert reader.refresh("g-1")
    changing.turn(0)
    assert changing.seen_by(reader) == 0
    changing.turn(1)
    assert not reader.refresh("g-1")
    assert changing.seen_by(reader) == 0
    assert reader.refresh("g-2")
    assert changing.seen_by(reader) == 1


def test_a_forgotten_item_is_read_again_and_others_are_not(changing: Changing) -> None:
    reader = OnlineReader(changing.store)
    changing.turn(0)
    assert [changing.seen_by(reader, one) for one in "ab"] == [0, 0]
    changing.turn(1)
    reader.forget(["a"])
    assert [changing.seen_by(reader, one) for one in "ab"] == [1, 0]


def test_a_history_is_read_again_when_it_is_old_or_forgotten(
    store: Store, interactions_of: Callable[..., pa.Table], start: datetime
) -> None:
    def live(events: list[tuple[str, str, datetime]]) -> None:
        store.write_history(interactions_of(events))
        store.apply()
        store.materialize(start + 9 * DAY)

    events = [("ann", "item-0", start)]
    live(events)
    patient, hasty = OnlineReader(store, history_age_s=3600), OnlineReader(store, history_age_s=0)
    assert [len(reader.history("ann") or ()) for reader in (patient, hasty)] == [1, 1]
    live([*events, ("ann", "item-1", start + DAY)])
    assert [len(reader.history("ann") or ()) for reader in (patient, hasty)] == [1, 2]
    patient.forget(["ann"], entity=Entity.USER)
    assert len(patient.history("ann") or ()) == 2


def test_who_waits_for_the_online_store_keeps_nobody_else_waiting(changing: Changing) -> None:
    reader = OnlineReader(changing.store)
    changing.turn(0)
    assert changing.seen_by(reader, "a") == 0
    late: list[int] = []
    with changing.locked():
        waiting = threading.Thread(target=lambda: late.append(changing.seen_by(reader, "b")))
        waiting.start()
        waiting.join(timeout=0.2)
        assert changing.seen_by(reader, "a") == 0
        assert waiting.is_alive()
    waiting.join()
    assert late == [0]


def test_what_was_asked_before_a_drop_is_not_held_after_it(changing: Changing) -> None:
    reader = OnlineReader(changing.store)
    changing.turn(0)
    with changing.locked():
        waiting = threading.Thread(target=lambda: changing.seen_by(reader))
        waiting.start()
        waiting.join(timeout=0.2)
        assert waiting.is_alive()
        reader.clear()
    waiting.join()
    changing.turn(1)
    assert changing.seen_by(reader) == 1


def test_threads_see_whole_rows_while_rows_change_and_leave(changing: Changing) -> None:
    reader = OnlineReader(changing.store, cached_bytes=3000)
    answers: list[list[float]] = []
    is_over = threading.Event()

    def ask(seed: int) -> None:
        random = np.random.default_rng(seed)
        while not is_over.is_set():
            ids = [*random.choice(["a", "b", "c", "d", "e", "f"], size=4), str(random.random())]
            answers.extend(reader.vectors(changing.space, ids)[0][:4].tolist())

    threads = [threading.Thread(target=ask, args=[seed]) for seed in range(4)]
    for thread in threads:
        thread.start()
    for turn in range(20):
        changing.turn(turn % 2)
        reader.clear()
    is_over.set()
    for thread in threads:
        thread.join()
    assert len(answers) >= 20
    assert {tuple(answer) for answer in answers} <= {(1, 0, 0), (0, 1, 0)}


def test_a_negative_size_or_age_is_refused(served: Store) -> None:
    with pytest.raises(ValueError, match="-1"):
        OnlineReader(served, cached_bytes=-1)
    with pytest.raises(ValueError, match="-2"):
        OnlineReader(served, history_age_s=-2)


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
