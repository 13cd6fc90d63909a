"""Vectors in, their true nearest neighbors out, by FAISS.

A flat index compares with every item: exact, without training, and the fastest choice up to some
tens of thousands of items. Single queries are FAISS's; many at once go by `retrieval.near`, over
the same memory, which reads the items once for all of them and does not sort what is far. Where
there is a GPU, both are its business.

Shape legend: Q queries, N items, D dimensions, K rows proposed.
"""

import numpy as np
from numpy.typing import NDArray

from retrieval.faiss_base import Ask, FaissIndex, Proposed, faiss
from retrieval.faiss_gpu import MOST_ROWS, GpuCopy, has_gpu
from retrieval.near import near_rows
from retrieval.order import best_first, exact_scores, rounding

MANY = 16  # queries from which on a product of matrices is faster than one query after the other


class FaissFlatIndex(FaissIndex):
    """`IndexFlatIP`."""

    stored_class = faiss.IndexFlatIP

    def __init__(self, *, dim: int) -> None:
        super().__init__(dim=dim)
        self._gpu = GpuCopy()

    def _made(self, num_items: int) -> faiss.IndexFlatIP:
        return faiss.IndexFlatIP(self.dim)

    def _insert(self, vectors_ND: NDArray[np.float32]) -> None:
        super()._insert(vectors_ND)
        self._gpu.forget()

    def _propose(self, queries_QD: NDArray[np.float32], num_rows: int, ask: Ask) -> Proposed:
        if has_gpu() and ask.selector is None and num_rows <= MOST_ROWS:
            return self._gpu.search(self._index, queries_QD, num_rows)
        parameters = faiss.SearchParameters(sel=ask.selector) if ask.selector else None
        proposed: Proposed = self._index.search(queries_QD, num_rows, params=parameters)
        return proposed

    def _found(self, queries_QD: NDArray[np.float32], ask: Ask) -> list[list[tuple[str, float]]]:
        if len(queries_QD) < MANY or has_gpu():
            return super()._found(queries_QD, ask)
        vectors_ND = self._all_vectors()
        near = near_rows(
            vectors_ND,
            queries_QD,
            limit=ask.limit,
            slack_Q=rounding(queries_QD, self._largest_norm),
            allowed_N=ask.allowed_N,
        )
        found = []
        for query_D, rows in zip(queries_QD, near, strict=True):
            item_ids = [self._item_ids[row] for row in rows.tolist()]
            scores_K = exact_scores(vectors_ND[rows], query_D)
            found.append(best_first(item_ids, scores_K, limit=ask.limit))
        return found

    def _all_vectors(self) -> NDArray[np.float32]:
        """FAISS's own memory, which the next `add` may move."""
        vectors: NDArray[np.float32] = faiss.rev_swig_ptr(
            self._index.get_xb(), len(self) * self.dim
        )
        return vectors.reshape(len(self), self.dim)

    def _vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return self._all_vectors()[rows]
