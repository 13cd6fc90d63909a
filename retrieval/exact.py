"""Vectors in, their true nearest neighbors out: the index that others are measured against.

Shape legend: Q queries, N items, D dimensions, K results.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from retrieval.base import REPAIR, Index, UnusableIndex
from retrieval.near import near_rows
from retrieval.order import (
    best_first,
    check_added,
    check_allowed,
    check_effort,
    check_finite,
    check_limit,
    exact_scores,
    largest_norm,
    rounding,
)
from retrieval.tensor_file import read, write


class ExactIndex(Index):
    """A matrix product over all items, in numpy."""

    def __init__(self, *, dim: int) -> None:
        self.dim = dim
        self._item_ids: list[str] = []
        self._held: set[str] = set()
        self._vectors_ND = np.zeros((0, dim), dtype=np.float32)
        self._largest_norm = 0.0

    @property
    def item_ids(self) -> Sequence[str]:
        return self._item_ids

    def add(self, item_ids: Sequence[str], vectors_ND: NDArray[np.float32]) -> None:
        vectors_ND = check_added(item_ids, vectors_ND, dim=self.dim, held=self._held)
        self._item_ids.extend(item_ids)
        self._held.update(item_ids)
        self._vectors_ND = np.concatenate([self._vectors_ND, vectors_ND])
        self._largest_norm = max(self._largest_norm, largest_norm(vectors_ND))

    def search(
        self,
        queries_QD: NDArray[np.float32],
        *,
        limit: int,
        allowed_N: NDArray[np.bool_] | None = None,
        effort: int | None = None,
    ) -> list[list[tuple[str, float]]]:
        check_limit(limit)
        check_effort(effort)
        queries_QD = check_finite(queries_QD, dim=self.dim)
        near = near_rows(
            self._vectors_ND,
            queries_QD,
            limit=limit,
            slack_Q=rounding(queries_QD, self._largest_norm),
            allowed_N=check_allowed(allowed_N, num_items=len(self)),
        )
        found = []
        for query_D, rows in zip(queries_QD, near, strict=True):
            scores_K = exact_scores(self._vectors_ND[rows], query_D)
            item_ids = [self._item_ids[row] for row in rows.tolist()]
            found.append(best_first(item_ids, scores_K, limit=limit))
        return found

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
