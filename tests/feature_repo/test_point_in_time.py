"""Feast's point-in-time joins against answers counted by hand, and against reading the parts.

The world, in days since the epoch; every row is created when it is written:

    a: axis 0 from day 1; axis 1 from day 3; a late row, written last, of axis 2 from day 2
    b: imputed axis 0 from day 1; taken away on day 4; back with axis 2 from day 6
    c: axis 0 from day 5, then embedded again for the same moment: axis 1
    d: only in a second space, from day 1
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from embedders.items import EPOCH
from embedders.vectors import Embeddings, Space
from feature_repo.base import Entity, StoreError
from feature_repo.store import Store

Day = float
WriteAxes = Callable[..., int]


def day(number: Day) -> datetime:
    return EPOCH + timedelta(days=number)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, space: Space, write_axes: WriteAxes) -> Store:
    store = Store(tmp_path_factory.mktemp("point-in-time"))
    unit_1D = np.eye(3, dtype=np.float32)[:1]
    b = Embeddings(space=space, item_ids=["b"], vectors_ND=unit_1D)
    store.write(b, content_hashes=["b"], event_timestamps=[day(1)], imputed=[True])
    write_axes(store, {"a": 0}, at=day(1))
    write_axes(store, {"a": 1}, at=day(3))
    write_axes(store, {"c": 0}, at=day(5))
    write_axes(store, {"c": 1}, at=day(5))
    store.delete(["b"], at=day(4))
    write_axes(store, {"b": 2}, at=day(6))
    write_axes(store, {"a": 2}, at=day(2))
    other = Embeddings(space=replace(space, revision="2"), item_ids=["d"], vectors_ND=unit_1D)
    store.write(other, content_hashes=["d"], event_timestamps=[day(1)])
    write_axes(store, {"a": 2}, at=day(1), entity=Entity.USER)
    store.apply()
    return store


EXPECTED: list[tuple[str, Day, int | None]] = [
    ("a", 0.5, None),  # before the first row
    ("a", 1, 0),  # the moment itself is included
    ("a", 1.9, 0),
    ("a", 2, 2),  # the row that was written last
    ("a", 3, 1),
    ("a", 99, 1),
    ("b", 3.9, 0),
    ("b", 4, None),  # taken away
    ("b", 5.9, None),
    ("b", 6, 2),  # back
    ("c", 4.9, None),
    ("c", 5, 1),  # created later
    ("d", 99, None),  # another space
    ("nobody", 99, None),
    ("a", 2, 2),  # asked twice
]


def axes(vectors_ND: np.ndarray, is_present_N: np.ndarray) -> list[int | None]:
    return [
        int(vector_D.argmax()) if is_present else None
        for vector_D, is_present in zip(vectors_ND, is_present_N, strict=True)
    ]


def test_vectors_are_those_of_each_moment(world: Store, space: Space) -> None:
    pairs = [(row_id, day(number)) for row_id, number, _ in EXPECTED]
    vectors_ND, is_present_N = world.vectors_as_of(space, pairs)
    assert axes(vectors_ND, is_present_N) == [axis for _, _, axis in EXPECTED]
    assert vectors_ND.dtype == np.float32
    assert not vectors_ND[~is_present_N].any()


def test_another_space_and_users_have_vectors_of_their_own(world: Store, space: Space) -> None:
    other = replace(space, revision="2")
    pairs = [("a", day(9)), ("d", day(9))]
    assert axes(*world.vectors_as_of(other, pairs)) == [None, 0]
    assert axes(*world.vectors_as_of(space, pairs, entity=Entity.USER)) == [2, None]


def test_the_join_agrees_with_reading_as_of(world: Store, space: Space) -> None:
    for number in (0, 1, 1.5, 2, 3, 4, 4.5, 5, 6, 7):
        read = world.read(space, as_of=day(number))
        pairs = [(row_id, day(number)) for row_id in "abcd"]
        vectors_ND, is_present_N = world.vectors_as_of(space, pairs)
        present = [row_id for (row_id, _), is_in in zip(pairs, is_present_N, strict=True) if is_in]
        assert present == read.item_ids
        np.testing.assert_array_equal(vectors_ND[is_present_N], read.vectors_ND)


def test_no_pairs_have_no_vectors(world: Store, space: Space) -> None:
    vectors_ND, is_present_N = world.vectors_as_of(space, [])
    assert (vectors_ND.shape, is_present_N.shape) == ((0, 3), (0,))


def test_a_space_that_was_not_applied_is_named(world: Store, space: Space) -> None:
    with pytest.raises(StoreError, match="is not defined; apply the store first"):
        world.vectors_as_of(replace(space, revision="3"), [("a", day(1))])


def test_late_events_and_equal_times_in_histories(
    store: Store, interactions_of: Callable[..., pa.Table]
) -> None:
    """`u` acts on days 1, 2 (twice) and 4; the event of day 3 becomes known last."""
    log = [("u", "a", day(1)), ("u", "b", day(2)), ("u", "c", day(2)), ("u", "e", day(4))]
    store.write_history(interactions_of(log))
    store.write_history(interactions_of([*log, ("u", "d", day(3))]))
    store.apply()
    pairs = [("u", day(number)) for number in (1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5)]
    found = ["".join(one.item_id for one in events) for events in store.histories(pairs)]
    assert found == ["", "a", "a", "abc", "abc", "abcd", "abcd", "abcde"]
