"""Rows that were set aside in, parquet parts out; the last reason for each of them back."""

from collections.abc import Iterable
from datetime import UTC, datetime
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


def read(root: Path) -> list[Reject]:
    """The last reason for each row that was ever set aside, by source and key."""
    files = [str(path) for path in sorted(folder(root).glob("*.parquet"))]
    if not files:
        return []
    with parts.connect() as connection:
        rows = connection.execute(
            "SELECT source, key, arg_max(reason, created) FROM read_parquet($files) "
            "GROUP BY source, key ORDER BY source, key",
            {"files": files},
        ).fetchall()
    return [Reject(source=source, key=key, reason=reason) for source, key, reason in rows]
