"""A query's unit vectors and rows of items in, cosines and scores out, the same on every way.

Each row is summed alone, block by block in the order of their names, so that a candidate's score
does not depend on what it was scored with. Whoever orders items by score does it with these.

Shape legend: N items, K rows among them, D dimensions.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from retrieval.concatenated import ItemVectors


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
