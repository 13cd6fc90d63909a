"""Items with the rows that the store has of them in, an Arrow table out; and back again.

So they travel between processes as columns, which no receiver has to trust as it would a pickle.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa

from embedders.items import Item
from embedders.known import Known

Pair = tuple[Item, Known | None]

INSTANT = pa.timestamp("us", tz="UTC")
SCHEMA = pa.schema(
    {
        "item_id": pa.string(),
        "title": pa.string(),
        "description": pa.string(),
        "category": pa.string(),
        "created_at": INSTANT,
        "updated_at": INSTANT,
        "image_path": pa.string(),
        "audio_path": pa.string(),
        "attributes": pa.map_(pa.string(), pa.string()),
        "summary": pa.string(),
        "known": pa.struct(
            {"content_hash": pa.string(), "event_timestamp": INSTANT, "created": INSTANT}
        ),
    }
)


def to_table(pairs: Iterable[Pair]) -> pa.Table:
    """The pairs as rows, in their order."""
    return pa.Table.from_pylist([_row(*pair) for pair in pairs], schema=SCHEMA)


def of_table(table: pa.Table) -> list[Pair]:
    """The pairs that `to_table` made the rows of, equal to what it was given."""
    return [_pair(row) for row in table.to_pylist()]


def _row(item: Item, known: Known | None) -> dict[str, Any]:
    return {
        "item_id": item.item_id,
        "title": item.title,
        "description": item.description,
        "category": item.category,
        "created_at": item.created_at,
        "updated_at": item.updated_at,
        "image_path": None if item.image_path is None else str(item.image_path),
        "audio_path": None if item.audio_path is None else str(item.audio_path),
        "attributes": list(item.attributes.items()),
        "summary": item.summary,
        "known": None if known is None else known._asdict(),
    }


def _pair(row: dict[str, Any]) -> Pair:
    known = row.pop("known")
    paths = {
        name: None if row[name] is None else Path(row[name])
        for name in ("image_path", "audio_path")
    }
    item = Item(**row | paths | {"attributes": dict(row["attributes"])})
    return item, None if known is None else Known(**known)
