"""Ranked item ids and a set of relevant ones in, a number between 0 and 1 out.

Gains are binary: an item was chosen or it was not. `rel` is the set of relevant items, `hit_i` is
1 where the item at rank i (from 1) is in it. A ranking shorter than k is treated as if items that
nobody chose followed. Rankings hold each item once and carry no scores: whoever makes a ranking
has settled its ties already (by item id).

Everything is computed for each user and then averaged over users (macro): a user with one choice
counts as much as a user with fifty. The functions here are the definitions, one user at a time;
`evaluation.hits` has the same values for many users at once.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet

import numpy as np
from numpy.typing import NDArray

from evaluation.hits import hits
from evaluation.judgements import Judgement

Metric = Callable[[Sequence[str], AbstractSet[str], int], float]


def ndcg(ranked: Sequence[str], relevant: AbstractSet[str], k: int) -> float:
    """Normalized discounted cumulative gain.

    sum over i <= k of hit_i / log2(i + 1), divided by the same sum of the ideal ranking, which
    has hits at its first min(|rel|, k) ranks (Järvelin and Kekäläinen, TOIS 2002).
    """
    gain = sum(1 / math.log2(i + 1) for i in _hit_ranks(ranked, relevant, k))
    ideal = sum(1 / math.log2(i + 1) for i in range(1, min(len(relevant), k) + 1))
    return gain / ideal if ideal else 0.0


def hit_rate(ranked: Sequence[str], relevant: AbstractSet[str], k: int) -> float:
    """1 where any of the first k is relevant, else 0."""
    return 1.0 if _hit_ranks(ranked, relevant, k) else 0.0


def recall(ranked: Sequence[str], relevant: AbstractSet[str], k: int) -> float:
    """sum over i <= k of hit_i, divided by |rel|. Below 1 for every ranking where |rel| > k."""
    return len(_hit_ranks(ranked, relevant, k)) / len(relevant) if relevant else 0.0


def mrr(ranked: Sequence[str], relevant: AbstractSet[str], k: int) -> float:
    """Reciprocal rank: 1 / i of the first relevant item at rank i <= k, else 0.

    Its mean over users is the mean reciprocal rank.
    """
    ranks = _hit_ranks(ranked, relevant, k)
    return 1 / ranks[0] if ranks else 0.0


def precision(ranked: Sequence[str], relevant: AbstractSet[str], k: int) -> float:
    """sum over i <= k of hit_i, divided by k, also where fewer than k are ranked."""
    return len(_hit_ranks(ranked, relevant, k)) / k


def average_precision(ranked: Sequence[str], relevant: AbstractSet[str], k: int) -> float:
    """sum over i <= k of hit_i * precision@i, divided by |rel|, as trec_eval has it.

    Its mean over users is the mean average precision.
    """
    if not relevant:
        return 0.0
    ranks = _hit_ranks(ranked, relevant, k)
    return sum(num / i for num, i in enumerate(ranks, start=1)) / len(relevant)


METRICS: Mapping[str, Metric] = {
    "ndcg": ndcg,
    "hr": hit_rate,
    "recall": recall,
    "mrr": mrr,
    "precision": precision,
    "map": average_precision,
}


def per_user(
    rankings: Sequence[Sequence[str]], judgements: Sequence[Judgement], metric: Metric, k: int
) -> NDArray[np.float64]:
    """One value for each user, in the order of the judgements; the rankings are aligned to them.

    The metrics of `METRICS` are computed for all users at once (`evaluation.hits`), any other one
    user by user. Several metrics or ks of the same rankings come cheaper from one
    `evaluation.hits.hits`, as `evaluation.runs.measure` takes them.

    Raises:
        ValueError: there are more rankings than judgements, or fewer, or k is below 1.
    """
    table = hits(rankings, judgements, depth=k)
    name = next((name for name, one in METRICS.items() if one is metric), None)
    if name is not None:
        return table.values({name: (k,)})[f"{name}@{k}"]
    values = [
        metric(ranked, judgement.item_ids, k)
        for ranked, judgement in zip(rankings, judgements, strict=True)
    ]
    return np.array(values, dtype=np.float64)


def _hit_ranks(ranked: Sequence[str], relevant: AbstractSet[str], k: int) -> list[int]:
    """The ranks from 1 to k at which a relevant item stands, rising."""
    return [i for i, item_id in enumerate(ranked[:k], start=1) if item_id in relevant]
