"""Short lists of one right answer among drawn negatives in, measures of every system out.

**Not comparable with full ranking.** A sampled metric does not even keep the order of two systems
(Krichene and Rendle, KDD 2020), so these exist to stand beside published numbers, under the names
of the protocols that have them, and never without popularity beside them: evenly drawn negatives
are mostly items that nobody knows, and popularity alone tells them from what is chosen.

Ties count at their expected value: each order of items with equal scores is equally likely. A
score that is NaN says that the system could not judge the item, which then ranks below all others.

Shape legend: U users, K items of a list, the right one first.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.judgements import Judgement
from evaluation.negatives import Negatives
from evaluation.scored import auc
from retrieval.candidates import Query

Score = Callable[[Query, Sequence[str]], Mapping[str, Sequence[float]]]
"""A query and items, by id -> each system's scores of them, larger is better. Systems that share
their work answer together."""
Values = NDArray[np.float64]
POPULARITY = "popularity"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShortList:
    """What one user is asked: which of these?"""

    query: Query
    truth: str
    negatives: tuple[str, ...]

    @property
    def item_ids(self) -> list[str]:
        """All of them by id, so that no place in the list tells the right one."""
        return sorted((self.truth, *self.negatives))


def short_lists(
    judgements: Sequence[Judgement],
    queries: Sequence[Query],
    *,
    negatives: Negatives,
    touched: Mapping[str, frozenset[str]],
    num_negatives: int,
) -> list[ShortList]:
    """One list for each user of whom so many negatives can be drawn; the others are left out.

    Args:
        judgements: Each with exactly one item.
        queries: Aligned to them.
        negatives: What is drawn from.
        touched: All that each user ever met; none of it is ever a negative.
        num_negatives: How many beside the right one.

    Raises:
        ValueError: a judgement of several items, or nobody has enough negatives.
    """
    found = []
    for judgement, query in zip(judgements, queries, strict=True):
        if len(judgement.item_ids) != 1:
            raise ValueError(
                f"user {judgement.user_id!r} has {len(judgement.item_ids)} right answers: these "
                "protocols ask for one"
            )
        (truth,) = judgement.item_ids
        met = touched[judgement.user_id] | {truth}
        drawn = negatives.draw(judgement.user_id, touched=met, num=num_negatives)
        if len(drawn) == num_negatives:
            found.append(ShortList(query=query, truth=truth, negatives=drawn))
    if not found:
        raise ValueError(
            f"nobody is left with {num_negatives} items that they never touched and that may be "
            "drawn: the catalog is too small for this protocol"
        )
    return found


def scored_lists(
    lists: Sequence[ShortList],
    score: Score,
    *,
    popularity: Mapping[str, float],
    on_progress: Callable[[int], None] | None = None,
) -> dict[str, Values]:
    """System -> scores, [U, K], the right item's first; popularity is always among them.

    Raises:
        ValueError: a system leaves out an item, or another system answers than before.
    """
    rows: dict[str, list[list[float]]] = {}
    for done, one in enumerate(lists, start=1):
        item_ids = one.item_ids
        answers = {name: list(scores) for name, scores in score(one.query, item_ids).items()}
        answers[POPULARITY] = [float(popularity.get(item_id, 0.0)) for item_id in item_ids]
        if rows and answers.keys() != rows.keys():
            raise ValueError(f"systems {sorted(answers)} answered after {sorted(rows)}")
        place = item_ids.index(one.truth)
        for name, scores in answers.items():
            if len(scores) != len(item_ids):
                raise ValueError(f"{name} gave {len(scores)} scores of {len(item_ids)} items")
            rows.setdefault(name, []).append([scores[place], *scores[:place], *scores[place + 1 :]])
        if on_progress is not None:
            on_progress(done)
    return {name: np.array(scores, dtype=np.float64) for name, scores in rows.items()}


def ranks(scores_UK: Values) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many items rank above the right one, and how many negatives share its score, [U]."""
    comparable_UK = np.where(np.isnan(scores_UK), -np.inf, scores_UK)
    truth_U1, others = comparable_UK[:, :1], comparable_UK[:, 1:]
    return (others > truth_U1).sum(axis=1), (others == truth_U1).sum(axis=1)


def is_valid(scores_UK: Values) -> Values:
    """1 where the system could judge any item of the list, so that it has an answer, else 0."""
    return np.asarray((~np.isnan(scores_UK)).any(axis=1), dtype=np.float64)


def list_auc(scores_UK: Values) -> Values:
    """The share of negatives that the right item outranks, a tie counting half, [U]."""
    above_U, tied_U = ranks(scores_UK)
    num = scores_UK.shape[1] - 1
    shares_U: Values = (num - above_U - tied_U / 2) / num
    return shares_U


def pooled_auc(scores_UK: Values) -> float:
    """AUC over all users' items together, as pointwise models report it; NaN scores are lowest."""
    comparable_UK = np.where(np.isnan(scores_UK), -np.finfo(np.float64).max, scores_UK)
    is_truth_UK = np.zeros(scores_UK.shape, dtype=bool)
    is_truth_UK[:, 0] = True
    return auc(comparable_UK.ravel(), is_truth_UK.ravel())


def at_k(scores_UK: Values, k: int) -> dict[str, Values]:
    """Hit rate, reciprocal rank and NDCG at k, each at its expected value over ties, [U].

    With one right answer at rank r <= k these are 1, 1 / r and 1 / log2(r + 1); beyond k all are 0.
    A user for whom the system has no answer counts as 0.
    """
    num_items = scores_UK.shape[1]
    rank_K = np.arange(1, num_items + 1)
    is_seen_K = rank_K <= k
    gains = {
        f"hr@{k}": is_seen_K.astype(np.float64),
        f"mrr@{k}": is_seen_K / rank_K,
        f"ndcg@{k}": is_seen_K / np.log2(rank_K + 1),
    }
    above_U, tied_U = ranks(scores_UK)
    valid_U = is_valid(scores_UK)
    found = {}
    for name, gain_K in gains.items():
        sums = np.concatenate([[0.0], np.cumsum(gain_K)])
        means_U = (sums[above_U + tied_U + 1] - sums[above_U]) / (tied_U + 1)
        found[name] = means_U * valid_U
    return found
