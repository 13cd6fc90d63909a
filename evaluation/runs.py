"""One system's rankings for many users in, its value of every metric for every user out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.hits import hits
from evaluation.judgements import Judgement
from evaluation.metrics import METRICS

KS = (5, 10, 20)
RECALL_KS = (20, 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one system ranked for whom, best first. An empty ranking says that it found nothing.

    Raises:
        ValueError: an item occurs twice in one ranking, which would count a hit twice; or scores
            that are not one finite number for each ranked item.
    """

    name: str
    rankings: Mapping[str, Sequence[str]]
    """By user id."""
    scores: Mapping[str, Sequence[float]] | None = None
    """By user id, aligned to `rankings`; larger is better. None: only the order is known. The
    order is the ranking's: a score need not fall along it, since an item that could not be
    scored comes last whatever stands beside it."""

    def __post_init__(self) -> None:
        for user_id, ranked in self.rankings.items():
            if len(set(ranked)) != len(ranked):
                raise ValueError(f"run {self.name!r} ranks an item twice for user {user_id!r}")
        if self.scores is not None:
            self._check_scores(self.scores)

    def _check_scores(self, scores: Mapping[str, Sequence[float]]) -> None:
        for user_id, ranked in self.rankings.items():
            of_user = scores.get(user_id, ())
            if len(of_user) != len(ranked):
                raise ValueError(
                    f"run {self.name!r} has {len(of_user)} scores for {len(ranked)} items of user "
                    f"{user_id!r}"
                )
            if not np.isfinite(of_user).all():
                raise ValueError(
                    f"run {self.name!r} has a score that is no finite number for user {user_id!r}"
                )

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
    wanted = {name: tuple(ks) for name in METRICS}
    wanted["recall"] = tuple(dict.fromkeys((*ks, *recall_ks)))
    table = hits(run.aligned(judgements), judgements, depth=max(*ks, *recall_ks))
    found = table.values(wanted)
    order = [f"{name}@{k}" for name in METRICS for k in ks]
    order += [name for name in found if name not in order]
    return Scores(
        run=run.name,
        user_ids=tuple(one.user_id for one in judgements),
        values={name: found[name] for name in order},
    )


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
