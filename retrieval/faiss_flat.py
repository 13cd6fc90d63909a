"""Vectors in, their true nearest neighbors out, by FAISS (Douze et al., arXiv 2401.08281).

A flat index compares with every item: exact, no training, and the fastest choice up to some tens
of thousands of items.

Shape legend: Q queries, N items, D dimensions, K results.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from retrieval.base import REPAIR, Index, UnusableIndex
from retrieval.order import (
    MARGIN,
    best_first,
    check_added,
    check_allowed,
    check_finite,
    check_limit,
    exact_scores,
    largest_norm,
    rounding,
)
from retrieval.tensor_file import read, write

with warnings.catch_warnings():
    # SWIG's types warn while they are made; where warnings are errors, that ends the process.
    warnings.simplefilter("ignore", DeprecationWarning)
    import faiss


class FaissFlatIndex(Index):
    """`IndexFlatIP`, whose rows are numbered in the order in which items were added."""

    def __init__(self, *, dim: int) -> None:
        self.dim = dim
        self._item_ids: list[str] = []
        self._held: set[str] = set()
        self._index = faiss.IndexFlatIP(dim)
        self._largest_norm = 0.0

    def add(self, item_ids: Sequence[str], vectors_ND: NDArray[np.float32]) -> None:
        vectors_ND = check_added(item_ids, vectors_ND, dim=self.dim, held=self._held)
        self._item_ids.extend(item_ids)
        self._held.update(item_ids)
        self._index.add(vectors_ND)
        self._largest_norm = max(self._largest_norm, largest_norm(vectors_ND))

    @property
    def item_ids(self) -> Sequence[str]:
        return self._item_ids

    def search(
        self,
        queries_QD: NDArray[np.float32],
        *,
        limit: int,
        allowed_N: NDArray[np.bool_] | None = None,
        effort: int | None = None,
    ) -> list[list[tuple[str, float]]]:
        check_limit(limit)
        queries_QD = check_finite(queries_QD, dim=self.dim)
        if allowed_N is not None:
            rows = np.flatnonzero(check_allowed(allowed_N, num_items=len(self)))
            allowed = FaissFlatIndex(dim=self.dim)
            allowed.add(
                [self._item_ids[row] for row in rows],
                self._index.reconstruct_batch(rows).reshape(-1, self.dim),
            )
            return allowed.search(queries_QD, limit=limit)
        if not len(self) or not len(queries_QD):
            return [[] for _ in queries_QD]
        num_rows = min(limit + MARGIN, len(self))
        scores_QK, rows_QK = self._index.search(queries_QD, num_rows)
        return [
            self._best(query_D, scores_K, rows_K, limit)
            for query_D, scores_K, rows_K in zip(queries_QD, scores_QK, rows_QK, strict=True)
        ]

    def _best(
        self,
        query_D: NDArray[np.float32],
        scores_K: NDArray[np.float32],
        rows_K: NDArray[np.int64],
        limit: int,
    ) -> list[tuple[str, float]]:
        """Order one query's rows, fetching more while a tie at the limit may go on beyond them."""
        slack = rounding(query_D, self._largest_norm)
        while len(rows_K) < len(self) and scores_K[-1] >= scores_K[limit - 1] - slack:
            num_rows = min(4 * len(rows_K), len(self))
            scores_1K, rows_1K = self._index.search(query_D[None], num_rows)
            scores_K, rows_K = scores_1K[0], rows_1K[0]
        scores_K = exact_scores(self._index.reconstruct_batch(rows_K), query_D)
        return best_first([self._item_ids[row] for row in rows_K], scores_K, limit=limit)

    def save(self, path: Path) -> None:
        write(path, item_ids=self._item_ids, arrays={"faiss": faiss.serialize_index(self._index)})

    @classmethod
    def load(cls, path: Path) -> Self:
        item_ids, arrays = read(path, names=["faiss"])
        try:
            stored = faiss.deserialize_index(arrays["faiss"])
        except (RuntimeError, ValueError, TypeError, AssertionError) as error:
            raise UnusableIndex(f"{path} is damaged ({error}): {REPAIR}") from error
        if not isinstance(stored, faiss.IndexFlatIP) or stored.ntotal != len(item_ids):
            raise UnusableIndex(
                f"{path} is damaged ({type(stored).__name__} of {stored.ntotal} vectors for "
                f"{len(item_ids)} ids): {REPAIR}"
            )
        index = cls(dim=stored.d)
        index._index = stored
        index._item_ids = item_ids
        index._held = set(item_ids)
        index._largest_norm = largest_norm(stored.reconstruct_n(0, stored.ntotal))
        return index

    def __len__(self) -> int:
        return len(self._item_ids)
