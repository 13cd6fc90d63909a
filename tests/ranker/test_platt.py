"""Slopes and intercepts where the truth is known, and where scores say nothing of it."""

import numpy as np
import pytest

from ranker.platt import platt, sigmoid


def test_the_truth_that_choices_were_drawn_with_is_found() -> None:
    random = np.random.default_rng(1)
    scores = 3 * random.normal(size=40_000) + 100
    is_chosen = random.random(len(scores)) < sigmoid(0.4 * (scores - 100) - 2.5)
    slope, intercept = platt(scores, is_chosen)
    assert slope == pytest.approx(0.4, abs=0.02)
    assert intercept + 100 * slope == pytest.approx(-2.5, abs=0.06)


def test_scores_that_part_everything_do_not_ask_for_an_endless_slope() -> None:
    is_chosen = np.arange(100) >= 90
    slope, intercept = platt(is_chosen.astype(np.float64), is_chosen)
    assert 0 < slope < 10
    assert sigmoid(np.array([intercept, slope + intercept])) == pytest.approx([1 / 92, 11 / 12])


@pytest.mark.parametrize(("low", "high"), [(5.0, 1.0), (1.0, 1.0)])
def test_scores_that_say_nothing_or_the_reverse_give_the_base_rate(low: float, high: float) -> None:
    is_chosen = np.arange(40) < 10
    slope, intercept = platt(np.where(is_chosen, high, low), is_chosen)
    assert slope == 0
    assert 1 / (1 + np.exp(-intercept)) == pytest.approx(0.25, abs=0.03)
