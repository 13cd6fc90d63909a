"""Vectors and queries in, the rows out that may be among each query's best: none is missed.

One pass of matrix products, block by block, so that a block's scores stay in the processor's cache
and are never written out. Most scores are looked at twice and no more: once for the largest of
each group of rows, once to be compared with the query's floor. A floor is the `limit`-th largest
of the groups' largest so far; so many rows score at least that, hence no better floor is needed to
pass over nearly all others. Sorting, or even partitioning, every score would take as long again.

Shape legend: Q queries, N items, B rows of a block, G groups, L limit, C rows kept, D dimensions.
"""

import numpy as np
from numpy.typing import NDArray

QUERY_BLOCK = 256  # whose scores of one block of items, 8 MiB, fit into a cache
ITEM_BLOCK = 8192
MAX_GROUP = 64


def near_rows(
    vectors_ND: NDArray[np.float32],
    queries_QD: NDArray[np.float32],
    *,
    limit: int,
    slack_Q: NDArray[np.float32],
    allowed_N: NDArray[np.bool_] | None = None,
) -> list[NDArray[np.int64]]:
    """For each query the rows that score at least as the `limit`-th best does, less the slack.

    Args:
        vectors_ND: All rows.
        queries_QD: The queries.
        limit: How many best rows are sought.
        slack_Q: By how much two roundings of one of the query's products may differ.
        allowed_N: By row: whether it counts. None counts all.

    Returns:
        Rising row numbers: at least min(limit, rows allowed), and hardly more.
    """
    found: list[NDArray[np.int64]] = []
    for start in range(0, len(queries_QD), QUERY_BLOCK):
        block = slice(start, start + QUERY_BLOCK)
        found += _of_block(vectors_ND, queries_QD[block], limit, slack_Q[block], allowed_N)
    return found


def _of_block(
    vectors_ND: NDArray[np.float32],
    queries_QD: NDArray[np.float32],
    limit: int,
    slack_Q: NDArray[np.float32],
    allowed_N: NDArray[np.bool_] | None,
) -> list[NDArray[np.int64]]:
    num_queries = len(queries_QD)
    scores_QB = np.empty((num_queries, min(ITEM_BLOCK, _rounded(len(vectors_ND)))), np.float32)
    largest_QL = np.empty((num_queries, 0), np.float32)
    floor_Q = np.full(num_queries, -np.inf, np.float32)
    kept: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]] = []
    for start in range(0, len(vectors_ND), scores_QB.shape[1]):
        rows, block_BD = _rows(vectors_ND, slice(start, start + scores_QB.shape[1]), allowed_N)
        np.matmul(queries_QD, block_BD.T, out=scores_QB[:, : len(rows)])
        scores_QB[:, len(rows) :] = -np.inf
        largest_QL = _largest(largest_QL, scores_QB, limit)
        if largest_QL.shape[1] == limit:
            floor_Q = largest_QL.min(axis=1) - slack_Q
        is_near_QB = scores_QB[:, : len(rows)] >= floor_Q[:, None]
        queries_C, places_C = np.divmod(np.flatnonzero(is_near_QB), max(1, len(rows)))
        kept.append((queries_C, rows[places_C], scores_QB[queries_C, places_C]))
    return _by_query(kept, floor_Q)


def _rows(
    vectors_ND: NDArray[np.float32], block: slice, allowed_N: NDArray[np.bool_] | None
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The numbers and the vectors of a block's rows that count."""
    block_BD = vectors_ND[block]
    if allowed_N is None:
        return np.arange(block.start, block.start + len(block_BD)), block_BD
    places = np.flatnonzero(allowed_N[block])
    return block.start + places, block_BD if len(places) == len(block_BD) else block_BD[places]


def _largest(
    largest_QL: NDArray[np.float32], scores_QB: NDArray[np.float32], limit: int
) -> NDArray[np.float32]:
    """The `limit` largest of the groups' largest so far; all of them while they are fewer."""
    num_queries, num_rows = scores_QB.shape
    size = 1
    while size < MAX_GROUP and num_rows % (4 * size) == 0 and num_rows // (4 * size) >= limit:
        size *= 2
    largest_QG = scores_QB.reshape(num_queries, size, num_rows // size).max(axis=1)
    joined = np.concatenate([largest_QL, largest_QG], axis=1)
    if joined.shape[1] <= limit:
        return joined
    best: NDArray[np.float32] = np.partition(joined, -limit, axis=1)[:, -limit:]
    return best


def _by_query(
    kept: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]],
    floor_Q: NDArray[np.float32],
) -> list[NDArray[np.int64]]:
    """Each query's rows, once more without those below the last floor, which is the highest."""
    if not kept:
        return [np.zeros(0, np.int64) for _ in floor_Q]
    queries_C, rows_C, scores_C = (np.concatenate(parts) for parts in zip(*kept, strict=True))
    still = np.flatnonzero(scores_C >= floor_Q[queries_C])
    order = still[np.argsort(queries_C[still], kind="stable")]
    ends = np.searchsorted(queries_C[order], np.arange(1, len(floor_Q)))
    return np.split(rows_C[order], ends)


def _rounded(count: int) -> int:
    """The next power of two, so that groups come out even."""
    return 1 << max(0, count - 1).bit_length()
