"""AUC within users, and probabilities beside what happened."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.judgements import Judgement
from evaluation.runs import Run
from evaluation.scored import auc, calibration, grouped_auc, scored
from tests.evaluation.small_world import CUT

levels = st.sampled_from([-1.0, 0.0, 0.25, 0.5, 1.0])
lists = st.lists(st.tuples(levels, st.booleans()), max_size=12)


def by_pairs(one):
    """The definition: every pair of a chosen item and another, a tie counting half."""
    right = [score for score, chosen in one if chosen]
    wrong = [score for score, chosen in one if not chosen]
    pairs = [(a > b) + 0.5 * (a == b) for a in right for b in wrong]
    return sum(pairs) / len(pairs) if pairs else None


def run_of(users):
    judgements = [
        Judgement(
            user_id=f"u{n}",
            as_of=CUT,
            item_ids=frozenset(f"i{i}" for i, (_, chosen) in enumerate(one) if chosen),
        )
        for n, one in enumerate(users)
    ]
    rankings = {f"u{n}": [f"i{i}" for i in range(len(one))] for n, one in enumerate(users)}
    scores = {f"u{n}": [score for score, _ in one] for n, one in enumerate(users)}
    return Run(name="r", rankings=rankings, scores=scores), judgements


@settings(max_examples=200, deadline=None)
@given(users=st.lists(lists, min_size=1, max_size=6))
def test_auc_is_the_share_of_pairs_in_order_and_a_tie_counts_half(users):
    found = scored(*run_of(users))
    expected = [by_pairs(one) for one in users]
    existing = [value for value in expected if value is not None]
    grouped = grouped_auc(found)
    np.testing.assert_allclose(
        grouped.values_U, [np.nan if value is None else value for value in expected], atol=1e-12
    )
    assert grouped.num_without == len(users) - len(existing)
    if not existing:
        assert (grouped.mean, grouped.weighted) == (None, None)
        return
    assert grouped.mean == pytest.approx(np.mean(existing))
    sizes = [len(one) for one, value in zip(users, expected, strict=True) if value is not None]
    assert grouped.weighted == pytest.approx(np.average(existing, weights=sizes))


@settings(max_examples=100, deadline=None)
@given(one=lists)
def test_one_list_for_all_is_the_same_auc(one):
    scores_N = np.array([score for score, _ in one])
    chosen_N = np.array([chosen for _, chosen in one], dtype=bool)
    expected = by_pairs(one)
    if expected is None:
        with pytest.raises(ValueError, match="at least one chosen"):
            auc(scores_N, chosen_N)
    else:
        assert auc(scores_N, chosen_N) == pytest.approx(expected)


def test_users_whose_scores_lie_apart_are_still_ordered_within_themselves():
    low, high = [(0.1, True), (0.0, False)], [(9.0, False), (10.0, True)]
    found = scored(*run_of([low, high]))
    assert grouped_auc(found).mean == 1
    assert auc(found.scores_N, found.is_chosen_N) == 0.75


def test_a_run_without_scores_has_no_auc():
    run, judgements = run_of([[(1.0, True)]])
    with pytest.raises(ValueError, match="only an order"):
        scored(Run(name="r", rankings=run.rankings), judgements)


def test_true_probabilities_are_calibrated_and_doubled_ones_are_not():
    rng = np.random.default_rng(0)
    probabilities = rng.beta(1, 4, size=40_000) / 2
    chosen = rng.random(40_000) < probabilities
    honest, boastful = calibration(probabilities, chosen), calibration(2 * probabilities, chosen)
    assert honest.ece < 0.01
    assert boastful.ece == pytest.approx(probabilities.mean(), abs=0.01)
    assert honest.brier < boastful.brier


def test_bins_hold_equally_many_items_and_keep_equal_probabilities_together():
    even = calibration(np.linspace(0, 1, 100), np.zeros(100, dtype=bool), num_bins=4)
    assert [one.count for one in even.bins] == [25, 25, 25, 25]
    assert even.ece == pytest.approx(0.5)
    tied = calibration(
        np.array([0.1] * 7 + [0.2] * 2 + [0.9]), np.array([False] * 9 + [True]), num_bins=5
    )
    assert [(one.low, one.high, one.count) for one in tied.bins] == [
        (0.1, 0.1, 7), (0.2, 0.2, 2), (0.9, 0.9, 1),
    ]  # fmt: skip
    assert tied.ece == pytest.approx((0.7 + 0.4 + 0.1) / 10)
    assert tied.largest == pytest.approx(0.2)


@settings(max_examples=200, deadline=None)
@given(
    items=st.lists(st.tuples(st.sampled_from([0, 0.1, 0.5, 1]), st.booleans()), min_size=1),
    num_bins=st.integers(1, 8),
)
def test_the_bins_are_a_partition_in_rising_order(items, num_bins):
    given_items = np.array([p for p, _ in items], dtype=float)
    found = calibration(given_items, np.array([c for _, c in items]), num_bins=num_bins)
    assert len(found.bins) <= num_bins
    assert sum(one.count for one in found.bins) == len(items)
    for left, right in zip(found.bins, found.bins[1:], strict=False):
        assert left.high < right.low
    assert found.ece <= found.largest + 1e-12


@pytest.mark.parametrize(
    ("probabilities", "chosen", "said"),
    [
        ([0.5, 1.5], [True, False], "sigmoid"),
        ([0.5], [True, False], "one score for each"),
        ([np.nan], [True], "not finite"),
        ([], [], "nothing to bin"),
    ],
)
def test_what_is_no_probability_is_refused(probabilities, chosen, said):
    with pytest.raises(ValueError, match=said):
        calibration(np.array(probabilities), np.array(chosen, dtype=bool))
