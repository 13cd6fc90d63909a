"""Many small parts in, few large ones out; what is too old to be asked for is left out.

Crash-safe at any moment: a merged part appears by one rename, is noted as online if all that went
into it was, and only then are its parts removed. Between the two every row is there twice, which
changes no answer, since only one latest row is ever chosen.

Retention keeps every answer as of the horizon or later: of each id it drops the rows that were
superseded by then. A tombstone that was the last word at the horizon is dropped as well, once
nothing older of its id is left in any part (so never in one run with the rows that it hides: a
crash between two removals would bring them back) and every online store has seen it.
"""

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from feature_repo import ledger, mirror, parts
from feature_repo.base import View
from feature_repo.tables import CREATED, DELETED, EVENT_TIME

# Large enough for few files, small enough to be sorted beside others and rewritten in a second.
TARGET_BYTES = 128 * 2**20
# Of a large part's rows that have to be superseded before it is worth rewriting; with a retention
# of nothing at all every row counts, since then somebody wants to be forgotten.
LEAST_SHARE = 0.1
# Whoever began to list the folder before the merged part appeared has finished after so long, and
# finds either the merged part or those that it replaces.
SETTLE_S = 1.0
ABANDONED_S = 86_400.0  # an unfinished part this old has no writer any more


@dataclass(frozen=True, slots=True, kw_only=True)
class Compacted:
    """What became of one view's parts, or would."""

    view: str
    parts_before: int
    parts_after: int
    bytes_before: int
    bytes_after: int
    """Of a dry run: as before, since nobody knows how well fewer rows are packed."""
    rows_dropped: int
    """Superseded before the horizon. Rows that were there twice are not counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    path: Path
    num_bytes: int
    seen_by: frozenset[str]
    """The online stores that have it."""
    num_rows: int
    num_dropped: int


def compact(
    root: Path,
    view: View,
    *,
    horizon: datetime | None,
    is_purge: bool = False,
    is_dry_run: bool = False,
) -> Compacted:
    """Merge a view's small parts, and rewrite those that hold much that is no longer wanted.

    Args:
        root: The store.
        view: Whose parts.
        horizon: Rows that were superseded by then are dropped; None keeps all.
        is_purge: Rewrite a part for a single row to be dropped.
        is_dry_run: Only look.
    """
    with ledger.bringing(root, view.name):
        found = _look(root, view, horizon)
        groups = _groups(found, is_purge=is_purge)
        merged: list[Path] = []
        if not is_dry_run:
            for group in groups:
                merged += _merge(root, view, group, found, horizon=horizon)
            _remove(root, [one.path for group in groups for one in group])
            _sweep(parts.folder(root, view))
    old = {one.path for group in groups for one in group}
    num_new = sum(any(_num_kept(one) for one in group) for group in groups)
    num_bytes = sum(one.num_bytes for one in found)
    gone = sum(one.num_bytes for one in found if one.path in old)
    return Compacted(
        view=view.name,
        parts_before=len(found),
        parts_after=len(found) - len(old) + num_new,
        bytes_before=num_bytes,
        bytes_after=num_bytes
        if is_dry_run
        else num_bytes - gone + sum(path.stat().st_size for path in merged),
        rows_dropped=sum(one.num_dropped for group in groups for one in group),
    )


def count_rows(paths: Sequence[Path]) -> int:
    """How many rows some parts have together."""
    return sum(pq.read_metadata(path).num_rows for path in paths)


def _look(root: Path, view: View, horizon: datetime | None) -> list[_Part]:
    parts.define(root, view)
    held = ledger.read(root)
    seen = {online: set(ledger.entry(held, online, view.name)["parts"]) for online in held}
    paths = [path for path in parts.list_parts(root, view) if path.name != parts.EMPTY]
    seen_by = {
        path: frozenset(online for online, names in seen.items() if path.name in names)
        for path in paths
    }
    fully = [path for path in paths if len(seen_by[path]) == len(seen)]
    counts = _count(view, paths, fully_seen=fully, horizon=horizon)
    return [
        _Part(
            path=path,
            num_bytes=path.stat().st_size,
            seen_by=seen_by[path],
            num_rows=counts[str(path)][0],
            num_dropped=counts[str(path)][1],
        )
        for path in paths
    ]


def _count(
    view: View, paths: Sequence[Path], *, fully_seen: Sequence[Path], horizon: datetime | None
) -> Mapping[str, tuple[int, int]]:
    """The rows of each part, and how many of them are to be dropped."""
    if not paths:
        return {}
    given = {
        "files": [str(path) for path in paths],
        "seen": [str(path) for path in fully_seen],
        "horizon": horizon,
    }
    with parts.connect() as connection:
        rows = connection.execute(
            f"""
            WITH {_DROPPED.format(key=view.key)}
            SELECT all_rows.filename, count(*), count(dropped.n) FROM {_NAMED_ROWS}
            LEFT JOIN dropped ON dropped.filename = all_rows.filename AND n = file_row_number
            GROUP BY all_rows.filename
            """,  # nosec B608
            given,
        ).fetchall()
    return {name: (num_rows, num_dropped) for name, num_rows, num_dropped in rows}


def _groups(found: Sequence[_Part], *, is_purge: bool) -> list[list[_Part]]:
    """Parts to be merged with each other, oldest first; those of one group were seen alike."""
    by_seen: defaultdict[frozenset[str], list[_Part]] = defaultdict(list)
    for one in found:
        by_seen[one.seen_by].append(one)
    groups = []
    for alike in by_seen.values():
        group: list[_Part] = []
        for one in alike:
            if not (_is_small(one) or _is_stale(one, is_purge=is_purge)):
                continue
            if sum(map(_bytes_kept, [*group, one])) > TARGET_BYTES:
                groups.append(group)
                group = []
            group.append(one)
        groups.append(group)
    return [
        group
        for group in groups
        if len(group) > 1 or any(_is_stale(one, is_purge=is_purge) for one in group)
    ]


def _merge(
    root: Path,
    view: View,
    group: Sequence[_Part],
    found: Sequence[_Part],
    *,
    horizon: datetime | None,
) -> list[Path]:
    """Write a group's rows as one part and note who has it; the part, if any row was left."""
    path = parts.new_path(parts.folder(root, view))
    rows = _rows(root, view, group, found, horizon)
    num_rows = parts.write_part(path, view.schema, rows, root=root)
    old = {one.path.name for one in group}
    with ledger.changing(root) as held:
        for online in group[0].seen_by:
            entry = held[online][view.name]
            new = {path.name} if num_rows else set()
            entry["parts"] = sorted(new | (set(entry["parts"]) - old))
    return [path] if num_rows else []


