"""Lists and what was chosen in, a small model that scores by places and cosines together out.

A conditional logit (McFadden, 1974): of each moment's items, the chance that one is chosen is the
softmax of a linear score. Its features for each block are the cosine, the reciprocal rank in the
block's list, whether the list holds the item, and whether the item has a vector there; and the
weighted sum of all cosines. Places say what cosines do not: how an item compares within the list.

The model is fitted to its optimum by Newton's method with an L2 penalty, in numpy, so that equal
input gives equal output. It starts from, and is drawn to, the weighted sum alone.

Shape legend: K items, M blocks, F features.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retrieval.base import UnusableIndex
from retrieval.fusion import Fusion, Listed
from retrieval.rank_fusion import DAMPING
from retrieval.tensor_file import write_bytes

PENALTY = 1e-3
LIMIT = 6.0  # standard deviations at which a feature is clipped
TINY = 1e-9
STEPS = 50
FORMAT = 1
REPAIR = "run `sommelier train`"


@dataclass(frozen=True, kw_only=True)
class Learned(Fusion):
    """A fitted model. Blocks that it was not fitted with are passed over."""

    blocks: tuple[str, ...]
    """By name; four features each, then the weighted sum."""
    means: tuple[float, ...]
    deviations: tuple[float, ...]
    slopes: tuple[float, ...]

    def __post_init__(self) -> None:
        count = 4 * len(self.blocks) + 1
        lengths = (len(self.means), len(self.deviations), len(self.slopes))
        if lengths != (count, count, count):
            raise ValueError(f"{len(self.blocks)} blocks need {count} features, got {lengths}")

    def scores(self, listed: Listed) -> NDArray[np.float64]:
        inputs_KF = _standardized(features(listed, self.blocks), self.means, self.deviations)
        # Row by row, so that a score does not depend on what is scored beside it.
        scores_K: NDArray[np.float64] = (inputs_KF * np.array(self.slopes)).sum(axis=1)
        return scores_K

    def save(self, path: Path) -> None:
        """Write the model as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, json.dumps({"format": FORMAT, **asdict(self)}, indent=1).encode())

    @classmethod
    def load(cls, path: Path) -> "Learned":
        """The model that `save` wrote.

        Raises:
            UnusableIndex: the file is missing or damaged.
        """
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
            if facts.pop("format") != FORMAT:
                raise ValueError(f"not of format {FORMAT}")
            names = tuple(str(name) for name in facts.pop("blocks"))
            numbers = {key: tuple(map(float, values)) for key, values in facts.items()}
            return cls(blocks=names, **numbers)
        except FileNotFoundError as error:
            raise UnusableIndex(f"{path} is missing: {REPAIR}") from error
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise UnusableIndex(f"{path} is damaged ({error!r}): {REPAIR}") from error


def features(listed: Listed, blocks: Sequence[str]) -> NDArray[np.float64]:
    """[K, F]: for each block its four features, 0 where the query lacks it; then the score."""
    features_KF = np.zeros((len(listed.scores_K), 4 * len(blocks) + 1))
    for place, name in enumerate(blocks):
        if name not in listed.blocks:
            continue
        column = listed.blocks.index(name)
        ranks_K = listed.ranks_KM[:, column]
        features_KF[:, 4 * place] = listed.cosines_KM[:, column]
        features_KF[:, 4 * place + 1] = np.where(ranks_K > 0, 1 / (DAMPING + ranks_K), 0.0)
        features_KF[:, 4 * place + 2] = ranks_K > 0
        features_KF[:, 4 * place + 3] = listed.is_present_KM[:, column]
    features_KF[:, -1] = listed.scores_K
    return features_KF


