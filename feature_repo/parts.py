"""Rows in, parquet parts out; parts in, each id's latest row out.

A view is a folder of parts, `parts/<view>/<time>-<random>.parquet`. A part is written under a
temporary name and never changed afterwards, so any number of writers and readers need no lock: a
reader sees the parts that were finished when it looked. The latest row is the one with the
greatest event timestamp and, among equals, the one created last.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from feature_repo.atomic import publish
from feature_repo.tables import CREATED, EVENT_TIME, View

Connection = duckdb.DuckDBPyConnection

EMPTY = "00000000-empty.parquet"  # makes a view without rows readable, with its column types


def folder(root: Path, view: View) -> Path:
    return root / "parts" / view.name


def list_parts(root: Path, view: View) -> list[Path]:
    """The finished parts of a view, oldest first."""
    return sorted(folder(root, view).glob("*.parquet"))


def define(root: Path, view: View) -> None:
    """Make the view readable although it has no rows yet."""
    path = folder(root, view) / EMPTY
    if not path.exists():
        write_part(path, view.schema, [], is_empty_kept=True)


def append(root: Path, view: View, batches: Iterable[pa.RecordBatch]) -> int:
    """Add rows as one new part; how many. Without rows no part is written."""
    define(root, view)
    return write_part(new_path(folder(root, view)), view.schema, batches)


def new_path(parent: Path) -> Path:
    """A name that no other writer uses and that sorts by time."""
    return parent / f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{uuid4().hex}.parquet"


def write_part(
    path: Path,
    schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
    *,
    is_empty_kept: bool = False,
) -> int:
    """Stream batches into one parquet file that appears when it is complete; the row count."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The leading dot hides the unfinished file from every reader of the folder.
    temporary = path.with_name(f".{path.name}.{uuid4().hex}")
    num_rows = 0
    try:
        with temporary.open("wb") as file:
            with pq.ParquetWriter(file, schema, compression="zstd") as writer:
                for batch in batches:
                    writer.write_batch(batch)
                    num_rows += batch.num_rows
            file.flush()
            os.fsync(file.fileno())
        if num_rows or is_empty_kept:
            publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return num_rows


def latest(
    root: Path,
    view: View,
    *,
    columns: Sequence[str] | None = None,
    until: datetime | None = None,
) -> pa.Table:
    """Each id's latest row with an event timestamp not after `until`, ordered by id."""
    names = ", ".join(columns or view.schema.names)
    with connect() as connection:
        rows = connection.execute(
            f"SELECT {names} FROM read_parquet($files) {_LATEST.format(key=view.key)}",
            {"files": _files(root, view), "until": until},
        )
        return rows.to_arrow_table()


def latest_of_changed(
    root: Path, view: View, *, changed: Sequence[Path], until: datetime, batch_size: int
) -> Iterator[pa.Table]:
    """The latest rows of the ids that occur in the `changed` parts, in batches ordered by id."""
    with connect() as connection:
        rows = connection.execute(
            f"""
            SELECT * FROM read_parquet($files)
            WHERE {view.key} IN (
                SELECT {view.key} FROM read_parquet($changed) WHERE {EVENT_TIME} <= $until
            ) AND {_LATEST.removeprefix("WHERE").format(key=view.key)}
            """,
            {
                "files": _files(root, view),
                "changed": [str(part) for part in changed],
                "until": until,
            },
        )
        for batch in rows.to_arrow_reader(batch_size):
            yield pa.Table.from_batches([batch])


def ids(root: Path, view: View, *, until: datetime) -> list[str]:
    """Every id with a row not after `until`, in order."""
    with connect() as connection:
        rows = connection.execute(
            f"SELECT DISTINCT {view.key} FROM read_parquet($files) "
            f"WHERE {EVENT_TIME} <= $until ORDER BY ALL",
            {"files": _files(root, view), "until": until},
        )
        return [row[0] for row in rows.fetchall()]


def last_event(part: Path) -> datetime | None:
    """The greatest event timestamp of a part; None for the empty one."""
    with connect() as connection:
        row = connection.execute(
            f"SELECT max({EVENT_TIME}) FROM read_parquet($file)", {"file": str(part)}
        ).fetchone()
        return None if row is None else row[0]


def connect() -> Connection:
    """A DuckDB of one's own, in memory, that hands out times in UTC."""
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def _files(root: Path, view: View) -> list[str]:
    define(root, view)
    return [str(part) for part in list_parts(root, view)]


_LATEST = f"""WHERE ($until IS NULL OR {EVENT_TIME} <= $until)
    QUALIFY row_number() OVER (
        PARTITION BY {{key}} ORDER BY {EVENT_TIME} DESC, {CREATED} DESC
    ) = 1
    ORDER BY {{key}}"""
