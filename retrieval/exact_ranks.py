"""Encoded queries and items to look for in, their ranks among the whole catalog out.

A matrix product over blocks of queries tells roughly where an item stands: whoever scores higher
by more than rounding stands before it. The few that are nearer are scored as candidates are, one
by one, so that the ranks are those of the retriever's own order.

Shape legend: Q queries, N items, K near ones, D dimensions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrieval.concatenated import ItemVectors
from retrieval.order import largest_norm, rounding
from retrieval.scoring import cosines_of, total, weighted

MAX_SCORES = 2**23  # held at once, in 32 MiB


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedQuery:
    """A query, encoded, and what is sought of its order."""

    vectors: Mapping[str, NDArray[np.float32]]
    """By block; empty where nothing is known of the query."""
    weights: Mapping[str, float]
    is_allowed_N: NDArray[np.bool_]
    """Which items the order holds."""
    item_ids: frozenset[str]
    """Whose ranks are sought."""


def ranks(
    queries: Sequence[RankedQuery], items: ItemVectors, *, by_popularity: Sequence[str]
) -> list[dict[str, int]]:
    """The ranks, from 1, of the items sought; those that the order does not hold are left out.

    Args:
        queries: Each with its own items.
        items: The catalog. Items without any vector are in no order but that of popularity.
        by_popularity: All items, most popular first: the order where nothing is known.
    """
    popular_rows_N = np.array([items.row_of[one] for one in by_popularity], dtype=np.int64)
    has_vector_N = items.is_present_NM.any(axis=1)
    slack = rounding(np.ones(1, dtype=np.float32), largest_norm(items.vectors_ND))
    found: list[dict[str, int]] = [{} for _ in queries]
    known = [place for place, query in enumerate(queries) if query.vectors]
    for place, query in enumerate(queries):
        if not query.vectors:
            found[place] = _by_place(query, items, popular_rows_N)
    size = max(1, MAX_SCORES // max(len(items), 1))
    for start in range(0, len(known), size):
        block = known[start : start + size]
        queries_QD = np.stack(
            [weighted(queries[n].vectors, queries[n].weights, items) for n in block]
        )
        scores_QN = queries_QD @ items.vectors_ND.T
        scores_QN[:, ~has_vector_N] = -np.inf
        norms_Q = np.linalg.norm(queries_QD, axis=1).tolist()
        for place, scores_N, norm in zip(block, scores_QN, norms_Q, strict=True):
            scores_N[~queries[place].is_allowed_N] = -np.inf
            found[place] = _by_score(queries[place], items, scores_N, slack * norm)
    return found


def _by_place(query: RankedQuery, items: ItemVectors, order_N: NDArray[np.int64]) -> dict[str, int]:
    """Ranks in a given order of rows."""
    is_in_N = query.is_allowed_N[order_N]
    rank_of_N = np.zeros(len(items), dtype=np.int64)
    rank_of_N[order_N] = np.where(is_in_N, np.cumsum(is_in_N), 0)
    places = {one: int(rank_of_N[items.row_of[one]]) for one in _known(query, items)}
    return {item_id: rank for item_id, rank in places.items() if rank}


def _by_score(
    query: RankedQuery, items: ItemVectors, scores_N: NDArray[np.float32], slack: float
) -> dict[str, int]:
    """Ranks by rough scores, of which those within `slack` of one sought are made exact."""
    found = {}
    for item_id in _known(query, items):
        row = items.row_of[item_id]
        if scores_N[row] == -np.inf:
            continue
        is_near_N = scores_N >= scores_N[row] - slack
        num_above = int((scores_N > scores_N[row] + slack).sum())
        rows_K = np.flatnonzero(is_near_N & (scores_N <= scores_N[row] + slack))
        if len(rows_K) == 1:  # itself: nothing is to be told apart
            found[item_id] = 1 + num_above
            continue
        exact_K = total(cosines_of(query.vectors, items, rows_K), query.weights, len(rows_K))
        own = exact_K[np.searchsorted(rows_K, row)]
        is_before_K = (exact_K > own) | ((exact_K == own) & (rows_K < row))
        found[item_id] = 1 + num_above + int(is_before_K.sum())
    return found


def _known(query: RankedQuery, items: ItemVectors) -> list[str]:
    return sorted(item_id for item_id in query.item_ids if item_id in items.row_of)
