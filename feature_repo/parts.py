"""Rows in, parquet parts out; parts in, each id's latest row out.

A view is a folder of parts, `parts/<view>/<time>-<random>.parquet`. A part is written under a
temporary name and never changed afterwards, so any number of writers and readers need no lock: a
reader sees the parts that were finished when it looked. Compaction replaces parts by a merged one;
whoever finds a part gone that it had listed lists again. The latest row is the one with the
greatest event timestamp and, among equals, the one created last. Where it is a tombstone, the id
was taken away.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar
from uuid import uuid4

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from feature_repo import mirror
from feature_repo.atomic import publish
from feature_repo.base import View
from feature_repo.tables import CREATED, DELETED, EVENT_TIME

T = TypeVar("T")
Connection = duckdb.DuckDBPyConnection

EMPTY = mirror.OWN  # makes a view without rows readable, with its column types
MEMORY_LIMIT = "2GB"  # of one query; a sort beyond it spills to a temporary folder
ROWS_PER_BATCH = 10_000
ATTEMPTS = 10  # to list the parts anew; each failure needs a compaction of its own

# Parts written before a column was added lack it: then it is null.
ROWS = "read_parquet($files, union_by_name = true)"


def folder(root: Path, view: View) -> Path:
    return root / "parts" / view.name


def list_parts(root: Path, view: View) -> list[Path]:
    """The finished parts of a view, oldest first; those of its bucket are fetched before."""
    mirror.pull(root, folder(root, view))
    return sorted(folder(root, view).glob("*.parquet"))


def define(root: Path, view: View) -> None:
    """Make the view readable although it has no rows yet, or none with its newest columns."""
    path = folder(root, view) / EMPTY
    if not path.exists() or pq.read_schema(path).names != view.schema.names:
        write_part(path, view.schema, [], is_empty_kept=True)


def append(root: Path, view: View, batches: Iterable[pa.RecordBatch]) -> int:
    """Add rows as one new part; how many. Without rows no part is written."""
    define(root, view)
    return write_part(new_path(folder(root, view)), view.schema, batches, root=root)


def new_path(parent: Path) -> Path:
    """A name that no other writer uses and that sorts by time."""
    return parent / f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{uuid4().hex}.parquet"


def write_part(
    path: Path,
    schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
    *,
    is_empty_kept: bool = False,
    root: Path | None = None,
) -> int:
    """Stream batches into one parquet file that appears when it is complete; the row count.

    Given its store's `root`, the part is first uploaded to the store's bucket, if it has one.
    """
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
            if root is not None:
                mirror.push(root, temporary, path)
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
    """Each id's latest row with an event timestamp not after `until`, ordered by id.

    Ids that were taken away are left out.
    """
    return pa.Table.from_batches(list(stream_latest(root, view, columns=columns, until=until)))


def stream_latest(
    root: Path,
    view: View,
    *,
    columns: Sequence[str] | None = None,
    until: datetime | None = None,
    has_tombstones: bool = False,
) -> Iterator[pa.RecordBatch]:
    """As `latest`, in batches; with tombstones as well if asked for. There is at least one batch.

    The order of ids is that of their UTF-8 bytes, which is that of their code points.
    """
    names = ", ".join(columns or view.schema.names)
    sql = f"SELECT {names} FROM {ROWS} {_latest(view, has_tombstones=has_tombstones)}"  # nosec B608
    return stream(root, view, sql, {"until": until})


def latest_of_changed(
    root: Path, view: View, *, changed: Sequence[Path], until: datetime, batch_size: int
) -> Iterator[pa.Table]:
    """The latest rows of the ids that occur in the `changed` parts, in batches ordered by id.

    Tombstones are among them: an online store has to learn of them too.
    """
    sql = f"""
        SELECT {", ".join(view.schema.names)} FROM {ROWS}
        WHERE {view.key} IN (
            SELECT {view.key} FROM read_parquet($changed, union_by_name = true)
            WHERE {EVENT_TIME} <= $until
        ) AND {_latest(view, has_tombstones=True).removeprefix("WHERE")}
        """  # nosec B608
    given = {"changed": [str(part) for part in changed], "until": until}
    for batch in stream(root, view, sql, given, batch_size=batch_size):
        yield pa.Table.from_batches([batch]).cast(view.schema)  # DuckDB names lists' elements


def ids(root: Path, view: View, *, until: datetime) -> list[str]:
    """Every id whose latest row not after `until` is no tombstone, in order."""
    rows = stream_latest(root, view, columns=[view.key], until=until)
    return [one for batch in rows for one in batch[0].to_pylist()]


def last_event(part: Path) -> datetime | None:
    """The greatest event timestamp of a part; None for the empty one."""
    with connect() as connection:
        row = connection.execute(
            f"SELECT max({EVENT_TIME}) FROM read_parquet($file)",  # nosec B608
            {"file": str(part)},
        ).fetchone()
        return None if row is None else row[0]


def stream(
    root: Path,
    view: View,
    sql: str,
    given: Mapping[str, Any],
    *,
    batch_size: int = ROWS_PER_BATCH,
    tables: Mapping[str, pa.Table] | None = None,
) -> Iterator[pa.RecordBatch]:
    """The batches of a query that reads a view's rows from `ROWS`; at least one, maybe empty.

    Args:
        root: The store.
        view: Whose parts `$files` are.
        sql: Must sort or group, so that every part is read before the first batch: a part that a
            compaction took away can then be told in time, and the query begun again.
        given: The query's further parameters.
        batch_size: At most so many rows in a batch.
        tables: Arrow tables that the query names.
    """
    define(root, view)
    for attempt in range(ATTEMPTS):
        files = [str(part) for part in list_parts(root, view)]
        with connect() as connection:
            for name, table in (tables or {}).items():
                connection.register(name, table)
            try:
                reader = connection.execute(sql, {"files": files, **given}).to_arrow_reader(
                    batch_size
                )
                first = next(iter(reader), None)
            except (duckdb.Error, pa.ArrowException, OSError):
                if attempt == ATTEMPTS - 1 or all(map(os.path.exists, files)):
                    raise
                continue
            yield pa.RecordBatch.from_pylist([], reader.schema) if first is None else first
            yield from reader
            return


def retried(folder: Path, work: Callable[[], T]) -> T:
    """What some work on a folder of parts returns; begun again where one was taken away under it.

    For readers that list the folder themselves, as Feast does.
    """
    for _ in range(ATTEMPTS - 1):
        listed = list(folder.glob("*.parquet"))
        try:
            return work()
        except Exception:  # whatever the reader makes of a missing file
            if all(part.exists() for part in listed):
                raise
    return work()


@contextmanager
def connect() -> Iterator[Connection]:
    """A DuckDB of one's own, of bounded memory, that hands out times in UTC."""
    with (
        TemporaryDirectory(prefix="sommelier-") as spill,
        duckdb.connect(
            config={"temp_directory": spill, "memory_limit": MEMORY_LIMIT}
        ) as connection,
    ):
        connection.execute("SET TimeZone = 'UTC'")
        yield connection


def _latest(view: View, *, has_tombstones: bool) -> str:
    is_live = "true" if has_tombstones else f"content_hash IS DISTINCT FROM '{DELETED}'"
    return f"""WHERE ($until IS NULL OR {EVENT_TIME} <= $until)
        QUALIFY row_number() OVER (
            PARTITION BY {view.key} ORDER BY {EVENT_TIME} DESC, {CREATED} DESC
        ) = 1 AND {is_live}
        ORDER BY {view.key}"""
