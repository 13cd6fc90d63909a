"""Vectors in, their true nearest neighbors out: the index that others are measured against.

Shape legend: Q queries, N items, D dimensions, K results.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from retrieval.base import REPAIR, Index, UnusableIndex
from retrieval.order import (
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

QUERY_BLOCK = 256  # scores of so many queries are held at once


class ExactIndex(Index):
    """A matrix product over all items, in numpy."""

    def __init__(self, *, dim: int) -> None:
        self.dim = dim
        self._item_ids: list[str] = []
        self._held: set[str] = set()
        self._vectors_ND = np.zeros((0, dim), dtype=np.float32)
        self._largest_norm = 0.0

    def add(self, item_ids: Sequence[str], vectors_ND: NDArray[np.float32]) -> None:
        vectors_ND = check_added(item_ids, vectors_ND, dim=self.dim, held=self._held)
        self._item_ids.extend(item_ids)
        self._held.update(item_ids)
        self._vectors_ND = np.concatenate([self._vectors_ND, vectors_ND])
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
            allowed = ExactIndex(dim=self.dim)
            allowed.add([self._item_ids[row] for row in rows], self._vectors_ND[rows])
            return allowed.search(queries_QD, limit=limit)
        found = []
        for start in range(0, len(queries_QD), QUERY_BLOCK):
            block_QD = queries_QD[start : start + QUERY_BLOCK]
            scores_QN = block_QD @ self._vectors_ND.T
            found += [
                self._best(query_D, scores_N, limit)
                for query_D, scores_N in zip(block_QD, scores_QN, strict=True)
            ]
        return found

    def _best(
        self, query_D: NDArray[np.float32], scores_N: NDArray[np.float32], limit: int
    ) -> list[tuple[str, float]]:
        if len(self) <= limit:
            rows = np.arange(len(self))
        else:
            last = np.partition(scores_N, len(self) - limit)[len(self) - limit]
            rows = np.flatnonzero(scores_N >= last - rounding(query_D, self._largest_norm))
        scores_K = exact_scores(self._vectors_ND[rows], query_D)
        return best_first([self._item_ids[row] for row in rows], scores_K, limit=limit)

    def save(self, path: Path) -> None:
        write(path, item_ids=self._item_ids, arrays={"vectors": self._vectors_ND})

    @classmethod
    def load(cls, path: Path) -> Self:
        item_ids, arrays = read(path, names=["vectors"])
        try:
            index = cls(dim=arrays["vectors"].shape[1])
            index.add(item_ids, arrays["vectors"])
        except (ValueError, IndexError) as error:
            raise UnusableIndex(f"{path} is damaged ({error}): {REPAIR}") from error
        return index

    def __len__(self) -> int:
        return len(self._item_ids)