def _rows(
    root: Path,
    view: View,
    group: Sequence[_Part],
    found: Sequence[_Part],
    horizon: datetime | None,
) -> Iterator[pa.RecordBatch]:
    """A group's rows without those to be dropped, each once, by id and then time."""
    num_stores = len(ledger.read(root))
    given = {
        "files": [str(one.path) for one in found],
        "seen": [str(one.path) for one in found if len(one.seen_by) == num_stores],
        "horizon": horizon,
        "group": [str(one.path) for one in group],
    }
    columns = ", ".join(view.schema.names)
    with parts.connect() as connection:
        connection.execute("SET preserve_insertion_order = false")
        reader = connection.execute(
            f"""
            WITH {_DROPPED.format(key=view.key)}, kept AS (
                SELECT filename, file_row_number FROM {_GROUP_ROWS}
                ANTI JOIN dropped
                ON dropped.filename = all_rows.filename AND n = file_row_number
                QUALIFY row_number() OVER (
                    PARTITION BY {view.key}, {EVENT_TIME}, {CREATED}, hash({columns})
                    ORDER BY filename, file_row_number
                ) = 1
            )
            SELECT {columns} FROM {_GROUP_ROWS} SEMI JOIN kept USING (filename, file_row_number)
            ORDER BY {view.key}, {EVENT_TIME}, {CREATED}, content_hash
            """,  # nosec B608
            given,
        ).to_arrow_reader(parts.ROWS_PER_BATCH)
        for batch in reader:
            yield batch.cast(view.schema)


def _remove(root: Path, paths: Sequence[Path]) -> None:
    if not paths:
        return
    time.sleep(SETTLE_S)
    for path in paths:
        mirror.remove(root, path)


def _sweep(folder: Path) -> None:
    """Remove what killed writers left behind."""
    for path in folder.glob(".*.parquet.*"):
        try:
            age_s = time.time() - path.stat().st_mtime
        except FileNotFoundError:  # a writer alive has just given it its name
            continue
        if age_s > ABANDONED_S:
            path.unlink(missing_ok=True)


def _num_kept(one: _Part) -> int:
    return one.num_rows - one.num_dropped


def _bytes_kept(one: _Part) -> float:
    return one.num_bytes * _num_kept(one) / one.num_rows if one.num_rows else 0


def _is_small(one: _Part) -> bool:
    return one.num_bytes < TARGET_BYTES / 2


def _is_stale(one: _Part, *, is_purge: bool) -> bool:
    return one.num_dropped > (0 if is_purge else LEAST_SHARE * one.num_rows)


_NAMED_ROWS = """read_parquet(
    $files, union_by_name = true, filename = true, file_row_number = true) AS all_rows"""
_GROUP_ROWS = _NAMED_ROWS.replace("$files", "$group")
_DROPPED = f"""judged AS (
    SELECT
        filename,
        file_row_number AS n,
        ({EVENT_TIME}, {CREATED}) < max(({EVENT_TIME}, {CREATED})) OVER of_id AS is_superseded,
        bool_and(coalesce(content_hash, '') = '{DELETED}') OVER of_id AS is_gone
    FROM {_NAMED_ROWS}
    WHERE {EVENT_TIME} <= $horizon
    WINDOW of_id AS (PARTITION BY {{key}})
), dropped AS (
    SELECT filename, n FROM judged
    WHERE is_superseded OR (is_gone AND list_contains($seen, filename))
)"""  # nosec B608
