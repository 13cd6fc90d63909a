"""Arrow rows in, Feast's rows of protobuf values out, as every online store of Feast takes them.

Feast's own way goes through pandas and one Python object for each number. Here a list of floats is
handed to protobuf as the bytes that it is: most of a materialization's time, for vectors.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import FloatList, Int64List, StringList, Value

from feature_repo.tables import CREATED, EVENT_TIME

Row = tuple[EntityKey, dict[str, Value], datetime, datetime | None]

NULL = Value()


def keys(join_key: str, ids: Sequence[str]) -> list[EntityKey]:
    """The ids as Feast's keys."""
    return [EntityKey(join_keys=[join_key], entity_values=[Value(string_val=one)]) for one in ids]


def rows(table: pa.Table, *, join_key: str, features: Sequence[str]) -> list[Row]:
    """Every row's key, values, event timestamp and creation time, in the table's order.

    The times are in UTC without saying so, as Feast takes them: their conversion is the faster one.
    """
    columns = [_values(table[name]) for name in features]
    event_times, created = (table[name].cast(pa.timestamp("us")) for name in (EVENT_TIME, CREATED))
    return [
        (key, dict(zip(features, values, strict=True)), event_time, written)
        for key, event_time, written, *values in zip(
            keys(join_key, table[join_key].to_pylist()),
            event_times.to_pylist(),
            created.to_pylist(),
            *columns,
            strict=True,
        )
    ]


def is_absent(values: Mapping[str, Any] | None) -> bool:
    """Whether an online row holds nothing: never written, or taken away.

    Redis answers for an id that it does not know with a row of nulls, as other stores do for a
    row that was deleted.
    """
    return values is None or all(
        value.WhichOneof("val") in (None, "null_val") for value in values.values()
    )


def are_equal(stored: Mapping[str, Any] | None, expected: Mapping[str, Value]) -> bool:
    """Whether an online row is, byte by byte, the expected one."""
    if is_absent(stored) or stored is None:
        return is_absent(expected)
    return all(
        stored.get(name, NULL).SerializeToString() == value.SerializeToString()
        for name, value in expected.items()
    )


def _values(column: pa.ChunkedArray) -> list[Value]:
    if pa.types.is_list(column.type):
        if column.type.value_type == pa.float32():
            return [value for chunk in column.chunks for value in _float_lists(chunk)]
        make = _LIST_MAKERS[column.type.value_type]
    else:
        make = _MAKERS[column.type]
    return [NULL if one is None else make(one) for one in column.to_pylist()]


def _float_lists(column: pa.ListArray) -> Iterator[Value]:
    starts = column.offsets.to_numpy()
    floats = np.asarray(column.values.to_numpy(zero_copy_only=False), dtype="<f4")
    for n, is_valid in enumerate(column.is_valid().to_pylist()):
        if is_valid:
            packed = floats[starts[n] : starts[n + 1]].tobytes()
            values = FloatList.FromString(b"\x0a" + _varint(len(packed)) + packed)
            yield Value(float_list_val=values)
        else:
            yield NULL


def _varint(number: int) -> bytes:
    """Protobuf's encoding of a length: seven bits a byte, the lowest first."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])


_MAKERS: dict[pa.DataType, Callable[[Any], Value]] = {
    pa.string(): lambda one: Value(string_val=one),
    pa.int64(): lambda one: Value(int64_val=one),
}
_LIST_MAKERS: dict[pa.DataType, Callable[[Any], Value]] = {
    # By the type of what is listed: the name that Arrow gives a list's field says nothing.
    pa.string(): lambda one: Value(string_list_val=StringList(val=one)),
    pa.int64(): lambda one: Value(int64_list_val=Int64List(val=one)),
}
