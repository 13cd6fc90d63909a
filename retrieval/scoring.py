"""A query's unit vectors and rows of items in, cosines and scores out, the same on every way.

Each row is summed alone, block by block in the order of their names, so that a candidate's score
does not depend on what it was scored with. Whoever orders items by score does it with these.

Shape legend: N items, K rows among them, D dimensions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrieval.base import EncodedQuery
from retrieval.candidates import Query
from retrieval.concatenated import ItemVectors


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A query as the index is asked it."""

    place: int
    """Among the queries asked together."""
    query: Query
    encoded: EncodedQuery
    weights: Mapping[str, float]
    """Of every block, with those that the query brings."""
    hidden: frozenset[str] = frozenset()
    """Known items that must not be in the answer, whatever the filter."""
    lists: Mapping[str, Mapping[str, int]] | None = None
    """For each block, the ranks of the items in its own list; None where none was searched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """Items, best first, ties by item id."""

    rows_K: NDArray[np.int64]
    scores_K: NDArray[np.float64]
    cosines: Mapping[str, NDArray[np.float64]]
    """[K], in each block that the query has."""


def weighted(
    vectors: Mapping[str, NDArray[np.float32]], weights: Mapping[str, float], items: ItemVectors
) -> NDArray[np.float32]:
    """The query in the concatenated space, [D]: its blocks times their weights, else zeros."""
    query_D = np.zeros(items.dim, dtype=np.float32)
    for name, vector_D in vectors.items():
        query_D[items.columns_of[name]] = weights[name] * vector_D
    return query_D


def cosines_of(
    vectors: Mapping[str, NDArray[np.float32]], items: ItemVectors, rows_K: NDArray[np.int64]
) -> dict[str, NDArray[np.float64]]:
    """The cosine of the query with each row, [K], in each block that the query has."""
    vectors_KD = items.vectors_ND[rows_K]
    return {
        name: (vectors_KD[:, columns] * vectors[name]).sum(axis=1).astype(np.float64)
        for name, columns in items.columns_of.items()
        if name in vectors
    }


def total(
    cosines: Mapping[str, NDArray[np.float64]], weights: Mapping[str, float], num_rows: int
) -> NDArray[np.float64]:
    """The weighted sums of cosines, [K]."""
    scores_K = np.zeros(num_rows)
    for name, cosines_K in cosines.items():
        scores_K += weights[name] * cosines_K
    return scores_K


def scored(asked: Asked, items: ItemVectors, item_ids: Sequence[str]) -> Scored:
    """These known items by the weighted sum of their cosines."""
    rows_K = np.array([items.row_of[item_id] for item_id in item_ids], dtype=np.int64)
    cosines = cosines_of(asked.encoded.vectors, items, rows_K)
    scores_K = total(cosines, asked.weights, len(rows_K))
    order_K = np.lexsort((rows_K, -scores_K))  # rows are sorted by item id
    return Scored(
        rows_K=rows_K[order_K],
        scores_K=scores_K[order_K],
        cosines={name: cosines_K[order_K] for name, cosines_K in cosines.items()},
    )
