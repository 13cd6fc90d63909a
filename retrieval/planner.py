"""Queries and a filter in, the best allowed items out, by whichever way finds them.

An index that does not search exactly looks where a query's neighbors are, and a filter may allow
none of those. So of three ways one is taken:

* few allowed rows: they are all compared, exactly (`retrieval.scan`);
* many: the index is asked, with an effort raised as much as the filter thins the rows out;
* the index finds too few, or would have to look harder than it is made for: all are compared.

The second is checked by asking for more than is wanted: an index that cannot fill a longer list
than asked for was looking where little is allowed, and its list may lack the best.

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

SCAN_ROWS = 20_000  # so few allowed rows are compared one and all
SURPLUS = 4  # times the limit: how much an index must find for its list to be believed


class Searcher:
    """An index, its items' vectors and attributes. Safe to ask from several threads."""

    def __init__(
        self,
        index: Index,
        item_vectors: ItemVectors,
        attributes: Attributes | None = None,
        *,
        scan_rows: int = SCAN_ROWS,
    ) -> None:
        """Join the parts.

        Args:
            index: Not to be added to any more.
            item_vectors: All items of the index, and perhaps more.
            attributes: What items are filtered by; None knows no column, but ids.
            scan_rows: At most so many allowed rows are always compared one and all.

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
        self._scan_rows = scan_rows
        self._removed: frozenset[str] = frozenset()
        self._removed_places: list[int] = []

    def without(self, item_ids: frozenset[str]) -> "Searcher":
        """The same, finding none of these items; unknown ones do no harm."""
        other = copy(self)
        other._removed = self._removed | (item_ids & self._place_of.keys())
        other._removed_places = [self._place_of[one] for one in other._removed]
        return other

    def search(
        self,
        queries_QD: NDArray[np.float32],
        *,
        limit: int,
        filter: Filter | None = None,
    ) -> list[list[tuple[str, float]]]:
        """For each query `limit` (item id, score) pairs, best first, ties by item id.

        Fewer only where fewer are allowed; without a filter, where the index finds fewer.

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
        if num_allowed > self._scan_rows and not self._index.efforts:
            return self._index.search(queries_QD, limit=limit, allowed_N=allowed_N)
        effort = self._effort(num_allowed)
        if effort is None:
            return self._scan(queries_QD, allowed_N, limit)
        wanted = min(SURPLUS * limit, num_allowed)
        found = self._index.search(queries_QD, limit=wanted, allowed_N=allowed_N, effort=effort)
        starved = [row for row, pairs in enumerate(found) if len(pairs) < wanted]
        if starved:
            complete = self._scan(queries_QD[starved], allowed_N, limit)
            for row, pairs in zip(starved, complete, strict=True):
                found[row] = pairs
        return [pairs[:limit] for pairs in found]

    def _allowed(self, filter: Filter | None) -> NDArray[np.bool_]:
        """By row of the index: whether its item may be found."""
        mask_N = self._attributes.allowed(filter or Filter())
        if self._removed:
            mask_N = mask_N.copy()
            mask_N[self._removed_places] = False
        return mask_N

    def _effort(self, num_allowed: int) -> int | None:
        """How hard the index has to look for what it finds unfiltered; None: beyond its means."""
        effort = math.ceil(self._index.effort * len(self._item_ids) / num_allowed)
        if num_allowed <= self._scan_rows or effort > self._index.efforts[-1]:
            return None
        return effort

    def _scan(
        self, queries_QD: NDArray[np.float32], allowed_N: NDArray[np.bool_], limit: int
    ) -> list[list[tuple[str, float]]]:
        return scan(
            queries_QD,
            self._items.vectors_ND,
            self._items.item_ids,
            rows_R=self._rows_N[allowed_N],
            limit=limit,
        )
