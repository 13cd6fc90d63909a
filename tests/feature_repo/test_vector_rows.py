from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from embedders.items import EPOCH
from embedders.vectors import Embeddings, Space
from feature_repo import parts, spaces, vector_rows
from feature_repo.base import Entity, StoreError
from feature_repo.store import Store
from feature_repo.tables import vector_view


def test_a_matrix_comes_back_from_several_chunks_in_order() -> None:
    chunks = [pa.array([[1, 2], [3, 4]], pa.list_(pa.float32())), pa.array([[5, 6]])]
    column = pa.chunked_array([chunk.cast(pa.list_(pa.float32())) for chunk in chunks])
    np.testing.assert_array_equal(vector_rows.to_matrix(column, 2), [[1, 2], [3, 4], [5, 6]])
    none = pa.chunked_array([], pa.list_(pa.float32()))
    assert vector_rows.to_matrix(none, 2).shape == (0, 2)


def test_the_mark_of_a_tombstone_is_no_content_hash(store: Store, space: Space) -> None:
    one = Embeddings(space=space, item_ids=["a"], vectors_ND=np.eye(3, dtype=np.float32)[:1])
    with pytest.raises(StoreError, match="marks an item that was taken away"):
        store.write(one, content_hashes=["deleted"], event_timestamps=[EPOCH])


def test_parts_from_before_a_column_was_added_stay_readable(
    store: Store, space: Space, write_axes: Callable[..., int]
) -> None:
    """Such a part lacks `imputed`; its rows count as not imputed."""
    view = vector_view(space)
    names = [name for name in view.schema.names if name != "imputed"]
    old = pa.schema([view.schema.field(name) for name in names])
    row = {"item_id": "a", "event_timestamp": EPOCH, "created": EPOCH, "content_hash": "old"}
    batch = pa.RecordBatch.from_pylist([row | {"vector": [0, 1, 0]}], schema=old)
    spaces.add(store.root, space, entity=Entity.ITEM)
    folder = parts.folder(store.root, view)
    parts.write_part(folder / parts.EMPTY, old, [], is_empty_kept=True)
    parts.write_part(folder / "00000001-old.parquet", old, [batch])
    write_axes(store, {"b": 0})
    assert store.read(space).vectors_ND.tolist() == [[0, 1, 0], [1, 0, 0]]
    assert store.imputed(space) == set()
    assert store.delete(["a"], at=EPOCH) == 1
    assert store.content_hashes(space) == {"b": "hash-0"}
