"""Vectors in, their near neighbors out, from the lists around the query (Jegou et al., TPAMI 2011).

Items lie in lists by their nearest center; a search reads the lists of the `effort` centers nearest
to the query (nprobe). Built in a fraction of a graph's time, in hardly more memory than a flat
index; all lists read, it is exact.

Shape legend: Q queries, N items, D dimensions, K rows proposed, L lists.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.faiss_base import Ask, FaissIndex, Proposed, faiss
from retrieval.faiss_lists import ladder, nearest_rows, num_lists, sample


class FaissIvfIndex(FaissIndex):
    """`IndexIVFFlat`, whose rows can be looked up."""

    stored_class = faiss.IndexIVFFlat

    def _made(self, num_items: int) -> faiss.IndexIVFFlat:
        num = num_lists(num_items)
        centers = faiss.IndexFlatIP(self.dim)
        made = faiss.IndexIVFFlat(centers, self.dim, num, faiss.METRIC_INNER_PRODUCT)
        made.make_direct_map(True)
        made.cp.min_points_per_centroid = 1  # few items are no fault
        self.efforts, self.effort = ladder(num)
        return made

    def _train(self, vectors_ND: NDArray[np.float32]) -> None:
        self._index.train(sample(vectors_ND, num_lists=self._index.nlist))

    def _propose(self, queries_QD: NDArray[np.float32], num_rows: int, ask: Ask) -> Proposed:
        return nearest_rows(
            self._index,
            queries_QD,
            limit=num_rows,
            effort=ask.effort,
            selector=ask.selector,
        )

    def _vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        vectors: NDArray[np.float32] = self._index.reconstruct_batch(rows).reshape(-1, self.dim)
        return vectors

    def _arrays(self) -> dict[str, NDArray[Any]]:
        self._index.nprobe = self.effort
        return super()._arrays()

    def _take(self, stored: Any, arrays: dict[str, NDArray[Any]]) -> None:
        super()._take(stored, arrays)
        stored.make_direct_map(True)
        self.efforts, _ = ladder(stored.nlist)
        self.effort = stored.nprobe
