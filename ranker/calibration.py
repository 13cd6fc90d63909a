"""Held-out lists with their scores in, how far to trust the LLM out, and what a score is worth.

    score = prior + logit_weight * logit              which order
    probability = sigmoid(slope * score + intercept)  how likely it is chosen

Both are fitted on moments that nothing was trained on. The weight belongs to the order: a
conditional logit (McFadden, 1974) over each list on [prior, logit], in which the prior, fitted
before, keeps the weight 1. So an LLM that is too sure of itself is turned down, and one that only
harms is left out: the weight is never below 0, and it is 0 unless it gains on lists that it was not
fitted on. Slope and intercept belong to each candidate by itself (Platt, 1999, with his smoothed
targets); the slope is never below 0, so that probabilities never turn an order around.

The probability is that of being chosen soon after the moment, from a list in which retrieval found
anything chosen: of such lists are the moments. A behavior that enough lists asked about, and the
question for any of them, have a slope and an intercept each: few purchases come of many views.

Shape legend: E candidates of all lists, L lists.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feature_repo.atomic import replace_text
from ranker.platt import platt, sigmoid

CALIBRATOR = "calibrator.json"
"""The file's name in an adapter's folder."""

FORMAT = 1
MIN_LISTS = 20  # fewer say too little to move a score by
FOLDS = 5
PENALTY = 1e-3  # on what the weight adds, in units of the logits' own deviation within lists
HALVINGS = 40
TINY = 1e-9
REPAIR = "run `sommelier train`"

Numbers = NDArray[np.floating[Any]]


class CalibratorError(ValueError):
    """No usable calibrator; the message says what to run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrator:
    """What was learned from held-out lists about scores."""

    logit_weight: float = 1.0
    """How much the LLM's logit counts beside the prior; 0 where it gained nothing."""
    slope: float
    intercept: float
    gain: float = 0.0
    """What the weight gained over the prior alone, on lists that it was not fitted on: nats for
    each choice; below 0 it harmed, and was left out."""
    num_lists: int = 0
    """How many lists this was fitted on."""
    behaviors: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Slope and intercept of questions for one behavior, by its name, where enough lists asked
    for it; others are answered by those of any choice."""

    def __post_init__(self) -> None:
        lines = [(self.slope, self.intercept), *self.behaviors.values()]
        numbers = (self.logit_weight, self.gain, *chain.from_iterable(lines))
        if not np.isfinite(numbers).all():
            raise ValueError(f"a calibrator holds finite numbers, got {numbers}")
        slopes = [slope for slope, _ in lines]
        if min(self.logit_weight, *slopes) < 0:
            raise ValueError(
                f"logit_weight and slopes are 0 or more, got {self.logit_weight} and {slopes}"
            )

    @property
    def calibrator_id(self) -> str:
        """A digest of its numbers: equal ones calibrate equally."""
        line, behaviors = (self.slope, self.intercept), sorted(self.behaviors.items())
        facts = json.dumps([FORMAT, self.logit_weight, line, behaviors])
        return hashlib.sha256(facts.encode()).hexdigest()[:12]

    def scores(self, priors_E: Numbers, logits_E: Numbers) -> NDArray[np.float64]:
        """What candidates are put in order by."""
        return priors_E.astype(np.float64) + self.logit_weight * logits_E.astype(np.float64)

    def probabilities(
        self, scores_E: Numbers, *, behavior: str | None = None
    ) -> NDArray[np.float64]:
        """How likely each is to be chosen, in [0, 1]; a higher score never has a lower one.

        Args:
            scores_E: As `scores` gives them.
            behavior: What is asked about; None for any choice.
        """
        slope, intercept = self.slope, self.intercept
        if behavior is not None:
            slope, intercept = self.behaviors.get(behavior, (slope, intercept))
        return sigmoid(slope * scores_E.astype(np.float64) + intercept)

    def save(self, path: Path) -> None:
        """Write it as JSON; the file appears whole or not at all."""
        facts = {"format": FORMAT, **asdict(self)}
        replace_text(path, json.dumps(facts, indent=1, sort_keys=True) + "\n")

    @classmethod
    def load(cls, path: Path) -> "Calibrator":
        """What `save` wrote.

        Raises:
            CalibratorError: the file is missing or damaged.
        """
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
            if facts.pop("format") != FORMAT:
                raise CalibratorError(f"{path} is of another format: {REPAIR}")
            num_lists = int(facts.pop("num_lists"))
            behaviors = {
                name: (float(slope), float(intercept))
                for name, (slope, intercept) in facts.pop("behaviors").items()
            }
            numbers = {name: float(one) for name, one in facts.items()}
            return cls(num_lists=num_lists, behaviors=behaviors, **numbers)
        except FileNotFoundError as error:
            raise CalibratorError(f"{path} is missing: {REPAIR}") from error
        except CalibratorError:
            raise
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise CalibratorError(f"{path} is damaged ({error!r}): {REPAIR}") from error


def fit(
    priors_E: Numbers,
    logits_E: Numbers,
    is_chosen_E: NDArray[np.bool_],
    owners_E: NDArray[np.integer[Any]],
    *,
    behaviors: Mapping[int, str | None] | None = None,
) -> Calibrator | None:
    """Fit on held-out lists. Equal input gives equal numbers.

    Args:
        priors_E: What the retriever's findings alone say of each candidate.
        logits_E: What the LLM says, logit(yes) - logit(no), as it leaves the model.
        is_chosen_E: Which were chosen. Masked candidates, neither chosen nor not, are left out.
        owners_E: The list that each candidate belongs to, any number for each.
        behaviors: What a list was asked about, by its number; absent or None for any choice. The
            weight is fitted on all lists together.

    Returns:
        The calibrator; None where fewer than `MIN_LISTS` lists hold some that were chosen and some
        that were not. Scores are then better left as they are. Where the prior tells no
        candidates of a list apart there is nothing to fall back on, and the weight stays 1.

    Raises:
        ValueError: not aligned, or a number that is not finite.
    """
    lists = _Lists.of(priors_E, logits_E, is_chosen_E, owners_E)
    if lists.count < MIN_LISTS:
        return None
    if not lists.spread(lists.priors_E) > TINY:
        weight, gain = 1.0, 0.0
    else:
        weight, gain = lists.weight(), _held_out_gain(lists)
        weight = weight if gain > 0 else 0.0
    lines = _lines(lists, weight, [(behaviors or {}).get(name) for name in lists.names])
    slope, intercept = lines.pop(None)
    return Calibrator(
        logit_weight=weight,
        slope=slope,
        intercept=intercept,
        gain=gain,
        num_lists=lists.count,
        behaviors={name: line for name, line in lines.items() if name is not None},
    )


def _lines(
    lists: "_Lists", weight: float, behaviors_L: Sequence[str | None]
) -> dict[str | None, tuple[float, float]]:
    """Slope and intercept of each question that enough lists asked; of any choice always."""
    scores_E = lists.priors_E + weight * lists.logits_E
    found: dict[str | None, tuple[float, float]] = {None: platt(scores_E, lists.is_chosen_E)}
    for behavior in dict.fromkeys(behaviors_L):
        is_asked_L = np.array([one == behavior for one in behaviors_L])
        if MIN_LISTS <= is_asked_L.sum() < lists.count:
            is_asked_E = is_asked_L[lists.owners_E]
            found[behavior] = platt(scores_E[is_asked_E], lists.is_chosen_E[is_asked_E])
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lists:
    """Candidates of lists that hold some that were chosen and some that were not; by list."""

    priors_E: NDArray[np.float64]
    logits_E: NDArray[np.float64]
    is_chosen_E: NDArray[np.bool_]
    owners_E: NDArray[np.int64]
    """From 0, rising."""
    names: tuple[int, ...]
    """What the lists were called."""

    @property
    def count(self) -> int:
        """How many lists there are."""
        return len(self.names)

    @classmethod
    def of(
        cls,
        priors_E: Numbers,
        logits_E: Numbers,
        is_chosen_E: NDArray[np.bool_],
        owners_E: NDArray[np.integer[Any]],
    ) -> "_Lists":
        shapes = {one.shape for one in (priors_E, logits_E, is_chosen_E, owners_E)}
        if shapes != {(len(priors_E),)}:
            raise ValueError(f"expected four numbers of each candidate, got shapes {shapes}")
        if not (np.isfinite(priors_E).all() and np.isfinite(logits_E).all()):
            raise ValueError("priors and logits must be finite to be calibrated")
        order = np.argsort(owners_E, kind="stable")
        _, owners, sizes = np.unique(owners_E[order], return_inverse=True, return_counts=True)
        num_chosen = np.bincount(owners, weights=is_chosen_E[order], minlength=len(sizes))
        kept = order[((num_chosen > 0) & (num_chosen < sizes))[owners]]
        names, owners = np.unique(owners_E[kept], return_inverse=True)
        return cls(
            priors_E=priors_E[kept].astype(np.float64),
            logits_E=logits_E[kept].astype(np.float64),
            is_chosen_E=is_chosen_E[kept].astype(np.bool_),
            owners_E=owners.astype(np.int64),
            names=tuple(names.tolist()),
        )

    def where(self, is_kept_L: NDArray[np.bool_]) -> "_Lists":
        """Only some of the lists."""
        kept = is_kept_L[self.owners_E]
        return _Lists.of(
            self.priors_E[kept], self.logits_E[kept], self.is_chosen_E[kept], self.owners_E[kept]
        )

    def means(self, values_E: NDArray[np.float64], weights_E: Numbers) -> NDArray[np.float64]:
        """Each list's weighted mean, [L]."""
        sums_L = np.bincount(self.owners_E, weights=values_E * weights_E, minlength=self.count)
        mean_L: NDArray[np.float64] = sums_L / np.bincount(
            self.owners_E, weights=weights_E, minlength=self.count
        )
        return mean_L

    def spread(self, values_E: NDArray[np.float64]) -> float:
        """The variance within lists."""
        centered_E = values_E - self.means(values_E, np.ones_like(values_E))[self.owners_E]
        return float(np.mean(centered_E**2))

    def surprises(self, weight: float) -> NDArray[np.float64]:
        """Of each list's choices, their mean, [L], in nats."""
        scores_E, sums_L = self._softmax(weight)
        return np.log(sums_L) - self.means(scores_E, self.is_chosen_E.astype(np.float64))

    def weight(self) -> float:
        """The weight of least penalized surprise, 0 or more; the problem is convex."""
        spread = self.spread(self.logits_E)
        if not spread > TINY:
            return 0.0
        chosen_L = self.means(self.logits_E, self.is_chosen_E.astype(np.float64))

        def rises(weight: float) -> bool:
            scores_E, _ = self._softmax(weight)
            expected_L = self.means(self.logits_E, np.exp(scores_E))
            slope = float(np.mean(expected_L - chosen_L)) + 2 * PENALTY * spread * weight
            return slope >= 0

        return _turning_point(rises)

    def _softmax(self, weight: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The scores, less each list's best; and the sums of their exponentials, [L]."""
        scores_E = self.priors_E + weight * self.logits_E
        best_L = np.full(self.count, -np.inf)
        np.maximum.at(best_L, self.owners_E, scores_E)
        scores_E = scores_E - best_L[self.owners_E]
        sums_L = np.bincount(self.owners_E, weights=np.exp(scores_E), minlength=self.count)
        return scores_E, sums_L.astype(np.float64)


def _held_out_gain(lists: _Lists) -> float:
    """Nats for each choice that a weight fitted on other lists gains over none; mean over lists."""
    folds_L = np.arange(lists.count) % FOLDS
    gains = []
    for fold in range(FOLDS):
        held = lists.where(folds_L == fold)
        weight = lists.where(folds_L != fold).weight()
        gains.append(held.surprises(0.0) - held.surprises(weight))
    return float(np.concatenate(gains).mean())


def _turning_point(rises: Callable[[float], bool]) -> float:
    """Where a convex function of numbers from 0 on begins to rise, by halving."""
    if rises(0.0):
        return 0.0
    low, high = 0.0, 1.0
    while not rises(high):
        low, high = high, 2 * high
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if rises(middle) else (middle, high)
    return (low + high) / 2
