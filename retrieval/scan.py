"""Queries and some rows of a matrix in, the rows' true best out: no index, nothing missed.

What a filter leaves of a catalog is often so little that comparing with all of it is both exact
and faster than asking an index to skip the rest.

Shape legend: Q queries, N items, R rows scanned, D dimensions, K rows near the top.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from retrieval.near import near_rows
from retrieval.order import best_first, exact_scores, rounding

COPIED_ROWS = 32_768  # so many rows at most are copied, to lie side by side


def scan(
    queries_QD: NDArray[np.float32],
    vectors_ND: NDArray[np.float32],
    item_ids: Sequence[str],
    *,
    rows_R: NDArray[np.int64],
    limit: int,
    norm: float,
) -> list[list[tuple[str, float]]]:
    """For each query the `limit` best (item id, score) pairs among the rows, ties by item id.

    Args:
        queries_QD: The queries, of any length.
        vectors_ND: The items' vectors.
        item_ids: The items, by row.
        rows_R: Which rows are compared, each once.
        limit: How many to return at most; fewer where there are fewer rows.
        norm: The length of the longest row, or more.
    """
    if len(rows_R) <= COPIED_ROWS:
        near_RD, allowed_N = vectors_ND[rows_R], None
    else:
        near_RD, allowed_N = vectors_ND, np.zeros(len(vectors_ND), dtype=np.bool_)
        allowed_N[rows_R] = True
        rows_R = np.arange(len(vectors_ND))
    slack_Q = rounding(queries_QD, norm)
    near = near_rows(near_RD, queries_QD, limit=limit, slack_Q=slack_Q, allowed_N=allowed_N)
    found = []
    for query_D, places in zip(queries_QD, near, strict=True):
        scores_K = exact_scores(near_RD[places], query_D)
        ids = [item_ids[row] for row in rows_R[places].tolist()]
        found.append(best_first(ids, scores_K, limit=limit))
    return found
