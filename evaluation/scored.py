"""Scores of single items in, how well they tell right from wrong and how true they are out.

AUC asks for the order alone: the share of all (right, wrong) pairs in which the right one is scored
higher, a tie counting half, which is the same as ranking ties at their middle rank (Mann and
Whitney, 1947; Hanley and McNeil, Radiology 1982). `grouped_auc` asks within each user, since
no list is made across users (GAUC: Zhou et al., KDD 2018). Calibration asks whether of the items
scored p a share of p was chosen.

Only ranked items are looked at: an item that retrieval missed is neither right nor wrong here.

Shape legend: N scored items of all users, U users, V users with an AUC.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from evaluation.judgements import Judgement
from evaluation.runs import Run

NUM_BINS = 15

Scores = NDArray[np.float64]
Labels = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scored:
    """Every ranked item of every judged user, one after the other."""

    scores_N: Scores
    is_chosen_N: Labels
    users_N: NDArray[np.int64]
    """The user's place among the judgements, never falling."""
    num_users: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GroupedAuc:
    """AUC within users."""

    mean: float | None
    """The plain mean over users with an AUC (macro, as every metric here); None where no user
    has one."""
    weighted: float | None
    """The mean weighted by the number of scored items, as GAUC was first defined; None likewise."""
    values_U: NDArray[np.float64]
    """By user, aligned to the judgements; NaN for a user whose list holds only right or only
    wrong items, or none: there is no pair to order, so such a user counts in no mean."""
    num_without: int
    """How many users that are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """Items of neighboring probabilities: one point of the reliability curve."""

    low: float
    high: float
    """The least and the largest probability in it."""
    mean: float
    """The mean probability: what was promised."""
    share: float
    """The share that was chosen: what was kept."""
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """How true probabilities are."""

    ece: float
    """Expected calibration error: |share - mean| of each bin, weighted by its count."""
    largest: float
    """The largest |share - mean| of a bin."""
    brier: float
    """The mean squared difference of probability and outcome."""
    bins: tuple[Bin, ...]
    """From the lowest probabilities to the highest."""


def scored(run: Run, judgements: Sequence[Judgement]) -> Scored:
    """A run's scores beside what was chosen.

    Raises:
        ValueError: the run has no scores, or a judged user is missing from it.
    """
    if run.scores is None:
        raise ValueError(f"run {run.name!r} has no scores, only an order")
    rankings = run.aligned(judgements)
    lengths = np.fromiter(map(len, rankings), dtype=np.int64, count=len(rankings))
    scores = chain.from_iterable(run.scores[one.user_id] for one in judgements)
    found = chain.from_iterable(
        map(one.item_ids.__contains__, ranked)
        for one, ranked in zip(judgements, rankings, strict=True)
    )
    num_items = int(lengths.sum())
    return Scored(
        scores_N=np.fromiter(scores, dtype=np.float64, count=num_items),
        is_chosen_N=np.fromiter(found, dtype=np.bool_, count=num_items),
        users_N=np.repeat(np.arange(len(rankings)), lengths),
        num_users=len(rankings),
    )


def auc(scores_N: Scores, is_chosen_N: Labels) -> float:
    """The chance that a chosen item is scored above one that was not, ties counting half.

    Raises:
        ValueError: not aligned, a score that is no number, or items of one kind only.
    """
    _check(scores_N, is_chosen_N)
    everything = Scored(
        scores_N=scores_N,
        is_chosen_N=is_chosen_N,
        users_N=np.zeros(len(scores_N), dtype=np.int64),
        num_users=1,
    )
    value = float(_auc_by_user(everything)[0])
    if np.isnan(value):
        raise ValueError("AUC needs at least one chosen item and one that was not chosen")
    return value


def grouped_auc(found: Scored) -> GroupedAuc:
    """AUC of each user's own list, and its means over users.

    Raises:
        ValueError: not aligned, or a score that is no number.
    """
    _check(found.scores_N, found.is_chosen_N)
    values_U = _auc_by_user(found)
    has_auc_U = ~np.isnan(values_U)
    counts_U = np.bincount(found.users_N, minlength=found.num_users)
    known_V, weights_V = values_U[has_auc_U], counts_U[has_auc_U]
    return GroupedAuc(
        mean=float(known_V.mean()) if len(known_V) else None,
        weighted=float(np.average(known_V, weights=weights_V)) if len(known_V) else None,
        values_U=values_U,
        num_without=int((~has_auc_U).sum()),
    )


def calibration(
    probabilities_N: Scores, is_chosen_N: Labels, *, num_bins: int = NUM_BINS
) -> Calibration:
    """Expected calibration error over bins that hold about equally many items.

    Bins of equal width would put nearly all items of a recommender into the lowest. Equal
    probabilities are never parted: a border within them moves up, so bins may be fewer and
    uneven (Nguyen and O'Connor, EMNLP 2015).

    Raises:
        ValueError: not aligned, no items, a probability outside [0, 1], or no bins.
    """
    _check(probabilities_N, is_chosen_N)
    if not len(probabilities_N) or num_bins < 1:
        raise ValueError(f"nothing to bin: {len(probabilities_N)} items, {num_bins} bins")
    if probabilities_N.min() < 0 or probabilities_N.max() > 1:
        raise ValueError(
            f"probabilities lie in [0, 1], got {probabilities_N.min()} to {probabilities_N.max()}; "
            "give a logit's sigmoid"
        )
    order = np.argsort(probabilities_N, kind="stable")
    rising_N, chosen_N = probabilities_N[order], is_chosen_N[order].astype(np.float64)
    evenly = len(rising_N) * np.arange(1, num_bins + 1) // num_bins
    ends = np.unique(np.searchsorted(rising_N, rising_N[evenly[evenly > 0] - 1], side="right"))
    starts = np.concatenate([[0], ends[:-1]])
    bins = tuple(
        Bin(
            low=float(rising_N[start]),
            high=float(rising_N[end - 1]),
            mean=float(rising_N[start:end].mean()),
            share=float(chosen_N[start:end].mean()),
            count=int(end - start),
        )
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
    )
    return Calibration(
        ece=sum(abs(one.share - one.mean) * one.count for one in bins) / len(rising_N),
        largest=max(abs(one.share - one.mean) for one in bins),
        brier=float(np.mean((rising_N - chosen_N) ** 2)),
        bins=bins,
    )


def _auc_by_user(found: Scored) -> NDArray[np.float64]:
    """(ranks of the chosen, summed, less their least possible sum) / pairs; NaN without pairs."""
    order = np.lexsort((found.scores_N, found.users_N))
    scores_N, users_N = found.scores_N[order], found.users_N[order]
    chosen_N = found.is_chosen_N[order].astype(np.float64)
    places_N = np.arange(1, len(order) + 1, dtype=np.float64)
    is_start_N = np.ones(len(order), dtype=np.bool_)
    is_start_N[1:] = (scores_N[1:] != scores_N[:-1]) | (users_N[1:] != users_N[:-1])
    ties_N = np.cumsum(is_start_N) - 1
    middle_N = (np.bincount(ties_N, weights=places_N) / np.maximum(np.bincount(ties_N), 1))[ties_N]
    counts_U = np.bincount(users_N, minlength=found.num_users)
    before_U = np.cumsum(counts_U) - counts_U
    ranks_N = middle_N - before_U[users_N]
    num_chosen_U = np.bincount(users_N, weights=chosen_N, minlength=found.num_users)
    summed_U = np.bincount(users_N, weights=ranks_N * chosen_N, minlength=found.num_users)
    pairs_U = num_chosen_U * (counts_U - num_chosen_U)
    above_U = summed_U - num_chosen_U * (num_chosen_U + 1) / 2
    values_U = np.full(found.num_users, np.nan)
    np.divide(above_U, pairs_U, out=values_U, where=pairs_U > 0)
    return values_U


def _check(scores_N: Scores, is_chosen_N: Labels) -> None:
    if scores_N.shape != is_chosen_N.shape or scores_N.ndim != 1:
        raise ValueError(f"one score for each item: got {scores_N.shape} and {is_chosen_N.shape}")
    if not np.isfinite(scores_N).all():
        raise ValueError("a score is not finite")
