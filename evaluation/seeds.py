"""The same system trained with several seeds in, its mean and how far both chances carry it out.

An interval over users speaks of one trained model; another seed is another model. Here both are
drawn again: users and seeds, each with replacement, the same users for every seed drawn, since all
models answer the same users (the pigeonhole bootstrap of crossed factors, Owen, Annals of Applied
Statistics 2007). With few seeds such an interval is too narrow, since n drawn seeds show only
(n - 1) / n of their variance: read `spread` beside it, and train five seeds or more.

Give differences of two systems, seed by seed, to compare them over seeds.

Shape legend: U users, S seeds, R resamples.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation import many_users
from evaluation.significance import Interval, resampled_means, stacked


@dataclass(frozen=True, slots=True, kw_only=True)
class OverSeeds(Interval):
    """A mean over users and seeds; the interval is over both."""

    spread: float
    """Standard deviation of the seeds' means (n - 1 in the denominator)."""
    means: Mapping[int, float]
    """Seed -> mean over users, by rising seed."""


def over_seeds(
    values: Mapping[int, NDArray[np.float64]],
    *,
    samples: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> OverSeeds:
    """Seed -> one value for each user, the same users everywhere, in; the whole out.

    Args:
        values: Of at least two seeds.
        samples: Resamples of users and seeds.
        seed: Of the resampling.
        level: Of the interval.

    Raises:
        ValueError: fewer than two seeds, values of different users, none, or not finite, or a
            level outside (0, 1).
    """
    if len(values) < 2:
        raise ValueError(f"a spread over seeds needs at least two, got {len(values)}")
    if samples < 1:
        raise ValueError(f"at least one resample is needed, got {samples}")
    if not 0 < level < 1:
        raise ValueError(f"a confidence level lies between 0 and 1, got {level}")
    rising = sorted(values)
    values_US = stacked({str(one): values[one] for one in rising})
    means_S = values_US.mean(axis=0)
    drawn_RS = _means_of_drawn_users(values_US, samples=samples, seed=seed)
    seeds_RS = np.random.default_rng([seed, 1]).integers(0, len(rising), size=drawn_RS.shape)
    found_R = np.take_along_axis(drawn_RS, seeds_RS, axis=1).mean(axis=1)
    tail = (1 - level) / 2
    low, high = np.quantile(found_R, [tail, 1 - tail])
    return OverSeeds(
        mean=float(means_S.mean()),
        low=float(low),
        high=float(high),
        spread=float(means_S.std(ddof=1)),
        means=dict(zip(rising, means_S.tolist(), strict=True)),
    )


def _means_of_drawn_users(
    values_US: NDArray[np.float64], *, samples: int, seed: int
) -> NDArray[np.float64]:
    """Every seed's mean over the same drawn users, [R, S]; normal where users are very many."""
    deviations_US = values_US - values_US.mean(axis=0)
    if not all(many_users.is_smooth(one_U) for one_U in deviations_US.T):
        return resampled_means(values_US, samples=samples, seed=seed)
    covariance_SS = deviations_US.T @ deviations_US / len(values_US) ** 2
    return np.random.default_rng(seed).multivariate_normal(
        values_US.mean(axis=0), covariance_SS, size=samples, check_valid="ignore", method="eigh"
    )
