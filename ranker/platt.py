"""Scores and which were chosen in, what turns a score into a probability out (Platt, 1999).

    probability = sigmoid(slope * score + intercept)

A logistic regression on the score alone, fitted to its optimum in numpy, so that equal input gives
equal output.

Shape legend: E candidates.
"""

import numpy as np
from numpy.typing import NDArray

MAX_STEPS = 100
TINY = 1e-9


def platt(scores_E: NDArray[np.float64], is_chosen_E: NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and intercept of least surprise, by Newton's method; the slope is 0 or more.

    Targets are (n + 1) / (n + 2) of the n chosen ones and 1 / (n + 2) of the n others (Platt,
    1999), so that scores which part them wholly do not ask for an endless slope.
    """
    num_chosen = int(is_chosen_E.sum())
    num_others = len(is_chosen_E) - num_chosen
    targets_E = np.where(is_chosen_E, (num_chosen + 1) / (num_chosen + 2), 1 / (num_others + 2))
    rate = float(targets_E.mean())
    level = float(np.log(rate / (1 - rate)))
    mean, deviation = float(scores_E.mean()), float(scores_E.std())
    if deviation <= TINY:
        return 0.0, level
    slope, intercept = _newton((scores_E - mean) / deviation, targets_E, level)
    if slope <= 0:
        return 0.0, level
    return slope / deviation, intercept - slope * mean / deviation


def _newton(
    inputs_E: NDArray[np.float64], targets_E: NDArray[np.float64], level: float
) -> tuple[float, float]:
    """Steps are halved until they gain; the problem is convex, so there is one answer."""
    design_E2 = np.stack([inputs_E, np.ones_like(inputs_E)], axis=1)
    best_2 = np.array([0.0, level])
    least = _cross_entropy(design_E2 @ best_2, targets_E)
    for _ in range(MAX_STEPS):
        chances_E = sigmoid(design_E2 @ best_2)
        gradient_2 = design_E2.T @ (chances_E - targets_E)
        weights_E = chances_E * (1 - chances_E)
        curvature_22 = (design_E2 * weights_E[:, None]).T @ design_E2 + TINY * np.eye(2)
        step_2 = -np.linalg.solve(curvature_22, gradient_2)
        while np.abs(step_2).max() > TINY:
            value = _cross_entropy(design_E2 @ (best_2 + step_2), targets_E)
            if value <= least:
                break
            step_2 = step_2 / 2
        if np.abs(step_2).max() <= TINY:
            break
        best_2, least = best_2 + step_2, value
    return float(best_2[0]), float(best_2[1])


def _cross_entropy(logits_E: NDArray[np.float64], targets_E: NDArray[np.float64]) -> float:
    return float(np.sum(np.logaddexp(0.0, logits_E) - targets_E * logits_E))


def sigmoid(logits_E: NDArray[np.float64]) -> NDArray[np.float64]:
    """Chances of logits, without overflow."""
    # By the half that does not overflow.
    small_E = np.exp(-np.abs(logits_E))
    chances_E: NDArray[np.float64] = np.where(logits_E >= 0, 1.0, small_E) / (1 + small_E)
    return chances_E
