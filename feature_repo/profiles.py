"""Items in, profile rows out: those that are new or changed; profile rows in, profiles out.

Items and stored rows both come ordered by id and are joined in one pass, so that nothing but a
batch is held.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from embedders.items import Item
from embedders.known import Known, joined
from feature_repo import parts
from feature_repo.base import Profile
from feature_repo.known import stream_known
from feature_repo.tables import PROFILE_COLUMNS, profile_view

ROWS_PER_BATCH = 2_048  # a description may be long


def changed(root: Path, items: Iterable[Item]) -> Iterator[pa.RecordBatch]:
    """The rows of the items that the store at `root` does not hold yet, or holds otherwise.

    A change whose catalog states no later time than before is true from now on.

    Args:
        root: The store.
        items: Ordered by id, each once.

    Raises:
        ValueError: the items are out of order.
    """
    now = datetime.now(UTC)
    view = profile_view()
    rows = _changed_rows(items, stream_known(root, view), now)
    while batch := list(islice(rows, ROWS_PER_BATCH)):
        yield pa.RecordBatch.from_pylist(batch, schema=view.schema)


def read(root: Path) -> Iterator[Profile]:
    """Every item's latest profile, ordered by id."""
    view = profile_view()
    for batch in parts.stream_latest(root, view, columns=["item_id", *PROFILE_COLUMNS]):
        for row in batch.to_pylist():
            yield Profile(**row | {"attributes": json.loads(row["attributes"])})


def _changed_rows(
    items: Iterable[Item], known: Iterable[tuple[str, Known]], now: datetime
) -> Iterator[dict[str, Any]]:
    for _, item, before in joined(items, known):
        if item is None:
            continue
        row = _row(item, now)
        if before is not None:
            if before.content_hash == row["content_hash"]:
                continue
            if item.content_time <= before.event_timestamp:
                row["event_timestamp"] = now
        yield row


def _row(item: Item, now: datetime) -> dict[str, Any]:
    content = {
        "title": item.title,
        "description": item.description,
        "category": item.category,
        "attributes": json.dumps(dict(item.attributes), sort_keys=True, ensure_ascii=False),
    }
    return content | {
        "item_id": item.item_id,
        "event_timestamp": item.content_time,
        "created": now,
        "content_hash": hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32],
    }
