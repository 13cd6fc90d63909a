"""Our rows of protobuf are byte by byte those that Feast's own conversion makes."""

import math
from datetime import UTC, datetime

import pandas as pd
import pyarrow as pa
import pytest

pytestmark = pytest.mark.usefixtures("imported_feast")

FEATURES = ["title", "vector", "item_ids", "times"]
MOMENT = datetime(2020, 5, 17, 1, 2, 3, 456789, tzinfo=UTC)


def table(**columns: list[object]) -> pa.Table:
    given = {
        "item_id": ["a"],
        "event_timestamp": [MOMENT],
        "created": [MOMENT],
        "title": ["Æbleskiver"],
        "vector": [[0.5, -1.25, math.nan]],
        "item_ids": [["x", "", "ü"]],
        "times": [[1, -(2**60)]],
    }
    schema = {
        "item_id": pa.string(),
        "event_timestamp": pa.timestamp("us", tz="UTC"),
        "created": pa.timestamp("us", tz="UTC"),
        "title": pa.string(),
        "vector": pa.list_(pa.float32()),
        "item_ids": pa.list_(pa.field("l", pa.string())),  # as DuckDB names it
        "times": pa.list_(pa.int64()),
    }
    return pa.table(
        {name: pa.array(columns.get(name, given[name]), kind) for name, kind in schema.items()}
    )


def test_every_type_is_converted_as_feast_does() -> None:
    import feast
    from feast.types import Array, Float32, Int64, String
    from feast.utils import _convert_arrow_to_proto

    from feature_repo import values

    fields = dict(zip(FEATURES, (String, Array(Float32), Array(String), Array(Int64)), strict=True))
    view = feast.FeatureView(
        name="any",
        entities=[
            feast.Entity(name="item", join_keys=["item_id"], value_type=feast.ValueType.STRING)
        ],
        schema=[
            feast.Field(name="item_id", dtype=String),
            *(feast.Field(name=name, dtype=kind) for name, kind in fields.items()),
        ],
        source=feast.FileSource(path="x", timestamp_field="event_timestamp"),
    )
    rows = table()
    (ours,) = values.rows(rows, join_key="item_id", features=FEATURES)
    join_keys = {"item_id": feast.ValueType.STRING}
    ((key, theirs, event_time, _),) = _convert_arrow_to_proto(rows, view, join_keys)
    assert ours[0] == key
    assert {name: one.SerializeToString() for name, one in ours[1].items()} == {
        name: one.SerializeToString() for name, one in theirs.items()
    }
    assert ours[2] == pd.Timestamp(event_time)


def test_long_lists_and_slices_keep_their_numbers() -> None:
    from feature_repo import values

    vectors = [[float(n)] * n for n in (0, 1, 31, 32, 5_000)]
    whole = pa.table(
        {
            "item_id": [str(n) for n in range(5)],
            "event_timestamp": pa.array([MOMENT] * 5, pa.timestamp("us", tz="UTC")),
            "created": pa.array([MOMENT] * 5, pa.timestamp("us", tz="UTC")),
            "vector": pa.array(vectors, pa.list_(pa.float32())),
        }
    )
    rows = values.rows(whole.slice(2), join_key="item_id", features=["vector"])
    assert [list(row[1]["vector"].float_list_val.val) for row in rows] == vectors[2:]
    assert values.rows(whole, join_key="item_id", features=["vector"])[0][1]["vector"].HasField(
        "float_list_val"
    )


def test_nulls_are_absent_and_equal_to_no_row() -> None:
    from feature_repo import values

    nulls = table(title=[None], vector=[None], item_ids=[None], times=[None])
    ((_, row, *_),) = values.rows(nulls, join_key="item_id", features=FEATURES)
    assert values.is_absent(row)
    assert values.is_absent(None)
    assert values.are_equal(None, row)
    ((_, full, *_),) = values.rows(table(), join_key="item_id", features=FEATURES)
    assert not values.is_absent(full)
    assert values.are_equal(full, full)  # although NaN is not equal to itself
    assert not values.are_equal(None, full)
    assert not values.are_equal(row, full)
    assert not values.are_equal(full, row)
    assert not values.are_equal({**full, "title": row["title"]}, full)
