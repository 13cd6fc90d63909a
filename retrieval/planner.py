"""Queries and a filter in, the best allowed items out, by whichever way finds them.

An index that does not search exactly looks where a query's neighbors are, and a filter may allow
few of those or none, however many it allows elsewhere. So the way is chosen for each query:

* few rows are allowed at all: they are compared one and all, exactly (`retrieval.scan`);
* else the index is asked without the filter, for some more than are wanted. What is allowed of
  these are the best; where they are enough, they are the answer;
* else the share that was allowed tells how much further the index must look: it is asked with the
  filter and as much more effort;
* where that is more than it is made for, or it finds too few, all allowed rows are compared.

The share is that of the query's own neighborhood. That of the catalog misleads: a filter may keep
half of all items, and none that is near.

Shape legend: Q queries, N rows of the index, R rows scanned, D dimensions.
"""

import math
from copy import copy

import numpy as np
from numpy.typing import NDArray

from retrieval.attributes import Attributes
from retrieval.base import Index
from retrieval.concatenated import ItemVectors
from retrieval.filters import Filter
from retrieval.order import check_finite, check_limit
from retrieval.scan import scan

SCAN_PRODUCTS = 1 << 20  # so many numbers of allowed rows are compared sooner than an index asked
DEPTH = 2  # times the limit: how many are asked for without the filter
SURPLUS = 2  # times the effort that the allowed share calls for, as it may thin out farther away

Found = list[tuple[str, float]]


class Searcher:
    """An index, its items' vectors and attributes. Safe to ask from several threads."""

    def __init__(
        self,
        index: Index,
        item_vectors: ItemVectors,
        attributes: Attributes | None = None,
        *,
        scan_products: int = SCAN_PRODUCTS,
    ) -> None:
        """Join the parts.

        Args:
            index: Not to be added to any more.
            item_vectors: All items of the index, and perhaps more.
            attributes: What items are filtered by; None knows no column, but ids.
            scan_products: Allowed rows that hold at most so many numbers are always compared one
                and all.

        Raises:
            ValueError: an item of the index has no vector here.
        """
        self._index = index
        self._items = item_vectors
        self._item_ids = tuple(index.item_ids)
        unknown = [one for one in self._item_ids if one not in item_vectors.row_of]
        if unknown:
            raise ValueError(
                f"{len(unknown)} items of the index, such as {unknown[0]!r}, are not among the "
                f"item vectors: build both from the same items"
            )
        self._rows_N = np.array([item_vectors.row_of[one] for one in self._item_ids], np.int64)
        self._place_of = {item_id: place for place, item_id in enumerate(self._item_ids)}
        self._attributes = (attributes or Attributes((), {})).aligned(self._item_ids)
        self._scan_rows = scan_products // index.dim
        self._removed: frozenset[str] = frozenset()
        self._removed_places: list[int] = []

    def without(self, item_ids: frozenset[str]) -> "Searcher":
        """The same, finding none of these items; unknown ones do no harm."""
        other = copy(self)
        other._removed = self._removed | (item_ids & self._place_of.keys())
        other._removed_places = [self._place_of[one] for one in other._removed]
        return other

    def search(
        self, queries_QD: NDArray[np.float32], *, limit: int, filter: Filter | None = None
    ) -> list[Found]:
        """For each query `limit` (item id, score) pairs, best first, ties by item id.

        Fewer only where fewer are allowed; without a filter, where the index finds fewer. A query
        is answered alone as among others.

        Args:
            queries_QD: The queries, of any length.
            limit: How many to return.
            filter: Which items may be found; None allows all.

        Raises:
            ValueError: a filter on an unknown column (`retrieval.attributes`), a wrong dimension,
                a value that is not finite, or a limit below 1.
        """
        check_limit(limit)
        queries_QD = check_finite(queries_QD, dim=self._index.dim)
        if (filter is None or filter.is_empty) and len(self._removed) <= limit:
            found = self._index.search(queries_QD, limit=limit + len(self._removed))
            if self._removed:
                found = [[one for one in some if one[0] not in self._removed] for some in found]
            return [pairs[:limit] for pairs in found]
        allowed_N = self._allowed(filter)
        num_allowed = int(allowed_N.sum())
        if not num_allowed:
            return [[] for _ in queries_QD]
        if num_allowed <= self._scan_rows:
            return self._scanned(queries_QD, allowed_N, limit)
        if not self._index.efforts:
            return self._index.search(queries_QD, limit=limit, allowed_N=allowed_N)
        return self._planned(queries_QD, allowed_N, min(limit, num_allowed))

    def _allowed(self, filter: Filter | None) -> NDArray[np.bool_]:
        """By row of the index: whether its item may be found."""
        mask_N = self._attributes.allowed(filter or Filter())
        if self._removed:
            mask_N = mask_N.copy()
            mask_N[self._removed_places] = False
        return mask_N

    def _planned(
        self, queries_QD: NDArray[np.float32], allowed_N: NDArray[np.bool_], limit: int
    ) -> list[Found]:
        """`limit` allowed items for each query, by an index that does not search exactly."""
        near = self._index.search(
            queries_QD,
            limit=DEPTH * limit,
            effort=min(DEPTH * self._index.effort, self._index.efforts[-1]),
        )
        found = [[one for one in some if allowed_N[self._place_of[one[0]]]] for some in near]
        by_effort: dict[int, list[int]] = {}
        for query, pairs in enumerate(found):
            if len(pairs) < limit:
                share = max(len(pairs), 0.5) / (DEPTH * limit)
                effort = math.ceil(SURPLUS * self._index.effort / share)
                by_effort.setdefault(effort, []).append(query)
        for effort, queries in by_effort.items():
            if effort <= self._index.efforts[-1]:
                answers = self._index.search(
                    queries_QD[queries], limit=limit, allowed_N=allowed_N, effort=effort
                )
                for query, pairs in zip(queries, answers, strict=True):
                    found[query] = pairs
        starved = [query for query, pairs in enumerate(found) if len(pairs) < limit]
        if starved:
            answers = self._scanned(queries_QD[starved], allowed_N, limit)
            for query, pairs in zip(starved, answers, strict=True):
                found[query] = pairs
        return [pairs[:limit] for pairs in found]

    def _scanned(
        self, queries_QD: NDArray[np.float32], allowed_N: NDArray[np.bool_], limit: int
    ) -> list[Found]:
        return scan(
            queries_QD,
            self._items.vectors_ND,
            self._items.item_ids,
            rows_R=self._rows_N[allowed_N],
            limit=limit,
            norm=math.sqrt(len(self._items.names)),  # of as many unit vectors side by side
        )
