"""Embeddings in, batches of rows out; a column of vectors in, a matrix out.

Shape legend: N ids, D dimensions.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedders.vectors import Embeddings
from feature_repo.base import StoreError
from feature_repo.tables import DELETED, INSTANT

Pair = tuple[str, datetime]

ROWS_PER_BATCH = 10_000


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
