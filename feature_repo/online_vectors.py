"""A Feast view and ids in, its online vectors out as one matrix, however many numbers they hold.

Feast hands out one protobuf object for each value. Here a value stays the bytes that were stored,
and one numpy call turns all of them into floats. Any online store is read through Feast's own
`online_read`; Feast's SQLite tables are also read by one statement of ours, because parsing what
has to become bytes again costs more than the search. Which of both is decided by the profile.

Shape legend: N ids, D dimensions.
"""

import sqlite3
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import quote

import feast
import numpy as np
from feast.infra.key_encoding_utils import serialize_entity_key_prefix
from feast.infra.online_stores.helpers import compute_table_id
from feast.infra.online_stores.sqlite import SqliteOnlineStore, SqliteOnlineStoreConfig
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import FloatList, Value, ValueType
from feast.repo_config import RepoConfig
from numpy.typing import NDArray

from feature_repo.base import StoreError

IDS_PER_READ = 5_000  # SQLite refuses more than 32,766 parameters
FEATURE = "vector"


class OnlineVectors:
    """Reads the vectors of any view of one Feast store; safe to share between threads."""

    def __init__(self, store: feast.FeatureStore) -> None:
        self._feast = store
        is_sqlite = isinstance(store.config.online_store, SqliteOnlineStoreConfig)
        self._sqlite = SqliteValues(store.config) if is_sqlite else None

    def read(
        self, view: feast.FeatureView, ids: Sequence[str], *, dim: int
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """The vectors in the ids' order, [N, D], zero where there is none, and which are, [N].

        Raises:
            StoreError: a stored vector has another length.
        """
        values: list[bytes | None] = []
        for start in range(0, len(ids), IDS_PER_READ):
            some = ids[start : start + IDS_PER_READ]
            values += self._sqlite.read(view, some) if self._sqlite else self._read(view, some)
        return to_matrix(values, ids, dim=dim, name=view.name)

    def close(self) -> None:
        """Close what is held open; the next read opens it again."""
        if self._sqlite:
            self._sqlite.close()

    def _read(self, view: feast.FeatureView, ids: Sequence[str]) -> list[bytes | None]:
        keys = [
            EntityKey(join_keys=[_join_key(view)], entity_values=[Value(string_val=one)])
            for one in ids
        ]
        rows = self._feast._get_provider().online_read(self._feast.config, view, keys, [FEATURE])
        return [
            None if values is None or FEATURE not in values else values[FEATURE].SerializeToString()
            for _, values in rows
        ]


class SqliteValues:
    """The stored bytes of one feature, straight from the table that Feast's SQLite store fills.

    Every thread reads through a connection of its own, lent for one statement.
    """

    def __init__(self, config: RepoConfig) -> None:
        self._config = config
        path = SqliteOnlineStore._get_db_path(config)
        self._address = f"file:{quote(str(path))}?mode=ro"  # a reader makes no empty database
        self._idle: list[sqlite3.Connection] = []

    def read(self, view: feast.FeatureView, ids: Sequence[str]) -> list[bytes | None]:
        """In the ids' order; None where there is no row."""
        versioned = self._config.registry.enable_online_feature_view_versioning
        table = compute_table_id(self._config.project, view, versioned).replace('"', '""')
        keys = self._keys(view, ids)
        marks = ",".join("?" * len(keys))
        try:
            with self._lent() as connection:
                found = connection.execute(
                    f'SELECT entity_key, value FROM "{table}" '  # nosec B608
                    f"WHERE feature_name = '{FEATURE}' AND entity_key IN ({marks})",
                    keys,
                ).fetchall()
        except sqlite3.Error as error:
            raise StoreError(
                f"{view.name}: the online store cannot be read ({error}); apply the store and "
                "materialize again in full"
            ) from error
        value_of: dict[bytes, bytes] = dict(found)
        return [value_of.get(key) for key in keys]

    def close(self) -> None:
        """Close the connections that nobody has borrowed."""
        while self._idle:
            self._idle.pop().close()

    def _keys(self, view: feast.FeatureView, ids: Sequence[str]) -> list[bytes]:
        """Feast's `serialize_entity_key` of every id; what all have in common is made once."""
        start = serialize_entity_key_prefix(
            [_join_key(view)], self._config.entity_key_serialization_version
        ) + struct.pack("<I", ValueType.STRING)
        texts = [one.encode() for one in ids]
        return [start + struct.pack("<I", len(text)) + text for text in texts]

    @contextmanager
    def _lent(self) -> Iterator[sqlite3.Connection]:
        try:
            connection = self._idle.pop()  # atomic, as append is: no lock is needed
        except IndexError:
            connection = sqlite3.connect(
                self._address, uri=True, timeout=30, check_same_thread=False
            )
        try:
            yield connection
        finally:
            self._idle.append(connection)


def to_matrix(
    values: Sequence[bytes | None], ids: Sequence[str], *, dim: int, name: str
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Serialized Feast values as a matrix, [N, D], and which of them hold a vector, [N].

    A value without content (a deleted item's) is as absent as a missing one.

    Raises:
        StoreError: a vector has another length than `dim`; the message names its id.
    """
    # Protobuf ends with the packed floats; what precedes them only says how long they are.
    length = len(Value(float_list_val=FloatList(val=[1.0] * dim)).SerializeToString())
    held = list(values)
    for n, value in enumerate(values):
        if value is not None and len(value) != length:
            _refuse_vector(value, ids[n], dim=dim, name=name)
            held[n] = None
    is_present_N = np.fromiter((value is not None for value in held), np.bool_, count=len(held))
    joined = b"".join(value for value in held if value is not None)
    floats = np.frombuffer(joined, np.uint8).reshape(-1, length)[:, length - 4 * dim :]
    vectors_ND = np.zeros((len(held), dim), dtype="<f4")
    vectors_ND.view(np.uint8)[is_present_N] = floats
    return vectors_ND, is_present_N


def _refuse_vector(packed: bytes, one: str, *, dim: int, name: str) -> None:
    """Raise where a value of an unexpected length holds anything."""
    value = Value.FromString(packed)
    if value.WhichOneof("val") not in (None, "null_val"):
        raise StoreError(
            f"{name}: the online vector of {one!r} has {len(value.float_list_val.val)} dimensions "
            f"instead of {dim}; materialize again in full"
        )


def _join_key(view: feast.FeatureView) -> str:
    name: str = view.entity_columns[0].name
    return name
