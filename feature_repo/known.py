"""A view in, what is known of its ids out: each one's latest row, without its features.

Streamed in the order of the ids, so that a catalog in the same order can be joined in one pass.
"""

from collections.abc import Iterator
from pathlib import Path

from embedders.known import Known
from feature_repo import parts
from feature_repo.base import View
from feature_repo.tables import CREATED, EVENT_TIME

COLUMNS = ["content_hash", EVENT_TIME, CREATED]


def stream_known(root: Path, view: View) -> Iterator[tuple[str, Known]]:
    """Every id with its latest row, tombstones included, in the order of the ids' code points."""
    rows = parts.stream_latest(root, view, columns=[view.key, *COLUMNS], has_tombstones=True)
    for batch in rows:
        ids, *known = (column.to_pylist() for column in batch.columns)
        yield from zip(ids, map(Known, *known), strict=True)
