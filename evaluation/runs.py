"""One system's rankings for many users in, its value of every metric for every user out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.judgements import Judgement
from evaluation.metrics import METRICS, per_user, recall

KS = (5, 10, 20)
RECALL_KS = (20, 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one system ranked for whom, best first. An empty ranking says that it found nothing.

    Raises:
        ValueError: an item occurs twice in one ranking, which would count a hit twice.
    """

    name: str
    rankings: Mapping[str, Sequence[str]]
    """By user id."""

    def __post_init__(self) -> None:
        for user_id, ranked in self.rankings.items():
            if len(set(ranked)) != len(ranked):
                raise ValueError(f"run {self.name!r} ranks an item twice for user {user_id!r}")

    def aligned(self, judgements: Sequence[Judgement]) -> list[Sequence[str]]:
        """The rankings in the order of the judgements.

        Raises:
            ValueError: a judged user is missing.
        """
        missing = [one.user_id for one in judgements if one.user_id not in self.rankings]
        if missing:
            raise ValueError(
                f"run {self.name!r} ranks nothing for {len(missing)} judged users, the first is "
                f"{missing[0]!r}; give an empty ranking where nothing was found"
            )
        return [self.rankings[one.user_id] for one in judgements]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """One run's values, by `<metric>@<k>`, each in the order of `user_ids`."""

    run: str
    user_ids: tuple[str, ...]
    values: Mapping[str, NDArray[np.float64]]

    def mean(self, measure: str) -> float:
        """The macro average: the plain mean over users."""
        return float(self.values[measure].mean())


def measure(
    run: Run,
    judgements: Sequence[Judgement],
    *,
    ks: Sequence[int] = KS,
    recall_ks: Sequence[int] = RECALL_KS,
) -> Scores:
    """Every metric at every k of `ks`, and recall alone at those of `recall_ks`.

    Raises:
        ValueError: a judged user is missing from the run.
    """
    rankings = run.aligned(judgements)
    values = {
        f"{name}@{k}": per_user(rankings, judgements, metric, k)
        for name, metric in METRICS.items()
        for k in ks
    }
    values |= {f"recall@{k}": per_user(rankings, judgements, recall, k) for k in recall_ks}
    return Scores(run=run.name, user_ids=tuple(one.user_id for one in judgements), values=values)


def popularity_run(
    order: Sequence[str],
    judgements: Sequence[Judgement],
    seen: Mapping[str, frozenset[str]],
    *,
    limit: int = 100,
) -> Run:
    """The baseline that knows nobody: the most popular items that the user has not met."""
    rankings: dict[str, list[str]] = {}
    for judgement in judgements:
        met = seen.get(judgement.user_id, frozenset())
        head = order[: limit + len(met)]
        rankings[judgement.user_id] = [item_id for item_id in head if item_id not in met][:limit]
    return Run(name="popularity", rankings=rankings)


def ceiling_run(retrieved: Run, judgements: Sequence[Judgement]) -> Run:
    """The same candidates in the best order there is: the most that any reranker could reach."""
    rankings: dict[str, list[str]] = {}
    for judgement in judgements:
        ranked = retrieved.rankings[judgement.user_id]
        chosen = [item_id for item_id in ranked if item_id in judgement.item_ids]
        rankings[judgement.user_id] = chosen + [
            item_id for item_id in ranked if item_id not in judgement.item_ids
        ]
    return Run(name="ceiling", rankings=rankings)
