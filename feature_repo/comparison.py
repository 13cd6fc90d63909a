"""What is kept and what is online in, silence or an error that names the difference out.

An online store may lose rows without a word: a server restarted without persistence, an eviction,
somebody's hand. What a run writes is compared value by value; so is a sample of all rows in every
run, drawn anew each time, which finds a loss of one row in 200 with a probability of 99%.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

import pyarrow as pa

from feature_repo import parts
from feature_repo.base import FeatureStore, StoreError, View
from feature_repo.tables import CREATED, EVENT_TIME

SAMPLE = 1_000


def compare(
    root: Path, view: View, feature_store: FeatureStore, *, until: datetime, ids: Sequence[str]
) -> None:
    """Look at the rows of `ids` and at a sample of all others.

    Raises:
        StoreError: a row is absent online, or not the latest one that is kept.
    """
    drawn = [*_sample(root, view, until=until), *ids]
    rows = latest_of_ids(root, view, drawn, until=until)
    if differing := feature_store.differing(view.name, rows):
        stored = feature_store.read_online(view.name, differing)
        num_absent = sum(row is None for row in stored)
        raise StoreError(
            f"{view.name}: of {rows.num_rows} rows looked at, {num_absent} are missing online and "
            f"{len(differing) - num_absent} hold something else, the first is that of "
            f"{differing[0]!r}; the online store lost or changed rows: materialize in full "
            "(`sommelier materialize --full`)"
        )


def count(root: Path, view: View, feature_store: FeatureStore, *, until: datetime) -> None:
    """Look whether every row that is kept is online.

    Raises:
        StoreError: some are not; the message gives both counts.
    """
    num_kept = num_online = 0
    for ids in _live_ids(root, view, until=until):
        num_kept += len(ids)
        rows = feature_store.read_online(view.name, ids)
        num_online += sum(row is not None for row in rows)
    if num_online != num_kept:
        raise StoreError(
            f"{view.name}: {num_kept} rows are kept, but {num_online} are online: has the online "
            "store room for all of them, and does it evict none? Then materialize in full "
            "(`sommelier materialize --full`)"
        )


def count_ids(view: View, some: Sequence[Path], *, until: datetime) -> int:
    """How many ids have a row not after `until` in these parts."""
    with parts.connect() as connection:
        row = connection.execute(
            f"SELECT count(DISTINCT {view.key}) FROM {parts.ROWS} "  # nosec B608
            f"WHERE {EVENT_TIME} <= $until",
            {"files": [str(part) for part in some], "until": until},
        ).fetchone()
    return 0 if row is None else int(row[0])


def finished(some: Sequence[Path], *, until: datetime) -> list[str]:
    """The names of the parts of which no row waits for a later run, in their order."""
    rows = parts.ROWS.replace("$files,", "$files, filename = true,")
    with parts.connect() as connection:
        waiting = connection.execute(
            f"SELECT DISTINCT parse_filename(filename) FROM {rows} "  # nosec B608
            f"WHERE {EVENT_TIME} > $until",
            {"files": [str(part) for part in some], "until": until},
        ).fetchall()
    names = {name for (name,) in waiting}
    return [part.name for part in some if part.name not in names]


def latest_of_ids(root: Path, view: View, ids: Sequence[str], *, until: datetime) -> pa.Table:
    """The latest rows not after `until` of the ids that have one, ordered by id."""
    sql = f"""
        SELECT {", ".join(view.schema.names)} FROM {parts.ROWS}
        WHERE {view.key} IN (SELECT unnest($ids::VARCHAR[])) AND {EVENT_TIME} <= $until
        QUALIFY row_number() OVER (
            PARTITION BY {view.key} ORDER BY {EVENT_TIME} DESC, {CREATED} DESC
        ) = 1
        ORDER BY {view.key}"""  # nosec B608
    batches = parts.stream(root, view, sql, {"ids": list(ids), "until": until})
    return pa.Table.from_batches(list(batches))


def _sample(root: Path, view: View, *, until: datetime) -> list[str]:
    """Some ids, tombstones among them, others at every `until`."""
    sql = f"""
        SELECT DISTINCT {view.key} FROM {parts.ROWS} WHERE {EVENT_TIME} <= $until
        ORDER BY hash({view.key}, $until), {view.key} LIMIT {SAMPLE}"""  # nosec B608
    batches = parts.stream(root, view, sql, {"until": until})
    return [row_id for batch in batches for row_id in batch[0].to_pylist()]


def _live_ids(root: Path, view: View, *, until: datetime) -> Iterator[list[str]]:
    rows = parts.stream_latest(root, view, columns=[view.key], until=until)
    return (batch[0].to_pylist() for batch in rows)
