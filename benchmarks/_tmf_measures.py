"""Scores of items in, each user's HR@1 among 20 and NDCG@10 of 100 retrieved items out.

HR@1 is the mean over a user's lists, one for each choice; equal scores count at their expected
value. NDCG@10 is of what the retriever found, put in a system's order, for a drawn part of the
users; what it did not find counts as missed; ties fall by id.

How far items' tokens spread tells a training that went well from one that did not, without lists.

Shape legend: U users, L lists, K items of a list, the chosen one first; N items, D numbers of an
item's tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from _tmf_models import Score
from _tmf_sets import Asked
from numpy.typing import NDArray

from evaluation.metrics import ndcg
from evaluation.sampled import at_k

DEPTH = 10


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One system's values."""

    hr_U: NDArray[np.float64]
    """HR@1, of every user."""
    ndcg_U: NDArray[np.float64]
    """NDCG@10, of those for whom there are retrieved items."""


def measure(
    asked: Sequence[Asked],
    lists: Sequence[Sequence[tuple[str, ...]]],
    score: Score,
    *,
    found: Mapping[str, Sequence[str]],
) -> Measured:
    """Ask a system for all of these users.

    Args:
        asked: Users with what they chose.
        lists: For each of them, lists of one choice and what was drawn beside it.
        score: The system.
        found: For some of the users, what was retrieved.
    """
    hits, gains = [], []
    for one, own in zip(asked, lists, strict=True):
        retrieved = found.get(one.user_id, ())
        scores = score(one, sorted({*retrieved, *(item_id for row in own for item_id in row)}))
        scores_LK = np.array([[scores[item_id] for item_id in row] for row in own])
        hits.append(at_k(scores_LK, 1)["hr@1"].mean())
        if one.user_id in found:
            ranking = sorted(retrieved, key=lambda item_id: (-scores[item_id], item_id))
            gains.append(ndcg(ranking, frozenset(one.chosen), DEPTH))
    return Measured(hr_U=np.array(hits), ndcg_U=np.array(gains))


def drawn(asked: Sequence[Asked], num: int) -> frozenset[str]:
    """So many of these users, or all."""
    user_ids = sorted(one.user_id for one in asked)
    kept = np.random.default_rng(0).permutation(len(user_ids))[:num]
    return frozenset(user_ids[place] for place in kept)


def spread(tokens_ND: NDArray[np.float32]) -> float:
    """Along how many directions items differ: the participation ratio of their covariance's
    eigenvalues. 1 where all lie on a line, D where they spread evenly."""
    centered_ND = tokens_ND.astype(np.float64) - tokens_ND.mean(axis=0, dtype=np.float64)
    powers = np.linalg.svd(centered_ND, compute_uv=False) ** 2
    return float(powers.sum() ** 2 / np.square(powers).sum())
