"""What the kinds with inverted lists share: their number, their training, and how they are read.

Shape legend: Q queries, N items, D dimensions, L lists.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.faiss_base import SEED, faiss

PER_LIST = 64  # vectors for each list that the centers are trained on, at most
LEAST_PER_LIST = 39  # fewer, and FAISS warns that centers are poorly placed


def num_lists(num_items: int) -> int:
    """Twice the root of the number of items, as far as they suffice for training."""
    return max(1, min(int(2 * num_items**0.5), num_items // LEAST_PER_LIST))


def ladder(num: int) -> tuple[tuple[int, ...], int]:
    """The efforts of so many lists, doubling, all of them last; and one to begin with."""
    efforts = (*(1 << power for power in range(num.bit_length()) if 1 << power < num), num)
    return efforts, efforts[len(efforts) // 2]


def sample(vectors_ND: NDArray[np.float32], *, num_lists: int) -> NDArray[np.float32]:
    """Some of the vectors, the same ones each time, in their order."""
    limit = num_lists * PER_LIST
    if len(vectors_ND) <= limit:
        return vectors_ND
    rows = np.random.default_rng(SEED).choice(len(vectors_ND), limit, replace=False)
    return vectors_ND[np.sort(rows)]


def nearest_rows(
    index: Any,
    queries_QD: NDArray[np.float32],
    *,
    limit: int,
    effort: int,
    selector: Any | None,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The scores and numbers of the best rows in each query's `effort` nearest lists, both [Q, K].

    Lists are chosen for one query at a time: FAISS multiplies matrices where there are many, and
    these round otherwise, so that a query could be answered differently in a batch.
    """
    num_queries, num_lists = len(queries_QD), min(effort, index.nlist)
    scores_QL = np.empty((num_queries, num_lists), dtype=np.float32)
    lists_QL = np.empty((num_queries, num_lists), dtype=np.int64)
    centers = faiss.downcast_index(index.quantizer)
    for row in range(num_queries):
        one = slice(row, row + 1)
        centers.search(queries_QD[one], num_lists, D=scores_QL[one], I=lists_QL[one])
    scores_QK = np.empty((num_queries, limit), dtype=np.float32)
    rows_QK = np.empty((num_queries, limit), dtype=np.int64)
    index.search_preassigned_c(  # FAISS's own wrapper of it passes no parameters on
        num_queries,
        faiss.swig_ptr(queries_QD),
        limit,
        *map(faiss.swig_ptr, (lists_QL, scores_QL, scores_QK, rows_QK)),
        False,
        faiss.SearchParametersIVF(nprobe=num_lists, sel=selector),
    )
    return scores_QK, rows_QK
