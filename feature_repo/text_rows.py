"""Texts in, batches of rows out; stored rows in, texts out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from embedders.items import EPOCH
from embedders.texts import TextKind, Texts, TextSource
from feature_repo import parts, text_sources
from feature_repo.base import StoreError
from feature_repo.tables import CREATED, DELETED, EVENT_TIME, INSTANT, text_view

ROWS_PER_BATCH = 2_048  # a text may be long


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenText:
    """One stored text."""

    text: str
    position: int
    """How many of the user's events a preference has read; of a summary 0."""
    content_hash: str
    """Of what the text was made from."""
    event_timestamp: datetime
    """The moment from which it is true, in UTC."""


def write(
    root: Path,
    texts: Texts,
    *,
    content_hashes: Sequence[str],
    event_timestamps: Sequence[datetime],
) -> int:
    """Append texts; how many. See `Store.write_texts`.

    The source is known before its first row: whoever is killed in between leaves an empty view,
    never rows that nobody keeps, buries or drops.

    Args:
        root: The store.
        texts: Their source becomes a view of its own.
        content_hashes: Of what each text was made from.
        event_timestamps: The moment from which each text is true.

    Raises:
        StoreError: as many of each as texts are needed, timestamps with a time zone, and one text
            for a user and a moment.
    """
    _check(texts, content_hashes, event_timestamps)
    view = text_view(texts.source)
    parts.define(root, view)
    text_sources.add(root, texts.source)
    facts = texts, content_hashes, event_timestamps
    return parts.append(root, view, _batches(*facts, schema=view.schema))


def stream(
    root: Path, source: TextSource, *, as_of: datetime | None
) -> Iterator[tuple[str, WrittenText]]:
    """Each id's latest text, as of a moment (included) or now, ordered by id.

    Those that were taken away by then are left out.

    Raises:
        StoreError: no text of the source was ever written; the message names those known.
    """
    text_sources.check(root, source)
    return _stream(root, source, as_of)


def _stream(
    root: Path, source: TextSource, as_of: datetime | None
) -> Iterator[tuple[str, WrittenText]]:
    view = text_view(source)
    columns = [view.key, *view.features, "content_hash", EVENT_TIME]
    for batch in parts.stream_latest(root, view, columns=columns, until=as_of):
        for row in batch.to_pylist():
            yield (
                row[view.key],
                WrittenText(
                    text=row["text"],
                    position=row.get("position", 0),
                    content_hash=row["content_hash"],
                    event_timestamp=row[EVENT_TIME],
                ),
            )


def last_written(root: Path, source: TextSource) -> datetime:
    """When the source's last row was written, tombstones included; the epoch where none was."""
    sql = f"SELECT max({CREATED}) FROM {parts.ROWS}"  # nosec B608
    (batch,) = parts.stream(root, text_view(source), sql, {})
    moment: datetime | None = batch[0][0].as_py()
    return moment or EPOCH


def _check(
    texts: Texts, content_hashes: Sequence[str], event_timestamps: Sequence[datetime]
) -> None:
    """Look at what comes beside the texts.

    Raises:
        StoreError: the lengths differ, a time has no zone, a hash is that of a tombstone, or two
            texts of one user are for one moment.
    """
    if not len(texts) == len(content_hashes) == len(event_timestamps):
        raise StoreError(
            f"{len(texts)} texts came with {len(content_hashes)} content hashes and "
            f"{len(event_timestamps)} event timestamps; each text needs one of each"
        )
    if any(moment.tzinfo is None for moment in event_timestamps):
        raise StoreError("an event timestamp has no time zone; give it one, such as UTC")
    if DELETED in content_hashes:
        raise StoreError(f"{DELETED!r} is no content hash: it marks a text that was taken away")
    seen: set[tuple[str, datetime]] = set()
    for pair in zip(texts.row_ids, event_timestamps, strict=True):
        if pair in seen:
            raise StoreError(
                f"{texts.source.source_id}: two texts of {pair[0]!r} are for "
                f"{pair[1].isoformat()}; nobody could tell which of them holds"
            )
        seen.add(pair)


def _batches(
    texts: Texts,
    content_hashes: Sequence[str],
    event_timestamps: Sequence[datetime],
    *,
    schema: pa.Schema,
) -> Iterator[pa.RecordBatch]:
    """The rows of texts, created now."""
    now = datetime.now(UTC)
    for start in range(0, len(texts), ROWS_PER_BATCH):
        rows = slice(start, start + ROWS_PER_BATCH)
        num_rows = len(texts.row_ids[rows])
        columns = [
            pa.array(texts.row_ids[rows], pa.string()),
            pa.array(event_timestamps[rows], INSTANT),
            pa.array([now] * num_rows, INSTANT),
            pa.array(content_hashes[rows], pa.string()),
            pa.array(texts.texts[rows], pa.string()),
        ]
        if texts.source.kind is TextKind.PREFERENCE:
            columns.append(pa.array(texts.positions[rows], pa.int64()))
        columns.append(pa.array([texts.source.source_id] * num_rows, pa.string()))
        yield pa.RecordBatch.from_arrays(columns, schema=schema)
