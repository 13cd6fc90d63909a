"""Both chances, of users and of seeds, are in the interval."""

import numpy as np
import pytest

from evaluation import many_users
from evaluation.seeds import over_seeds
from evaluation.significance import bootstrap


def world(num_users, num_seeds, *, between_users, between_seeds, seed):
    """True mean 0: users and seeds each shift the value."""
    rng = np.random.default_rng(seed)
    users = rng.normal(0, between_users, num_users)
    return {
        number: users + rng.normal(0, between_seeds) + rng.normal(0, 0.1, num_users)
        for number in range(num_seeds)
    }


def test_mean_and_spread_are_those_of_the_seeds_means():
    found = over_seeds({3: np.array([0.0, 0.2]), 1: np.array([0.2, 0.4])}, samples=100)
    assert found.mean == pytest.approx(0.2)
    assert list(found.means) == [1, 3]
    assert found.means[3] == pytest.approx(0.1)
    assert found.spread == pytest.approx(np.std([0.1, 0.3], ddof=1))


def test_seeds_that_agree_leave_the_interval_over_users():
    values = np.random.default_rng(0).random(80)
    found = over_seeds({1: values, 2: values, 3: values}, samples=500)
    alone = bootstrap(values, samples=500)
    assert (found.low, found.high) == pytest.approx((alone.low, alone.high))
    assert found.spread == pytest.approx(0)


def test_users_who_agree_leave_the_interval_over_seeds():
    found = over_seeds({seed: np.full(50, float(seed)) for seed in range(4)}, samples=2000)
    assert 0 <= found.low < 1 < 2 < found.high <= 3


def test_the_interval_covers_the_truth_where_that_of_one_seed_does_not():
    num_covered = num_covered_alone = 0
    for trial in range(150):
        values = world(60, 8, between_users=0.5, between_seeds=0.2, seed=trial)
        both = over_seeds(values, samples=400, seed=trial)
        alone = bootstrap(values[0], samples=400, seed=trial)
        num_covered += both.low <= 0 <= both.high
        num_covered_alone += alone.low <= 0 <= alone.high
    assert num_covered >= 0.86 * 150
    assert num_covered_alone < 0.75 * 150


def test_very_many_users_give_the_interval_of_resampled_ones(monkeypatch):
    values = world(11_000, 5, between_users=0.5, between_seeds=0.01, seed=0)
    computed = over_seeds(values, samples=4000)
    monkeypatch.setattr(many_users, "EXACT_USERS", 10**9)
    drawn = over_seeds(values, samples=1000)
    width = drawn.high - drawn.low
    assert abs(computed.low - drawn.low) < 0.08 * width
    assert abs(computed.high - drawn.high) < 0.08 * width


@pytest.mark.parametrize(
    ("values", "options", "said"),
    [
        ({1: np.ones(3)}, {}, "at least two, got 1"),
        ({1: np.ones(3), 2: np.ones(4)}, {}, "same users"),
        ({1: np.ones(3), 2: np.ones(3)}, {"level": 0}, "between 0 and 1"),
        ({1: np.ones(1), 2: np.array([np.inf])}, {}, "not finite"),
    ],
)
def test_what_has_no_interval_over_seeds_is_refused(values, options, said):
    with pytest.raises(ValueError, match=said):
        over_seeds(values, **options)
