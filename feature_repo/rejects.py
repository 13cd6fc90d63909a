"""Rows that were set aside in, parquet parts out; the last reason for each of them back."""

from collections.abc import Iterable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pyarrow as pa

from embedders.items import Reject
from feature_repo import parts
from feature_repo.tables import REJECT_SCHEMA


def folder(root: Path) -> Path:
    return root / "rejects"


def write(root: Path, rejects: Iterable[Reject]) -> int:
    """Append them; how many."""
    now = datetime.now(UTC)
    rows = [
        {"source": one.source, "key": one.key, "reason": one.reason, "created": now}
        for one in rejects
    ]
    batches = pa.Table.from_pylist(rows, schema=REJECT_SCHEMA).to_batches()
    return parts.write_part(parts.new_path(folder(root)), REJECT_SCHEMA, batches)


def compact(root: Path, *, horizon: datetime | None) -> None:
    """Merge all parts into one that holds each row's last reason, if that is not too old.

    The new part appears before the old ones go: a crash in between leaves rows twice, and the
    last reason is the same.
    """
    files = sorted(folder(root).glob("*.parquet"))
    if not files or (len(files) == 1 and horizon is None):
        return
    with parts.connect() as connection:
        rows = connection.execute(
            "SELECT source, key, arg_max(reason, created) AS reason, max(created) AS created "
            "FROM read_parquet($files) GROUP BY source, key "
            "HAVING $horizon IS NULL OR max(created) >= $horizon ORDER BY source, key",
            {"files": [str(file) for file in files], "horizon": horizon},
        ).to_arrow_table()
    batches = rows.cast(REJECT_SCHEMA).to_batches()
    parts.write_part(parts.new_path(folder(root)), REJECT_SCHEMA, batches)
    for file in files:
        file.unlink()


def read(root: Path) -> list[Reject]:
    """The last reason for each row that was ever set aside, by source and key."""
    return parts.retried(folder(root), partial(_read, root))


def _read(root: Path) -> list[Reject]:
    files = [str(file) for file in folder(root).glob("*.parquet")]
    if not files:
        return []
    with parts.connect() as connection:
        rows = connection.execute(
            "SELECT source, key, arg_max(reason, created) FROM read_parquet($files) "
            "GROUP BY source, key ORDER BY source, key",
            {"files": files},
        ).fetchall()
    return [Reject(source=source, key=key, reason=reason) for source, key, reason in rows]
