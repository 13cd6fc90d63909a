"""Ids in, tombstones out: rows without features that say from when an id is gone.

Rows are never taken out of the parts, since what was true before the deletion stays true. A
tombstone is the latest row of its id until the item comes back, and goes online like any other.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from feature_repo import parts
from feature_repo.base import StoreError, View
from feature_repo.tables import CREATED, DELETED, EVENT_TIME


def bury(root: Path, views: Sequence[View], ids: Iterable[str], *, at: datetime) -> set[str]:
    """Append tombstones to every view that holds some of the ids; which ids were taken away.

    A row that would become true later than `at` is buried at its own moment too. Ids that are
    unknown, or gone already, are passed over.

    Raises:
        StoreError: the moment has no time zone.
    """
    if at.tzinfo is None:
        raise StoreError("the moment of a deletion has no time zone; give it one, such as UTC")
    wanted = pa.table({"id": pa.array(sorted(set(ids)), pa.string())})
    gone: set[str] = set()
    for view in views:
        parts.append(root, view, _tombstones(root, view, wanted, at=at, gone=gone))
    return gone


def _tombstones(
    root: Path, view: View, wanted: pa.Table, *, at: datetime, gone: set[str]
) -> Iterator[pa.RecordBatch]:
    sql = f"""
        WITH held AS (
            SELECT {view.key}, {EVENT_TIME}, {CREATED}, content_hash FROM {parts.ROWS}
            WHERE {view.key} IN (SELECT id FROM wanted)
        ), live AS (
            SELECT {view.key} FROM held GROUP BY {view.key}
            HAVING arg_max(coalesce(content_hash, ''), ({EVENT_TIME}, {CREATED})) <> '{DELETED}'
        )
        SELECT {view.key}, $at::TIMESTAMPTZ AS moment FROM live
        UNION
        SELECT {view.key}, {EVENT_TIME} FROM held SEMI JOIN live USING ({view.key})
        WHERE {EVENT_TIME} > $at
        ORDER BY ALL
        """  # nosec B608
    now = datetime.now(UTC)
    for found in parts.stream(root, view, sql, {"at": at}, tables={"wanted": wanted}):
        row_ids = found[0].to_pylist()
        gone.update(row_ids)
        given = {
            view.key: found[0],
            EVENT_TIME: found[1],
            CREATED: pa.array([now] * len(row_ids)),
            "content_hash": pa.array([DELETED] * len(row_ids)),
        }
        columns = [
            given[field.name].cast(field.type)
            if field.name in given
            else pa.nulls(len(row_ids), field.type)
            for field in view.schema
        ]
        yield pa.RecordBatch.from_arrays(columns, schema=view.schema)
