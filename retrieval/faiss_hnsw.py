"""Vectors in, their near neighbors out, by walking a graph (Malkov and Yashunin, TPAMI 2018).

The least latency at a high recall, for twice the time to build and some 300 bytes an item beside
its vector. One thread builds: several would make another graph each time. Rows cannot be taken
out; `effort` is efSearch, the candidates kept while walking.

Shape legend: Q queries, N items, D dimensions, K rows proposed.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.faiss_base import Ask, FaissIndex, Proposed, faiss

NEIGHBORS = 32  # of each item in the graph; twice as many on the ground level
CONSTRUCTION = 100  # candidates kept while an item is placed
EFFORTS = (64, 128, 256, 512, 1024, 2048)


class FaissHnswIndex(FaissIndex):
    """`IndexHNSWFlat`."""

    stored_class = faiss.IndexHNSWFlat
    efforts = EFFORTS
    effort = 256

    def _made(self, num_items: int) -> faiss.IndexHNSWFlat:
        made = faiss.IndexHNSWFlat(self.dim, NEIGHBORS, faiss.METRIC_INNER_PRODUCT)
        made.hnsw.efConstruction = CONSTRUCTION
        return made

    def _insert(self, vectors_ND: NDArray[np.float32]) -> None:
        threads = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)
        try:
            self._index.add(vectors_ND)
        finally:
            faiss.omp_set_num_threads(threads)

    def _propose(self, queries_QD: NDArray[np.float32], num_rows: int, ask: Ask) -> Proposed:
        parameters = faiss.SearchParametersHNSW(efSearch=ask.effort, sel=ask.selector)
        proposed: Proposed = self._index.search(queries_QD, num_rows, params=parameters)
        return proposed

    def _vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        storage = faiss.downcast_index(self._index.storage)
        vectors: NDArray[np.float32] = faiss.rev_swig_ptr(storage.get_xb(), len(self) * self.dim)
        return vectors.reshape(len(self), self.dim)[rows]

    def _arrays(self) -> dict[str, NDArray[Any]]:
        self._index.hnsw.efSearch = self.effort
        return super()._arrays()

    def _take(self, stored: Any, arrays: dict[str, NDArray[Any]]) -> None:
        super()._take(stored, arrays)
        self.effort = stored.hnsw.efSearch
