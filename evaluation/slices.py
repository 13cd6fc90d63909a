"""The same runs over parts of the truth: cold and warm items, short and long histories.

An average hides for whom a system works. Slices of items keep only the chosen items of that kind
as relevant; the rankings stay whole, so the other kind's items stand in the way as they do for a
real user. Slices of users keep the users whose history has that length.
"""

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from evaluation.judgements import Judgement
from evaluation.metrics import ndcg, per_user, recall
from evaluation.runs import Run
from evaluation.significance import Interval, bootstrap

HISTORY_STARTS = (0, 5, 10, 20, 50)  # in distinct items met before being asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """One part's result. `k` is the headline's k; intervals are over the slice's users."""

    group: str
    """`items` or `history`."""
    name: str
    num_users: int
    num_items: int
    """Chosen items that are judged in it, summed over its users."""
    candidate_recall: float
    """Recall of the whole candidate list: what retrieval found."""
    retrieval_order: Mapping[str, float]
    """`ndcg@k` and `recall@k`."""
    rerank: Mapping[str, float]
    delta: Interval
    """Of NDCG@k, reranked minus retrieval order."""


def slices(
    retrieved: Run,
    reranked: Run,
    judgements: Sequence[Judgement],
    *,
    warm_items: Collection[str],
    history_lengths: Mapping[str, int],
    k: int = 10,
    samples: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[Slice, ...]:
    """Every slice that holds at least one user, items first, then histories from short to long."""
    warm = frozenset(warm_items)
    parts = [
        ("items", "cold", _keeping(judgements, lambda item_id: item_id not in warm)),
        ("items", "warm", _keeping(judgements, lambda item_id: item_id in warm)),
    ]
    for start, end in zip(HISTORY_STARTS, (*HISTORY_STARTS[1:], None), strict=True):
        name = f"{start}+" if end is None else f"{start}-{end - 1}"
        lengths = range(start, sys.maxsize if end is None else end)
        users = [one for one in judgements if history_lengths.get(one.user_id, 0) in lengths]
        parts.append(("history", name, users))
    bootstrapped = partial(bootstrap, samples=samples, seed=seed, level=level)
    return tuple(
        _measured(group, name, part, retrieved, reranked, k, bootstrapped)
        for group, name, part in parts
        if part
    )


def _measured(
    group: str,
    name: str,
    part: Sequence[Judgement],
    retrieved: Run,
    reranked: Run,
    k: int,
    bootstrapped: Callable[[NDArray[np.float64]], Interval],
) -> Slice:
    before, after = retrieved.aligned(part), reranked.aligned(part)
    depth = max(1, *map(len, before))
    ndcg_before_U, ndcg_after_U = per_user(before, part, ndcg, k), per_user(after, part, ndcg, k)
    return Slice(
        group=group,
        name=name,
        num_users=len(part),
        num_items=sum(len(one.item_ids) for one in part),
        candidate_recall=float(per_user(before, part, recall, depth).mean()),
        retrieval_order={
            f"ndcg@{k}": float(ndcg_before_U.mean()),
            f"recall@{k}": float(per_user(before, part, recall, k).mean()),
        },
        rerank={
            f"ndcg@{k}": float(ndcg_after_U.mean()),
            f"recall@{k}": float(per_user(after, part, recall, k).mean()),
        },
        delta=bootstrapped(ndcg_after_U - ndcg_before_U),
    )


def _keeping(judgements: Sequence[Judgement], is_kept: Callable[[str], bool]) -> list[Judgement]:
    """Judgements narrowed to the items asked for, without those that are left empty."""
    narrowed = (
        replace(one, item_ids=frozenset(filter(is_kept, one.item_ids))) for one in judgements
    )
    return [one for one in narrowed if one.item_ids]
