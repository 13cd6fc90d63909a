"""Per-user values in, a mean and how far it may be trusted out.

Users are what is drawn at random, so users are what is resampled; two systems are compared on the
same users (paired), which takes the differences between users out of the comparison. With
thousands of users the bootstrap and the randomization test keep their promised error rate, which
Wilcoxon's and the sign test do not (Ihemelandu and Ekstrand, SIGIR 2023). Everything is
determined by its seed. Beyond 10,000 users nothing is drawn where that makes no difference
(`evaluation.many_users`).

Shape legend: U users, H users with any value but zero, M measures, S resamples, C resamples of one
chunk, D users drawn for it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation import many_users

SAME = 1e-12  # relative: what rounding may make of equal numbers
CHUNK_VALUES = 400_000  # few enough to stay in the processor's cache: twice as fast as millions


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A mean and the ends of its confidence interval."""

    mean: float
    low: float
    high: float

    @property
    def includes_zero(self) -> bool:
        """No difference from zero is shown at this level."""
        return self.low <= 0 <= self.high


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """How large a difference is for single users, which its p-value does not say."""

    d_z: float | None
    """Cohen's d of paired values: the mean difference by the standard deviation of the
    differences (n - 1 in the denominator). None where all users differ equally, or one is alone."""
    share_better: float
    """Of the users, how many gain,"""
    share_same: float
    """how many see no difference at all,"""
    share_worse: float
    """and how many lose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference(Interval):
    """The mean difference of two runs over the same users, with its paired interval."""

    p_value: float
    """Two-sided, by paired randomization."""
    p_value_holm: float | None = None
    """Corrected for all comparisons of which this is one; None where it was taken alone."""
    effect: Effect | None = None


def effect(differences_U: NDArray[np.float64]) -> Effect:
    """The size of paired differences.

    Raises:
        ValueError: no users, or a value that is not finite.
    """
    differences_U = stacked({"": differences_U})[:, 0]
    deviation = float(differences_U.std(ddof=1)) if len(differences_U) > 1 else 0.0
    mean = float(differences_U.mean())
    return Effect(
        d_z=mean / deviation if deviation > SAME * max(1.0, abs(mean)) else None,
        share_better=float((differences_U > 0).mean()),
        share_same=float((differences_U == 0).mean()),
        share_worse=float((differences_U < 0).mean()),
    )


def bootstrap(
    values_U: NDArray[np.float64], *, samples: int = 10_000, seed: int = 0, level: float = 0.95
) -> Interval:
    """The mean over users with its percentile bootstrap interval.

    The users are drawn with replacement `samples` times; the interval lies between the
    (1 - level) / 2 and (1 + level) / 2 quantiles of the means so found.

    Raises:
        ValueError: no users, values that are not finite, or a level outside (0, 1).
    """
    return bootstrap_all({"": values_U}, samples=samples, seed=seed, level=level)[""]


def paired_bootstrap(
    a_U: NDArray[np.float64],
    b_U: NDArray[np.float64],
    *,
    samples: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """The mean of a - b over the same users, with its percentile bootstrap interval."""
    return bootstrap(_difference(a_U, b_U), samples=samples, seed=seed, level=level)


def bootstrap_all(
    values: Mapping[str, NDArray[np.float64]],
    *,
    samples: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Interval]:
    """`bootstrap` of many measures of the same users; all of them share the same resamples."""
    if not values:
        return {}
    if not 0 < level < 1:
        raise ValueError(f"a confidence level lies between 0 and 1, got {level}")
    _check_samples(samples)
    values_UM = stacked(values)
    tail = (1 - level) / 2
    ends_2M = np.empty((2, len(values)))
    is_smooth_M = [many_users.is_smooth(one_U - one_U.mean()) for one_U in values_UM.T]
    for column in np.flatnonzero(is_smooth_M):
        ends_2M[:, column] = many_users.quantiles(values_UM[:, column], (tail, 1 - tail))
    others = np.flatnonzero(np.logical_not(is_smooth_M))
    if len(others):
        means_SM = resampled_means(values_UM[:, others], samples=samples, seed=seed)
        ends_2M[:, others] = np.quantile(means_SM, [tail, 1 - tail], axis=0)
    mean_M = values_UM.mean(axis=0)
    return {
        name: Interval(mean=float(mean), low=float(low), high=float(high))
        for name, mean, low, high in zip(values, mean_M, *ends_2M, strict=True)
    }


def paired_randomization(
    a_U: NDArray[np.float64], b_U: NDArray[np.float64], *, samples: int = 10_000, seed: int = 0
) -> float:
    """The two-sided p-value of a - b under random swaps of a and b within each user.

    (1 + swaps with a mean at least as far from zero) / (1 + samples), hence never zero.
    """
    return randomization_all({"": _difference(a_U, b_U)}, samples=samples, seed=seed)[""]


def randomization_all(
    differences: Mapping[str, NDArray[np.float64]], *, samples: int = 10_000, seed: int = 0
) -> dict[str, float]:
    """`paired_randomization` of many differences of the same users, sharing the same swaps."""
    if not differences:
        return {}
    _check_samples(samples)
    values_UM = stacked(differences)
    is_smooth_M = [many_users.is_smooth(one_U) for one_U in values_UM.T]
    tails_M = np.zeros(len(differences))
    for column in np.flatnonzero(is_smooth_M):
        tails_M[column] = samples * many_users.swap_tail(values_UM[:, column])
    others = np.flatnonzero(np.logical_not(is_smooth_M))
    if len(others):
        tails_M[others] = _num_as_far(values_UM[:, others], samples=samples, seed=seed)
    p_values_M = (1 + tails_M) / (1 + samples)
    return dict(zip(differences, p_values_M.tolist(), strict=True))


def _num_as_far(values_UM: NDArray[np.float64], *, samples: int, seed: int) -> NDArray[np.int64]:
    """How many random swaps take each mean at least as far from zero as it is."""
    observed_M = np.abs(values_UM.mean(axis=0))
    slack_M = SAME * np.maximum(1.0, np.abs(values_UM).max(axis=0))  # sums depend on their order
    moving_HM = values_UM[values_UM.any(axis=1)]  # a difference of zero stays zero
    rng = np.random.default_rng(seed)
    num_as_far_M = np.zeros(len(observed_M), dtype=np.int64)
    for size in _chunks(samples, max(1, len(moving_HM))):
        signs_CH = rng.integers(0, 2, size=(size, len(moving_HM)), dtype=np.int8) * 2.0 - 1.0
        means_CM = signs_CH @ moving_HM / len(values_UM)
        num_as_far_M += (np.abs(means_CM) >= observed_M - slack_M).sum(axis=0)
    return num_as_far_M


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """P-values corrected for how many comparisons were made (Holm, 1979): rejecting those below
    alpha keeps the chance of even one false rejection below alpha."""
    corrected: dict[str, float] = {}
    largest = 0.0
    rising = sorted(p_values, key=lambda name: (p_values[name], name))
    for i, name in enumerate(rising):
        largest = max(largest, min(1.0, (len(rising) - i) * p_values[name]))
        corrected[name] = largest
    return {name: corrected[name] for name in p_values}


def _difference(a_U: NDArray[np.float64], b_U: NDArray[np.float64]) -> NDArray[np.float64]:
    if a_U.shape != b_U.shape:
        raise ValueError(f"paired values belong to the same users; got {a_U.shape}, {b_U.shape}")
    return np.asarray(a_U, np.float64) - np.asarray(b_U, np.float64)


def stacked(values: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    """Columns of values of the same users as one matrix, [U, M].

    Raises:
        ValueError: no users, columns of different users, or a value that is not finite.
    """
    lengths = sorted({len(column) for column in values.values()})
    if len(lengths) > 1:
        raise ValueError(f"values belong to the same users; got {lengths} of them")
    values_UM = np.stack([np.asarray(column, np.float64) for column in values.values()], axis=1)
    if not len(values_UM):
        raise ValueError("there are no users to resample")
    if not np.isfinite(values_UM).all():
        raise ValueError("a value is not finite, so its mean means nothing")
    return values_UM


def resampled_means(
    values_UM: NDArray[np.float64], *, samples: int, seed: int
) -> NDArray[np.float64]:
    """Means of `samples` draws of U users with replacement, [S, M].

    A draw is kept as how often each user was drawn: then one matrix product serves all measures.
    Users whose values are all zero add nothing, so it is drawn only how often any other user
    comes, which is binomial, and then which of them.
    """
    num_users = len(values_UM)
    counting_HM = values_UM[values_UM.any(axis=1)]
    num_counting = len(counting_HM)
    rng = np.random.default_rng(seed)
    means: list[NDArray[np.float64]] = []
    for size in _chunks(samples, max(1, num_counting)):
        times_C = np.full(size, num_users)
        if num_counting < num_users:
            times_C = rng.binomial(num_users, num_counting / num_users, size=size)
        drawn_D = rng.integers(0, max(1, num_counting), size=int(times_C.sum()), dtype=np.int32)
        drawn_D += np.repeat(np.arange(size, dtype=np.int32) * num_counting, times_C)
        times_CH = np.bincount(drawn_D, minlength=size * num_counting)
        times_CH = times_CH.reshape(size, num_counting)
        means.append(times_CH.astype(np.float64) @ counting_HM / num_users)
    return np.concatenate(means)


def _check_samples(samples: int) -> None:
    if samples < 1:
        raise ValueError(f"at least one resample is needed, got {samples}")


def _chunks(samples: int, num_users: int) -> Iterator[int]:
    size = max(1, CHUNK_VALUES // num_users)
    for start in range(0, samples, size):
        yield min(size, samples - start)
