"""What all kinds of FAISS index share (Douze et al., arXiv 2401.08281): all but the structure.

FAISS proposes rows; whoever is near the top is scored again by `retrieval.order`, from the raw
vectors that every kind keeps, so that scores are true and ties fall by item id whatever structure
proposed. A query for which the structure proposes too few is compared with every allowed item.

Shape legend: Q queries, N items, D dimensions, K rows proposed.
"""

import warnings
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from retrieval.base import REPAIR, Index, UnusableIndex
from retrieval.order import (
    MARGIN,
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

with warnings.catch_warnings():
    # SWIG's types warn while they are made; where warnings are errors, that ends the process.
    warnings.simplefilter("ignore", DeprecationWarning)
    import faiss as faiss  # the kinds take it from here

SCAN_BLOCK = 16_384  # rows taken out of the structure at once, where all are compared
MAX_PROPOSED = 1 << 22  # proposals held at once, 48 MiB
SEED = 0

Proposed = tuple[NDArray[np.float32], NDArray[np.int64]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What one call of `search` asks for, beside its queries."""

    limit: int
    effort: int
    num_allowed: int
    allowed_N: NDArray[np.bool_] | None
    selector: Any | None
    """FAISS's form of `allowed_N`."""


class FaissIndex(Index):
    """Rows are numbered in the order in which items were added."""

    stored_class: ClassVar[type]
    """What FAISS calls the structure."""
    surplus: ClassVar[int] = 1
    """How many times the limit is proposed: more than once where proposals are coarse."""
    least_proposed: ClassVar[int] = 0
    """So many rows are proposed whatever the limit."""

    def __init__(self, *, dim: int) -> None:
        self.dim = dim
        self._item_ids: list[str] = []
        self._held: set[str] = set()
        self._index = self._made(0)
        self._largest_norm = 0.0

    @abstractmethod
    def _made(self, num_items: int) -> Any:
        """An empty structure, sized for so many items and not trained yet."""

    @abstractmethod
    def _propose(self, queries_QD: NDArray[np.float32], num_rows: int, ask: Ask) -> Proposed:
        """At most `num_rows` rows for each query and their scores, both [Q, K], best first.

        A query's proposals do not depend on the other queries. Missing ones are rows of -1, last.
        """

    @abstractmethod
    def _vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The raw vectors of these rows."""

    @property
    def item_ids(self) -> Sequence[str]:
        return self._item_ids

    def add(self, item_ids: Sequence[str], vectors_ND: NDArray[np.float32]) -> None:
        vectors_ND = check_added(item_ids, vectors_ND, dim=self.dim, held=self._held)
        if not len(vectors_ND):
            return
        if not len(self):
            self._index = self._made(len(vectors_ND))
            self._train(vectors_ND)
        self._insert(vectors_ND)
        self._item_ids.extend(item_ids)
        self._held.update(item_ids)
        self._largest_norm = max(self._largest_norm, largest_norm(vectors_ND))

    def _train(self, vectors_ND: NDArray[np.float32]) -> None:
        """Fit the structure to the first vectors; a structure without parameters needs none."""
        assert self._index.is_trained

    def _insert(self, vectors_ND: NDArray[np.float32]) -> None:
        self._index.add(vectors_ND)

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
        allowed_N = check_allowed(allowed_N, num_items=len(self))
        ask = Ask(
            limit=limit,
            effort=self.effort if effort is None else effort,
            num_allowed=len(self) if allowed_N is None else int(allowed_N.sum()),
            allowed_N=allowed_N,
            selector=None if allowed_N is None else _selector(allowed_N),
        )
        if not ask.num_allowed or not len(queries_QD):
            return [[] for _ in queries_QD]
        return self._found(queries_QD, ask)

    def _found(self, queries_QD: NDArray[np.float32], ask: Ask) -> list[list[tuple[str, float]]]:
        num_rows = max(self.surplus * ask.limit + MARGIN, self.least_proposed)
        num_rows = min(num_rows, ask.num_allowed)
        num_queries = max(1, MAX_PROPOSED // num_rows)
        found = []
        for start in range(0, len(queries_QD), num_queries):
            block_QD = queries_QD[start : start + num_queries]
            proposed = self._propose(block_QD, num_rows, ask)
            found += [
                self._best(query_D, scores_K, rows_K, ask)
                for query_D, scores_K, rows_K in zip(block_QD, *proposed, strict=True)
            ]
        return found

    def _best(
        self,
        query_D: NDArray[np.float32],
        scores_K: NDArray[np.float32],
        rows_K: NDArray[np.int64],
        ask: Ask,
    ) -> list[tuple[str, float]]:
        """Order one query's rows: ids decide a tie at the limit, so it must not go on beyond them.

        Where it does even among four times as many, or where even the greatest effort finds too
        few, all rows are compared: some structures do not find every one of many equal vectors.
        """
        slack = float(rounding(query_D, self._largest_norm))
        if _is_open(scores_K, rows_K, slack, ask):
            scores_K, rows_K = self._more(query_D, len(rows_K), ask)
        is_open = _is_open(scores_K, rows_K, slack, ask)
        rows_K = self._scanned(query_D, ask) if is_open else rows_K[rows_K >= 0]
        item_ids = [self._item_ids[row] for row in rows_K.tolist()]
        scores_K = exact_scores(self._vectors(rows_K), query_D)
        return best_first(item_ids, scores_K, limit=ask.limit)

    def _more(self, query_D: NDArray[np.float32], num_rows: int, ask: Ask) -> Proposed:
        """Four times as many rows, found with as much effort as it takes to find enough."""
        num_rows, effort = min(4 * num_rows, ask.num_allowed), ask.effort
        while True:
            proposed = self._propose(query_D[None], num_rows, replace(ask, effort=effort))
            num_proposed = int((proposed[1] >= 0).sum())
            if num_proposed >= min(ask.limit, num_rows) or effort >= max(self.efforts, default=0):
                return proposed[0][0], proposed[1][0]
            effort *= 2

    def _scanned(self, query_D: NDArray[np.float32], ask: Ask) -> NDArray[np.int64]:
        """The allowed rows that may be the query's best, by comparing with every one."""
        rows = np.arange(len(self)) if ask.allowed_N is None else np.flatnonzero(ask.allowed_N)
        scores = np.empty(len(rows), dtype=np.float32)
        for start in range(0, len(rows), SCAN_BLOCK):
            block = slice(start, start + SCAN_BLOCK)
            scores[block] = self._vectors(rows[block]) @ query_D
        if len(rows) <= ask.limit:
            return rows
        last = np.partition(scores, -ask.limit)[-ask.limit]
        near: NDArray[np.int64] = rows[scores >= last - rounding(query_D, self._largest_norm)]
        return near

    def _arrays(self) -> dict[str, NDArray[Any]]:
        """What is saved beside the ids."""
        return {"faiss": faiss.serialize_index(self._index)}

    def save(self, path: Path) -> None:
        write(path, item_ids=self._item_ids, arrays=self._arrays())

    @classmethod
    def load(cls, path: Path) -> Self:
        item_ids, arrays = read(path, names=["faiss"])
        return cls._of(path, item_ids, arrays)

    @classmethod
    def _of(cls, path: Path, item_ids: list[str], arrays: dict[str, NDArray[Any]]) -> Self:
        """The index of what was read from a file, which is checked as far as FAISS tells."""
        try:
            stored: Any = faiss.deserialize_index(arrays["faiss"])
        except (RuntimeError, ValueError, TypeError, AssertionError) as error:
            raise UnusableIndex(f"{path} is damaged ({error}): {REPAIR}") from error
        is_ours: bool = type(stored) is cls.stored_class
        if (
            not is_ours
            or stored.ntotal != len(item_ids)
            or stored.metric_type != faiss.METRIC_INNER_PRODUCT
        ):
            raise UnusableIndex(
                f"{path} is damaged ({type(stored).__name__} of {stored.ntotal} vectors for "
                f"{len(item_ids)} ids): {REPAIR}"
            )
        index = cls(dim=stored.d)
        index._item_ids = item_ids
        index._held = set(item_ids)
        index._take(stored, arrays)
        rows = np.arange(len(item_ids))
        blocks = (rows[start : start + SCAN_BLOCK] for start in range(0, len(rows), SCAN_BLOCK))
        index._largest_norm = max((largest_norm(index._vectors(one)) for one in blocks), default=0)
        return index

    def _take(self, stored: Any, arrays: dict[str, NDArray[Any]]) -> None:
        """Search in this structure from now on."""
        self._index = stored

    def __len__(self) -> int:
        return len(self._item_ids)


def _is_open(
    scores_K: NDArray[np.float32], rows_K: NDArray[np.int64], slack: float, ask: Ask
) -> bool:
    """Whether too few rows were proposed, or others may tie with the last one sought."""
    num_proposed = int((rows_K >= 0).sum())
    if num_proposed == ask.num_allowed:
        return False
    if num_proposed < ask.limit:
        return True
    return bool(scores_K[num_proposed - 1] >= scores_K[ask.limit - 1] - slack)


def _selector(allowed_N: NDArray[np.bool_]) -> Any:
    return faiss.IDSelectorBitmap(np.packbits(allowed_N, bitorder="little"))
