"""Queries and some rows of a matrix in, the rows' true best out: no index, nothing missed.

What a filter leaves of a catalog is often so little that comparing with all of it is both exact
and faster than asking an index to skip the rest. The rows are read block by block, so that a scan
of many needs little memory beyond their scores.

Shape legend: Q queries, N items, R rows scanned, D dimensions, K results.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from retrieval.order import best_first, exact_scores, largest_norm, rounding

ROW_BLOCK = 16_384  # rows copied at once
MAX_SCORES = 1 << 24  # scores held at once, 64 MiB


def scan(
    queries_QD: NDArray[np.float32],
    vectors_ND: NDArray[np.float32],
    item_ids: Sequence[str],
    *,
    rows_R: NDArray[np.int64],
    limit: int,
) -> list[list[tuple[str, float]]]:
    """For each query the `limit` best (item id, score) pairs among the rows, ties by item id.

    Args:
        queries_QD: The queries, of any length.
        vectors_ND: The items' vectors.
        item_ids: The items, by row.
        rows_R: Which rows are compared, each once.
        limit: How many to return at most; fewer where there are fewer rows.
    """
    num_at_once = max(1, MAX_SCORES // max(1, len(rows_R)))
    found = []
    for start in range(0, len(queries_QD), num_at_once):
        block_QD = queries_QD[start : start + num_at_once]
        scores_QR, norm = _scores(block_QD, vectors_ND, rows_R)
        for query_D, scores_R in zip(block_QD, scores_QR, strict=True):
            near = _near_top(scores_R, limit, rounding(query_D, norm))
            scores_K = exact_scores(vectors_ND[rows_R[near]], query_D)
            ids = [item_ids[row] for row in rows_R[near].tolist()]
            found.append(best_first(ids, scores_K, limit=limit))
    return found


def _scores(
    queries_QD: NDArray[np.float32], vectors_ND: NDArray[np.float32], rows_R: NDArray[np.int64]
) -> tuple[NDArray[np.float32], float]:
    """All products, rounded as may be, and the length of the longest row."""
    scores_QR = np.empty((len(queries_QD), len(rows_R)), dtype=np.float32)
    norm = 0.0
    for start in range(0, len(rows_R), ROW_BLOCK):
        block_RD = vectors_ND[rows_R[start : start + ROW_BLOCK]]
        np.matmul(queries_QD, block_RD.T, out=scores_QR[:, start : start + ROW_BLOCK])
        norm = max(norm, largest_norm(block_RD))
    return scores_QR, norm


def _near_top(scores_R: NDArray[np.float32], limit: int, slack: float) -> NDArray[np.int64]:
    """The places of all that may belong to the `limit` best, however they were rounded."""
    if len(scores_R) <= limit:
        return np.arange(len(scores_R))
    last = np.partition(scores_R, len(scores_R) - limit)[len(scores_R) - limit]
    return np.flatnonzero(scores_R >= last - slack)
