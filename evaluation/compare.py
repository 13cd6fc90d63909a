"""Two systems' runs and the judgements of both in, their differences out.

A side is one system: one run, or one for each seed that it was trained with. All is compared user
by user on the users that both were judged on; a difference is B minus A.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from evaluation.comparison import differences, holm_across
from evaluation.judgements import Judgement
from evaluation.protocol import EvaluationConfig
from evaluation.runs import Run, Scores, measure
from evaluation.seeds import OverSeeds, over_seeds
from evaluation.significance import Difference
from evaluation.slices import Part

FORMAT = 1


class Incomparable(ValueError):
    """The two sides were not judged alike; the message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One system: its runs, one for each seed, and who judged them."""

    name: str
    runs: tuple[Run, ...]
    judgements: tuple[Judgement, ...] | None = None
    """None for rankings alone, which the other side's judgements judge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One measure, or one slice in the headline's measure."""

    a: float
    """Mean over users, and over seeds where there are several."""
    b: float
    difference: Difference
    """B minus A; Holm over all measures, and over all slices apart from these."""
    over_seeds: OverSeeds | None = None
    """The same over users and seeds, the n-th seed of A beside the n-th of B; None unless both
    have the same number of seeds, two at least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedPart:
    """One slice."""

    group: str
    name: str
    num_users: int
    compared: Compared


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Everything that two systems differ in."""

    a: str
    b: str
    headline: str
    num_users: int
    num_only_a: int
    """Users whom A alone was judged on; left out."""
    num_only_b: int
    num_seeds: tuple[int, int]
    depths: tuple[int, int]
    """The longest list of each; a measure at a larger k reads on as if nothing right followed."""
    seed_means: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]]
    """Measure -> the mean of every seed of A, and of B."""
    measures: Mapping[str, Compared]
    parts: tuple[ComparedPart, ...]
    config: Mapping[str, Any]


def compare(
    a: Side,
    b: Side,
    *,
    config: EvaluationConfig,
    parts: Sequence[Part] = (),
    takes_common: bool = False,
) -> Comparison:
    """Measure both on the same users, and the same users in every slice.

    Args:
        a, b: At least one of them with judgements.
        config: Where lists are cut, the headline, and the resampling.
        parts: Slices of these judgements; of each, users who are not compared are left out.
        takes_common: Compare the users that both have, where they differ.

    Raises:
        Incomparable: neither side is judged, they are judged on different users (unless
            `takes_common`) or by different truths, or nobody is left.
    """
    judgements, only_a, only_b = _common(a, b, takes_common=takes_common)
    one, other = (_Measured(side, judgements, config) for side in (a, b))
    found = holm_across(
        differences({name: other.mean_U[name] - one.mean_U[name] for name in one.mean_U}, config)
    )[0]
    return Comparison(
        a=a.name,
        b=b.name,
        headline=config.headline,
        num_users=len(judgements),
        num_only_a=only_a,
        num_only_b=only_b,
        num_seeds=(len(a.runs), len(b.runs)),
        depths=(_depth(a), _depth(b)),
        seed_means={name: (one.seed_means(name), other.seed_means(name)) for name in found},
        measures={
            name: Compared(
                a=float(one.mean_U[name].mean()),
                b=float(other.mean_U[name].mean()),
                difference=difference,
                over_seeds=_over_seeds(one, other, name, config),
            )
            for name, difference in found.items()
        },
        parts=_parts(a, b, parts, {judgement.user_id for judgement in judgements}, config),
        config={
            "ks": config.ks,
            "recall_ks": config.recall_ks,
            "samples": config.samples,
            "level": config.level,
            "seed": config.seed,
        },
    )


def as_dict(comparison: Comparison) -> dict[str, Any]:
    """The comparison as plain values, ready for JSON."""
    groups: dict[str, dict[str, Any]] = {}
    for part in comparison.parts:
        facts = {"num_users": part.num_users} | asdict(part.compared)
        groups.setdefault(part.group, {})[part.name] = facts
    return {"format": FORMAT} | asdict(comparison) | {"parts": groups}


class _Measured:
    """One side's values, seed by seed and averaged over seeds for each user."""

    def __init__(
        self, side: Side, judgements: Sequence[Judgement], config: EvaluationConfig
    ) -> None:
        self.scores: list[Scores] = [
            measure(run, judgements, ks=config.ks, recall_ks=config.recall_ks) for run in side.runs
        ]
        self.mean_U = {
            name: np.mean([one.values[name] for one in self.scores], axis=0)
            for name in self.scores[0].values
        }

    def seed_means(self, name: str) -> tuple[float, ...]:
        return tuple(one.mean(name) for one in self.scores)


