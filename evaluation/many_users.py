"""Values of very many users in, what resampling them without end would give out, without drawing.

The mean of n users drawn with replacement has known cumulants: those of the values, divided by
powers of n. So has a mean under random swaps. With many users its quantiles and tails follow from
the first four by Cornish and Fisher's and by Edgeworth's expansion (Hall, The Bootstrap and
Edgeworth Expansion, 1992), nearer to the limit than ten thousand draws come.

How many users there are does not say whether that holds: of 50,000 users among whom 30 have a
value, 30 count. `effective_users` says how many do. Each value then moves the mean by too little to
be seen, and what remains of steps between possible means is a few hundredths of its deviation.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

EXACT_USERS = 10_000  # up to so many, resampling is quick
LEAST_EFFECTIVE_USERS = 2_500
NORMAL = NormalDist()

Values = NDArray[np.float64]


def effective_users(deviations_U: Values) -> float:
    """(sum of squares)^2 / sum of fourth powers: n for n equal sizes, infinite for none at all."""
    squares_U = deviations_U * deviations_U
    fourth = float(squares_U @ squares_U)
    return float(squares_U.sum()) ** 2 / fourth if fourth else math.inf


def is_smooth(deviations_U: Values) -> bool:
    """Whether the users are too many to resample and enough of them count."""
    return (
        len(deviations_U) > EXACT_USERS and effective_users(deviations_U) >= LEAST_EFFECTIVE_USERS
    )


def quantiles(values_U: Values, probabilities: Sequence[float]) -> list[float]:
    """Of the mean of as many users drawn with replacement."""
    mean = float(values_U.mean())
    deviations_U = values_U - mean
    squares_U = deviations_U * deviations_U
    variance = float(squares_U.mean())
    if not variance:
        return [mean] * len(probabilities)
    num = len(values_U)
    skew = float(squares_U @ deviations_U) / num / variance**1.5 / math.sqrt(num)
    excess = (float(squares_U @ squares_U) / num / variance**2 - 3) / num
    return [
        mean + _reach(NORMAL.inv_cdf(one), skew, excess) * math.sqrt(variance / num)
        for one in probabilities
    ]


def _reach(z: float, skew: float, excess: float) -> float:
    """A normal quantile, moved as skew and excess kurtosis want it (Cornish and Fisher, 1938)."""
    return (
        z + skew * (z**2 - 1) / 6 + excess * (z**3 - 3 * z) / 24 - skew**2 * (2 * z**3 - 5 * z) / 36
    )


def swap_tail(differences_U: Values) -> float:
    """The chance that random swaps take the mean at least as far from zero as it is."""
    squares_U = differences_U * differences_U
    total = float(squares_U.sum())
    if not total:
        return 1.0
    t = abs(float(differences_U.sum())) / math.sqrt(total)
    excess = -2 * float(squares_U @ squares_U) / total**2
    tail = math.erfc(t / math.sqrt(2)) + 2 * NORMAL.pdf(t) * excess * (t**3 - 3 * t) / 24
    return min(max(tail, 0.0), 1.0)
