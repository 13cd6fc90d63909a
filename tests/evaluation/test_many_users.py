"""What is computed for very many users lies where resampling them lies."""

import math

import numpy as np
import pytest
from scipy import stats

from evaluation import many_users
from evaluation.many_users import effective_users, is_smooth, quantiles, swap_tail
from evaluation.significance import bootstrap_all, randomization_all

NUM_USERS = 12_000


def columns(num_users=NUM_USERS):
    """Values as metrics have them, and one that only a few users have."""
    rng = np.random.default_rng(11)
    return {
        "hits": (rng.random(num_users) < 0.3) * 1.0,
        "reciprocal ranks": (rng.random(num_users) < 0.4) / rng.integers(1, 5, num_users),
        "heavy": rng.exponential(size=num_users) ** 1.2,
        "differences": rng.normal(0.002, 0.2, num_users),
        "few": (rng.random(num_users) < 0.002) * 1.0,
    }


@pytest.mark.slow
def test_the_quantiles_are_those_of_many_resamples(monkeypatch):
    values = columns()
    computed = bootstrap_all(values, samples=10_000)
    monkeypatch.setattr(many_users, "EXACT_USERS", 10**9)
    drawn = bootstrap_all(values, samples=10_000)
    for name, column in values.items():
        error = column.std() / math.sqrt(NUM_USERS)
        # Ten thousand draws find a quantile at 2.5% to some 0.03 standard errors.
        assert abs(computed[name].low - drawn[name].low) < 0.1 * error, name
        assert abs(computed[name].high - drawn[name].high) < 0.1 * error, name
    assert computed["few"] == drawn["few"]


def test_the_p_values_are_those_of_many_swaps(monkeypatch):
    values = columns()
    differences = {
        "even": values["differences"],
        "clear": values["differences"] + 0.01,
        "skewed": values["heavy"] - values["heavy"].mean() + 0.01,
        "steps": values["hits"] - values["hits"][::-1] + (np.arange(NUM_USERS) % 80 == 0),
        "few": values["few"] - values["few"][::-1] + (np.arange(NUM_USERS) < 4),
        "none": np.zeros(NUM_USERS),
    }
    computed = randomization_all(differences, samples=5_000)
    monkeypatch.setattr(many_users, "EXACT_USERS", 10**9)
    drawn = randomization_all(differences, samples=5_000)
    for name, expected in drawn.items():
        reach = 4 * math.sqrt(expected * (1 - expected) / 5_000) + 0.002
        assert abs(computed[name] - expected) < reach, name
    assert computed["few"] == drawn["few"]
    assert computed["none"] == 1


def test_skew_moves_both_ends_as_the_gamma_distribution_says():
    """The mean of n exponentials is a gamma; its sample stands in for the whole distribution."""
    num = 20_000
    values = stats.expon.ppf((np.arange(num) + 0.5) / num)
    expected = stats.gamma.ppf([0.025, 0.975], num) / num
    error = values.std() / math.sqrt(num)
    found = quantiles(values, (0.025, 0.975))
    normal = values.mean() + stats.norm.ppf([0.025, 0.975]) * error
    assert np.abs(found - expected).max() < 0.01 * error
    assert np.abs(found - expected).max() < np.abs(normal - expected).max()


def test_swaps_of_equal_sizes_follow_the_binomial():
    differences = np.where(np.arange(20_000) < 10_150, 1.0, -1.0)
    exact = 2 * stats.binom.sf(10_149, 20_000, 0.5)
    assert swap_tail(differences) == pytest.approx(exact, rel=0.05)


def test_few_users_with_a_value_among_many_are_resampled():
    assert effective_users(np.ones(50)) == 50
    assert effective_users(np.r_[np.ones(30), np.zeros(50_000)]) == 30
    assert not is_smooth(np.r_[np.ones(30), np.zeros(50_000)])
    assert not is_smooth(np.ones(many_users.EXACT_USERS))
    assert is_smooth(np.ones(many_users.EXACT_USERS + 1))


def test_values_that_do_not_vary_have_an_interval_of_no_width():
    values = np.full(20_000, 0.25)
    found = bootstrap_all({"same": values})["same"]
    assert (found.mean, found.low, found.high) == (0.25, 0.25, 0.25)
    assert randomization_all({"none": np.zeros(20_000)})["none"] == 1


def test_no_p_value_is_zero_however_clear_the_difference():
    assert randomization_all({"": np.ones(20_000)}, samples=999)[""] == pytest.approx(0.001)