def _common(a: Side, b: Side, *, takes_common: bool) -> tuple[tuple[Judgement, ...], int, int]:
    """The judgements of the users that both have, and how many one alone has."""
    if a.judgements is None and b.judgements is None:
        raise Incomparable(
            f"neither {a.name} nor {b.name} comes with judgements: give at least one report folder"
        )
    truths = {one.user_id: one for one in (a.judgements or b.judgements or ())}
    users_a, users_b = (_users(side, truths) for side in (a, b))
    _check_truths(a, b)
    only_a, only_b = users_a - users_b, users_b - users_a
    if (only_a or only_b) and not takes_common:
        shown = ", ".join(sorted(only_a | only_b)[:3])
        raise Incomparable(
            f"{a.name} and {b.name} are of different users: {len(only_a):,} are in the first alone "
            f"and {len(only_b):,} in the second (such as {shown}). Evaluate both on the same "
            "users, or give --common to compare those that both have"
        )
    common = users_a & users_b & truths.keys()
    if not common:
        raise Incomparable(f"{a.name} and {b.name} have no judged user in common")
    return tuple(one for one in truths.values() if one.user_id in common), len(only_a), len(only_b)


def _users(side: Side, truths: Mapping[str, Judgement]) -> set[str]:
    """Whom a side can be measured on: those that all its runs rank, and that are judged.

    Users whom a run of unknown origin ranks, and nobody judges, are passed over.
    """
    ranked = set.intersection(*(set(run.rankings) for run in side.runs))
    if side.judgements is None:
        return ranked & truths.keys()
    return ranked & {one.user_id for one in side.judgements}


def _check_truths(a: Side, b: Side) -> None:
    if a.judgements is None or b.judgements is None:
        return
    of_a = {one.user_id: one.item_ids for one in a.judgements}
    differing = sorted(
        one.user_id
        for one in b.judgements
        if one.user_id in of_a and of_a[one.user_id] != one.item_ids
    )
    if differing:
        raise Incomparable(
            f"{a.name} and {b.name} judge {len(differing):,} users by different choices, such as "
            f"{differing[0]}: they are of different data, splits or targets and cannot be compared"
        )


def _depth(side: Side) -> int:
    return max(len(ranked) for run in side.runs for ranked in run.rankings.values())


def _over_seeds(
    one: _Measured, other: _Measured, name: str, config: EvaluationConfig
) -> OverSeeds | None:
    if len(one.scores) != len(other.scores) or len(one.scores) < 2:
        return None
    pairs = zip(one.scores, other.scores, strict=True)
    return over_seeds(
        {seed: b.values[name] - a.values[name] for seed, (a, b) in enumerate(pairs)},
        samples=config.samples,
        seed=config.seed,
        level=config.level,
    )


def _parts(
    a: Side, b: Side, parts: Sequence[Part], users: set[str], config: EvaluationConfig
) -> tuple[ComparedPart, ...]:
    """Every slice in the headline's measure, Holm over all of them."""
    found: list[tuple[Part, int, Compared]] = []
    for part in parts:
        judged = tuple(one for one in part.judgements if one.user_id in users)
        if not judged:
            continue
        one, other = (_Measured(side, judged, config) for side in (a, b))
        before_U, after_U = one.mean_U[config.headline], other.mean_U[config.headline]
        compared = Compared(
            a=float(before_U.mean()),
            b=float(after_U.mean()),
            difference=differences({"": after_U - before_U}, config)[""],
        )
        found.append((part, len(judged), compared))
    corrected = holm_across(
        {f"{part.group} {part.name}": one.difference for part, _, one in found}
    )[0]
    return tuple(
        ComparedPart(
            group=part.group,
            name=part.name,
            num_users=num_users,
            compared=Compared(a=one.a, b=one.b, difference=corrected[f"{part.group} {part.name}"]),
        )
        for part, num_users, one in found
    )