def fit(
    moments: Sequence[Listed], chosen: Sequence[NDArray[np.bool_]], *, penalty: float = PENALTY
) -> Learned | None:
    """Fit on what was chosen.

    Args:
        moments: What each moment's lists said about its items.
        chosen: Which of them were chosen, [K]; moments without any are left out.
        penalty: Of the squared slopes, in units of one moment's likelihood.

    Returns:
        The model; None where no moment chose some of its items but not all.
    """
    pairs = [
        (one, is_chosen_K)
        for one, is_chosen_K in zip(moments, chosen, strict=True)
        if is_chosen_K.any() and not is_chosen_K.all()
    ]
    if not pairs:
        return None
    blocks = tuple(sorted({name for one, _ in pairs for name in one.blocks}))
    inputs = [features(one, blocks) for one, _ in pairs]
    everything_KF = np.concatenate(inputs)
    means_F, deviations_F = everything_KF.mean(axis=0), everything_KF.std(axis=0)
    deviations_F = np.where(deviations_F > TINY, deviations_F, 1.0)
    standard = [_standardized(one, means_F.tolist(), deviations_F.tolist()) for one in inputs]
    slopes_F = _newton(standard, [is_chosen_K for _, is_chosen_K in pairs], penalty)
    return Learned(
        blocks=blocks,
        means=tuple(means_F.tolist()),
        deviations=tuple(deviations_F.tolist()),
        slopes=tuple(slopes_F.tolist()),
    )


def _standardized(
    features_KF: NDArray[np.float64], means: Sequence[float], deviations: Sequence[float]
) -> NDArray[np.float64]:
    standard_KF = (features_KF - np.array(means)) / np.array(deviations)
    clipped_KF: NDArray[np.float64] = standard_KF.clip(-LIMIT, LIMIT)
    return clipped_KF


def _newton(
    inputs: Sequence[NDArray[np.float64]], chosen: Sequence[NDArray[np.bool_]], penalty: float
) -> NDArray[np.float64]:
    """The slopes of least penalized surprise; the problem is convex, so there is one answer."""
    start_F = np.zeros(inputs[0].shape[1])
    start_F[-1] = 1.0
    best_F: NDArray[np.float64] = start_F
    step_F: NDArray[np.float64] = np.zeros(len(start_F))
    least = np.inf
    for _ in range(STEPS):
        slopes_F = best_F + step_F
        loss, gradient_F, hessian_FF = _surprise(inputs, chosen, slopes_F)
        away_F = slopes_F - start_F
        loss += penalty * float(away_F @ away_F)
        if np.abs(step_F).max() < TINY and least < np.inf:
            break
        if loss > least:  # too far: the way is right, for the problem is convex
            step_F = step_F / 2
            continue
        best_F, least = slopes_F, loss
        curvature_FF = hessian_FF + 2 * penalty * np.eye(len(slopes_F))
        uphill_F = gradient_F + 2 * penalty * away_F
        step_F = -np.linalg.solve(curvature_FF, uphill_F).astype(np.float64)
    return best_F


def _surprise(
    inputs: Sequence[NDArray[np.float64]],
    chosen: Sequence[NDArray[np.bool_]],
    slopes_F: NDArray[np.float64],
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """The mean surprise of the choices, its gradient and its Hessian."""
    loss = 0.0
    gradient_F = np.zeros(len(slopes_F))
    hessian_FF = np.zeros((len(slopes_F), len(slopes_F)))
    for inputs_KF, is_chosen_K in zip(inputs, chosen, strict=True):
        scores_K = inputs_KF @ slopes_F
        scores_K -= scores_K.max()
        chances_K = np.exp(scores_K)
        total = chances_K.sum()
        chances_K /= total
        mean_F = chances_K @ inputs_KF
        loss += float(np.log(total) - scores_K[is_chosen_K].mean())
        gradient_F += mean_F - inputs_KF[is_chosen_K].mean(axis=0)
        hessian_FF += (inputs_KF * chances_K[:, None]).T @ inputs_KF - np.outer(mean_F, mean_F)
    count = len(inputs)
    return loss / count, gradient_F / count, hessian_FF / count
