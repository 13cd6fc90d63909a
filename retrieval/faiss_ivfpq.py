"""Vectors in, their near neighbors out, from 4-bit codes in a sixteenth of the memory.

A product quantizer (Jegou et al., TPAMI 2011) keeps two dimensions in four bits, read from
registers (Andre et al., VLDB 2015) list by list. Codes propose `surplus` times as many rows as are
sought, and these are scored again from the raw vectors, which stay in the file: it is mapped into
memory, so that only rows that are looked at are read. `effort` is nprobe.

Shape legend: Q queries, N items, D dimensions, K rows proposed, L lists.
"""

from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from retrieval.faiss_base import Ask, FaissIndex, Proposed, faiss
from retrieval.faiss_lists import ladder, nearest_rows, num_lists, sample
from retrieval.tensor_file import read_mapped

DIMS_PER_CODE = 2
LEVELS = 16  # of a code of four bits
PAD = 4  # dimensions are filled up to a multiple of this, for codes come in pairs
QUERY_AT_A_TIME = 10  # FAISS's loop whose answers do not depend on the other queries


class FaissIvfPqIndex(FaissIndex):
    """`IndexIVFPQFastScan`, and the raw vectors."""

    stored_class = faiss.IndexIVFPQFastScan
    surplus = 4
    least_proposed = 200

    def __init__(self, *, dim: int) -> None:
        super().__init__(dim=dim)
        self._vectors_ND = np.zeros((0, dim), dtype=np.float32)

    def _made(self, num_items: int) -> faiss.IndexIVFPQFastScan:
        num, dim = num_lists(num_items), -(-self.dim // PAD) * PAD
        made = faiss.IndexIVFPQFastScan(
            faiss.IndexFlatIP(dim), dim, num, dim // DIMS_PER_CODE, 4, faiss.METRIC_INNER_PRODUCT
        )
        made.cp.min_points_per_centroid = 1  # few items are no fault
        made.pq.cp.min_points_per_centroid = 1
        self.efforts, self.effort = ladder(num)
        return made

    def _train(self, vectors_ND: NDArray[np.float32]) -> None:
        some_ND = self._padded(sample(vectors_ND, num_lists=max(self._index.nlist, LEVELS)))
        if len(some_ND) < LEVELS:  # as many as a code has levels, or FAISS refuses
            some_ND = np.resize(some_ND, (LEVELS, some_ND.shape[1]))
        self._index.train(some_ND)

    def _insert(self, vectors_ND: NDArray[np.float32]) -> None:
        super()._insert(self._padded(vectors_ND))
        held = [self._vectors_ND, vectors_ND]
        self._vectors_ND = np.concatenate(held) if len(self) else vectors_ND

    def _propose(self, queries_QD: NDArray[np.float32], num_rows: int, ask: Ask) -> Proposed:
        self._index.implem = QUERY_AT_A_TIME
        return nearest_rows(
            self._index,
            np.ascontiguousarray(self._padded(queries_QD)),
            limit=num_rows,
            effort=ask.effort,
            selector=ask.selector,
        )

    def _padded(self, vectors_ND: NDArray[np.float32]) -> NDArray[np.float32]:
        missing = self._index.d - self.dim
        return np.pad(vectors_ND, ((0, 0), (0, missing))) if missing else vectors_ND

    def _vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.asarray(self._vectors_ND[rows])

    def _arrays(self) -> dict[str, NDArray[Any]]:
        self._index.nprobe = self.effort
        return {**super()._arrays(), "vectors": self._vectors_ND}

    @classmethod
    def load(cls, path: Path) -> Self:
        item_ids, arrays = read_mapped(path, names=["faiss", "vectors"])
        return cls._of(path, item_ids, arrays)

    def _take(self, stored: Any, arrays: dict[str, NDArray[Any]]) -> None:
        super()._take(stored, arrays)
        self._vectors_ND = arrays["vectors"]
        self.dim = self._vectors_ND.shape[1]
        self.efforts, _ = ladder(stored.nlist)
        self.effort = stored.nprobe
