"""Intervals keep their promise on simulated users."""

import numpy as np
import pytest
from scipy import stats

from evaluation import significance
from evaluation.significance import (
    Interval,
    bootstrap,
    bootstrap_all,
    effect,
    holm,
    paired_bootstrap,
    paired_randomization,
)


def test_ninety_five_percent_intervals_cover_the_truth_about_as_often():
    rng = np.random.default_rng(0)
    num_covered = 0
    for trial in range(300):
        found = bootstrap(rng.exponential(size=150), samples=400, seed=trial)
        num_covered += found.low <= 1.0 <= found.high
    assert 0.90 <= num_covered / 300 <= 0.98


def test_the_interval_agrees_with_the_normal_one_where_users_are_many():
    values = np.random.default_rng(1).normal(0.3, 0.2, size=4000)
    found = bootstrap(values, samples=4000)
    reach = 1.96 * values.std() / np.sqrt(len(values))
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - reach, abs=reach * 0.1)
    assert found.high == pytest.approx(values.mean() + reach, abs=reach * 0.1)


def test_the_sign_follows_the_better_system():
    rng = np.random.default_rng(2)
    worse = rng.random(500)
    better = worse + rng.normal(0.05, 0.1, size=500)
    gain = paired_bootstrap(better, worse, samples=1000)
    loss = paired_bootstrap(worse, better, samples=1000)
    assert gain.low > 0
    assert (loss.low, loss.high) == pytest.approx((-gain.high, -gain.low))
    assert not gain.includes_zero


def test_pairing_sees_what_two_separate_intervals_cannot():
    rng = np.random.default_rng(3)
    one = rng.random(200)
    other = one + 0.01
    assert bootstrap(one, samples=500).high > bootstrap(other, samples=500).low
    assert paired_bootstrap(other, one, samples=500).low == pytest.approx(0.01)


def test_equal_systems_differ_by_exactly_zero():
    values = np.random.default_rng(4).random(50)
    assert paired_bootstrap(values, values) == Interval(mean=0, low=0, high=0)
    assert paired_bootstrap(values, values).includes_zero
    assert paired_randomization(values, values) == 1


def test_equal_seeds_give_equal_intervals_and_the_chunks_do_not_show(monkeypatch):
    values = np.random.default_rng(5).random(40)
    whole = bootstrap(values, samples=300, seed=9)
    assert bootstrap(values, samples=300, seed=9) == whole
    assert bootstrap(values, samples=300, seed=8) != whole
    monkeypatch.setattr(significance, "CHUNK_VALUES", 100)
    chunked = bootstrap(values, samples=300, seed=9)
    assert (chunked.low, chunked.high) == pytest.approx((whole.low, whole.high))


def test_many_measures_at_once_equal_each_alone():
    rng = np.random.default_rng(6)
    columns = {"one": rng.random(80), "other": rng.random(80)}
    together = bootstrap_all(columns, samples=200, seed=1)
    for name, column in columns.items():
        alone = bootstrap(column, samples=200, seed=1)
        assert (together[name].low, together[name].high) == pytest.approx((alone.low, alone.high))
    assert bootstrap_all({}) == {}


def test_users_without_any_value_are_drawn_like_all_others():
    values = np.r_[np.random.default_rng(5).exponential(size=200), np.zeros(300)]
    found = bootstrap(values, samples=20_000)
    # A value of almost nothing is not zero, so that nobody is passed over.
    plain = bootstrap(values + 1e-12, samples=20_000, seed=1)
    error = values.std() / np.sqrt(len(values))
    assert abs(found.low - plain.low) < 0.1 * error
    assert abs(found.high - plain.high) < 0.1 * error
    assert bootstrap(np.zeros(9), samples=50) == Interval(mean=0, low=0, high=0)


def test_the_randomization_test_agrees_with_scipy():
    rng = np.random.default_rng(7)
    a, b = rng.random(60), rng.random(60) - 0.06
    expected = stats.permutation_test(
        (a, b),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        n_resamples=4000,
        rng=np.random.default_rng(0),
    )
    assert paired_randomization(a, b, samples=4000) == pytest.approx(expected.pvalue, abs=0.03)


def test_false_alarms_are_as_rare_as_promised():
    rng = np.random.default_rng(8)
    p_values = [
        paired_randomization(rng.random(80), rng.random(80), samples=300, seed=trial)
        for trial in range(300)
    ]
    assert 0.02 <= np.mean(np.array(p_values) <= 0.05) <= 0.09


def test_holm_corrects_the_smallest_most_and_keeps_the_order():
    corrected = holm({"a": 0.01, "b": 0.04, "c": 0.03})
    assert corrected == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})
    assert holm({}) == {}
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}


@pytest.mark.parametrize(
    ("values", "options", "said"),
    [
        ([], {}, "no users"),
        ([1.0, np.nan], {}, "not finite"),
        ([1.0], {"level": 1.0}, "between 0 and 1"),
        ([1.0], {"samples": 0}, "at least one"),
    ],
)
def test_what_cannot_be_resampled_is_refused(values, options, said):
    with pytest.raises(ValueError, match=said):
        bootstrap(np.array(values), **options)


def test_pairs_of_different_users_are_refused():
    with pytest.raises(ValueError, match="same users"):
        paired_bootstrap(np.ones(3), np.ones(4))


def test_columns_of_different_users_are_refused():
    with pytest.raises(ValueError, match="same users"):
        bootstrap_all({"a": np.ones(3), "b": np.ones(4)})


def test_the_effect_is_the_mean_by_the_deviation_and_says_for_how_many_it_holds():
    found = effect(np.array([0.0, 0.0, 0.2, 0.4, -0.1]))
    assert found.d_z == pytest.approx(0.1 / np.std([0, 0, 0.2, 0.4, -0.1], ddof=1))
    assert (found.share_better, found.share_same, found.share_worse) == (0.4, 0.4, 0.2)


@pytest.mark.parametrize("values", [[0.1] * 7, [0.0, 0.0], [0.3]])
def test_differences_that_do_not_vary_have_no_effect_size(values):
    assert effect(np.array(values)).d_z is None
