"""Embeddings in, rows of the store out; stored rows in, embeddings out.

Shape legend: N ids, D dimensions.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedders.vectors import Embeddings, Space
from feature_repo import parts, spaces
from feature_repo.base import Entity, StoreError
from feature_repo.tables import DELETED, INSTANT, vector_view

Pair = tuple[str, datetime]

ROWS_PER_BATCH = 10_000


def write(
    root: Path,
    embeddings: Embeddings,
    *,
    content_hashes: Sequence[str],
    event_timestamps: Sequence[datetime],
    entity: Entity,
    inferred: Sequence[bool] | None,
) -> int:
    """Append vectors; how many. See `Store.write`.

    The space is known before its first row: whoever is killed in between leaves an empty view.

    Args:
        root: The store.
        embeddings: The vectors; their space becomes a view of its own.
        content_hashes: Of the content that each vector was made from.
        event_timestamps: The moment from which each content is true.
        entity: Whom the vectors describe.
        inferred: Which vectors were, for want of such content; None for none.

    Raises:
        StoreError: as many of each as vectors are needed, timestamps with a time zone.
    """
    inferred = [False] * len(embeddings) if inferred is None else inferred
    given = embeddings, content_hashes, event_timestamps
    check(*given, inferred)
    view = vector_view(embeddings.space, entity=entity)
    parts.define(root, view)
    spaces.add(root, embeddings.space, entity=entity)
    return parts.append(root, view, batches(*given, imputed=inferred, schema=view.schema))


def read(root: Path, space: Space, *, entity: Entity, as_of: datetime | None) -> Embeddings:
    """Each id's latest vector, ordered by id. See `Store.read`."""
    spaces.check(root, space, entity=entity)
    view = vector_view(space, entity=entity)
    rows = parts.latest(root, view, columns=[view.key, "vector"], until=as_of)
    vectors_ND = to_matrix(rows["vector"], space.dim)
    return Embeddings(space=space, item_ids=rows[view.key].to_pylist(), vectors_ND=vectors_ND)


def imputed(root: Path, space: Space, *, entity: Entity) -> set[str]:
    """The ids whose latest vector was inferred rather than made from content of their own."""
    if (entity, space.space_id) not in spaces.read(root):
        return set()
    view = vector_view(space, entity=entity)
    rows = parts.stream_latest(root, view, columns=[view.key, "imputed"])
    return {row_id for batch in rows for row_id in batch[0].filter(batch[1]).to_pylist()}


def check(
    embeddings: Embeddings,
    content_hashes: Sequence[str],
    event_timestamps: Sequence[datetime],
    imputed: Sequence[bool],
) -> None:
    """Look at what comes beside the vectors.

    Raises:
        StoreError: the lengths differ, a time has no zone, or a hash is that of a tombstone.
    """
    lengths = {len(embeddings), len(content_hashes), len(event_timestamps), len(imputed)}
    if len(lengths) > 1:
        raise StoreError(
            f"{len(embeddings)} vectors came with {len(content_hashes)} content hashes, "
            f"{len(event_timestamps)} event timestamps and {len(imputed)} marks of being imputed; "
            "each vector needs one of each"
        )
    if any(moment.tzinfo is None for moment in event_timestamps):
        raise StoreError("an event timestamp has no time zone; give it one, such as UTC")
    if DELETED in content_hashes:
        raise StoreError(f"{DELETED!r} is no content hash: it marks an item that was taken away")


def batches(
    embeddings: Embeddings,
    content_hashes: Sequence[str],
    event_timestamps: Sequence[datetime],
    *,
    imputed: Sequence[bool],
    schema: pa.Schema,
) -> Iterator[pa.RecordBatch]:
    """The rows of vectors, created now."""
    now = datetime.now(UTC)
    for start in range(0, len(embeddings), ROWS_PER_BATCH):
        rows = slice(start, start + ROWS_PER_BATCH)
        vectors_ND = np.ascontiguousarray(embeddings.vectors_ND[rows])
        num_rows = len(vectors_ND)
        ends = np.arange(num_rows + 1, dtype=np.int32) * embeddings.space.dim
        columns = [
            pa.array(embeddings.item_ids[rows], pa.string()),
            pa.array(event_timestamps[rows], INSTANT),
            pa.array([now] * num_rows, INSTANT),
            pa.array(content_hashes[rows], pa.string()),
            pa.ListArray.from_arrays(ends, pa.array(vectors_ND.reshape(-1))),
            pa.array([embeddings.space.space_id] * num_rows, pa.string()),
            pa.array(imputed[rows], pa.bool_()),
        ]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


def to_matrix(column: pa.ChunkedArray, dim: int) -> NDArray[np.float32]:
    """The vectors of a column as one matrix [N, D]."""
    # Chunk by chunk: one Arrow list column ends at 2^31 floats.
    chunks = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks]
    flat = np.concatenate([np.zeros(0, np.float32), *chunks])
    return flat.reshape(len(column), dim)


def aligned(
    found: Mapping[Pair, NDArray[np.float32]], pairs: Sequence[Pair], *, dim: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The vectors in the pairs' order, [N, D], zero where there is none; which are there, [N]."""
    vectors_ND = np.zeros((len(pairs), dim), dtype=np.float32)
    is_present_N = np.array([pair in found for pair in pairs], dtype=np.bool_)
    for n, pair in enumerate(pairs):
        if pair in found:
            vectors_ND[n] = found[pair]
    return vectors_ND, is_present_N
