"""Rankings and judgements in, one table of hits out, and from it every metric at every k.

The formulas are those of `evaluation.metrics`, and so are the values, to the last bit: sums run
along the ranks in the same order. Users are taken in blocks, so that memory stays bounded.

Shape legend: U users, B users of one block, K ranks.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from evaluation.judgements import Judgement

BLOCK_VALUES = 1_000_000  # of the table of one block of users

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Hits:
    """Where each user's right answers stand."""

    is_hit_UK: NDArray[np.bool_]
    """Whether the item at rank k + 1 was chosen; False where fewer are ranked."""
    num_relevant_U: NDArray[np.int64]
    """How many items each user chose, ranked or not."""

    def values(self, wanted: Mapping[str, Sequence[int]]) -> dict[str, Values]:
        """Metric name -> its ks in; `<metric>@<k>` -> one value for each user out.

        A k beyond the table's depth is answered as if items that nobody chose followed, which is
        wrong where rankings were cut to that depth: make the table as deep as the largest k.
        """
        found = {f"{name}@{k}": np.zeros(len(self.num_relevant_U)) for name in wanted
                 for k in wanted[name]}  # fmt: skip
        for block in self._blocks():
            sums = _Sums(self.is_hit_UK[block], self.num_relevant_U[block])
            for name, ks in wanted.items():
                for k in ks:
                    found[f"{name}@{k}"][block] = FROM_SUMS[name](sums, k)
        return found

    def _blocks(self) -> Iterator[slice]:
        num_users, depth = self.is_hit_UK.shape
        size = max(1, BLOCK_VALUES // depth)
        for start in range(0, num_users, size):
            yield slice(start, start + size)


def hits(rankings: Sequence[Sequence[str]], judgements: Sequence[Judgement], *, depth: int) -> Hits:
    """The table of the first `depth` ranks, users in the order of the judgements.

    Raises:
        ValueError: there are more rankings than judgements, or fewer, or `depth` is below 1.
    """
    if len(rankings) != len(judgements):
        raise ValueError(f"{len(rankings)} rankings for {len(judgements)} judgements")
    if depth < 1:
        raise ValueError(f"a metric looks at k >= 1 ranks, got {depth}")
    heads = [ranked[:depth] for ranked in rankings]
    lengths_U = np.fromiter(map(len, heads), dtype=np.int64, count=len(heads))
    found = chain.from_iterable(
        map(one.item_ids.__contains__, head) for one, head in zip(judgements, heads, strict=True)
    )
    is_hit_UK = np.zeros((len(heads), max(1, int(lengths_U.max(initial=0)))), dtype=np.bool_)
    is_ranked_UK = np.arange(is_hit_UK.shape[1]) < lengths_U[:, None]
    is_hit_UK[is_ranked_UK] = np.fromiter(found, dtype=np.bool_, count=int(lengths_U.sum()))
    num_relevant = (len(one.item_ids) for one in judgements)
    return Hits(
        is_hit_UK=is_hit_UK,
        num_relevant_U=np.fromiter(num_relevant, dtype=np.int64, count=len(judgements)),
    )


class _Sums:
    """One block's running sums along the ranks, each made once and read at every k."""

    def __init__(self, is_hit_BK: NDArray[np.bool_], num_relevant_B: NDArray[np.int64]) -> None:
        depth = is_hit_BK.shape[1]
        discounts_K = np.array([1 / math.log2(i + 1) for i in range(1, depth + 1)])
        self.num_relevant_B = num_relevant_B
        self.hits_BK = np.cumsum(is_hit_BK, axis=1)
        self.gains_BK = np.cumsum(is_hit_BK * discounts_K, axis=1)
        ranks_K = np.arange(1, depth + 1)
        self.precisions_BK = np.cumsum(is_hit_BK * (self.hits_BK / ranks_K), axis=1)
        self.first_rank_B = np.where(is_hit_BK.any(axis=1), is_hit_BK.argmax(axis=1) + 1, np.inf)

    def at(self, sums_BK: NDArray[np.generic], k: int) -> Values:
        """A running sum after k ranks, or after the last where fewer are ranked."""
        return sums_BK[:, min(k, sums_BK.shape[1]) - 1].astype(np.float64)


def _ndcg(sums: _Sums, k: int) -> Values:
    ideal_K = np.cumsum([0.0, *(1 / math.log2(i + 1) for i in range(1, k + 1))])
    return _share(sums.at(sums.gains_BK, k), ideal_K[np.minimum(sums.num_relevant_B, k)])


def _hit_rate(sums: _Sums, k: int) -> Values:
    return (sums.first_rank_B <= k).astype(np.float64)


def _recall(sums: _Sums, k: int) -> Values:
    return _share(sums.at(sums.hits_BK, k), sums.num_relevant_B)


def _mrr(sums: _Sums, k: int) -> Values:
    return np.where(sums.first_rank_B <= k, 1 / sums.first_rank_B, 0.0)


def _precision(sums: _Sums, k: int) -> Values:
    return sums.at(sums.hits_BK, k) / k


def _average_precision(sums: _Sums, k: int) -> Values:
    return _share(sums.at(sums.precisions_BK, k), sums.num_relevant_B)


def _share(part_B: Values, whole_B: NDArray[np.int64] | Values) -> Values:
    """Part by whole; 0 where the whole is 0."""
    return np.divide(part_B, whole_B, out=np.zeros_like(part_B), where=whole_B > 0)


FROM_SUMS: Mapping[str, Callable[[_Sums, int], Values]] = {
    "ndcg": _ndcg,
    "hr": _hit_rate,
    "recall": _recall,
    "mrr": _mrr,
    "precision": _precision,
    "map": _average_precision,
}
