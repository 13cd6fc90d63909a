import tracemalloc
from collections.abc import Callable
from datetime import timedelta

import pyarrow as pa

from embedders.items import EPOCH
from embedders.known import DELETED, joined
from embedders.vectors import Space
from feature_repo import parts
from feature_repo.base import Entity
from feature_repo.store import Store
from feature_repo.tables import vector_view

DAY = timedelta(days=1)
WriteAxes = Callable[..., int]

ODD_IDS = ["", " ", "0", "10", "2", "A", "Z", "a", "a ", "a\x00", "a\x00b", "ab", "é", "e\u0301"]
ODD_IDS += ["ß", "Ω", "\u200b", "\ud7ff", "\ue000", "\uffff", "\U00010000", "🍷", "\U0010ffff"]


def test_each_id_has_its_latest_row(store: Store, space: Space, write_axes: WriteAxes) -> None:
    write_axes(store, {"a": 0, "b": 1}, at=EPOCH + DAY)
    write_axes(store, {"a": 2}, at=EPOCH)  # late, so it is not the latest
    write_axes(store, {"b": 2}, at=EPOCH + DAY)  # of the same moment, created later
    found = dict(store.known(space))
    assert {row_id: one.content_hash for row_id, one in found.items()} == {
        "a": "hash-0",
        "b": "hash-2",
    }
    assert {one.event_timestamp for one in found.values()} == {EPOCH + DAY}
    assert found["a"].created < found["b"].created


def test_odd_ids_come_in_the_order_in_which_python_sorts_them(
    store: Store, space: Space, write_axes: WriteAxes
) -> None:
    write_axes(store, {row_id: n % 3 for n, row_id in enumerate(reversed(ODD_IDS))})
    found = list(store.known(space))
    assert [row_id for row_id, _ in found] == sorted(ODD_IDS)
    assert [row_id for row_id, _, _ in joined([], found)] == sorted(ODD_IDS)


def test_tombstones_are_known_but_hold_no_content(
    store: Store, space: Space, write_axes: WriteAxes
) -> None:
    write_axes(store, {"a": 0, "b": 1})
    store.delete(["b"], at=EPOCH + DAY)
    known = dict(store.known(space))
    assert known["b"].content_hash == DELETED
    assert known["b"].event_timestamp == EPOCH + DAY
    assert store.content_hashes(space) == {"a": "hash-0"}


def test_users_are_known_apart_from_items(
    store: Store, space: Space, write_axes: WriteAxes
) -> None:
    write_axes(store, {"x": 1}, entity=Entity.USER)
    assert list(store.known(space)) == []
    assert [one for one, _ in store.known(space, entity=Entity.USER)] == ["x"]


def test_many_ids_are_streamed_without_being_held(
    store: Store, space: Space, write_axes: WriteAxes
) -> None:
    write_axes(store, {"a": 0})
    view, num_rows, per_batch = vector_view(space), 100_000, 10_000

    def rows(start: int) -> pa.RecordBatch:
        numbers = range(start, start + per_batch)
        columns = [pa.nulls(per_batch, field.type) for field in view.schema]
        columns[0] = pa.array([f"item-{n * 7919 % num_rows:06d}" for n in numbers])
        columns[1] = columns[2] = pa.array([EPOCH] * per_batch, view.schema.field(1).type)
        columns[3] = pa.array([f"{n:032x}" for n in numbers])
        return pa.RecordBatch.from_arrays(columns, schema=view.schema)

    parts.append(store.root, view, (rows(start) for start in range(0, num_rows, per_batch)))
    tracemalloc.start()
    try:
        assert sum(1 for _ in store.known(space)) == num_rows + 1
        streamed = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        assert len(list(store.known(space))) == num_rows + 1
        held = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert streamed < held / 4
