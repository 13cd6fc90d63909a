"""What lists show of the catalog, worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.judgements import Judgement
from evaluation.runs import Run
from evaluation.whole_list import exposure, gini, novelty, whole_list
from tests.evaluation.small_world import CUT

JUDGEMENTS = [Judgement(user_id=user, as_of=CUT, item_ids=frozenset({"a"})) for user in "uvw"]
RUN = Run(name="r", rankings={"u": ["a", "b", "d"], "v": ["a", "c"], "w": []})


def found(**options):
    facts = {"catalog": "abcd", "num_fans": {"a": 3, "b": 1}, "num_users": 3, "samples": 200}
    return whole_list(RUN, JUDGEMENTS, **(facts | options))


def test_coverage_counts_distinct_items_within_k():
    assert found(k=1).coverage == 0.25
    assert found(k=2).coverage == 0.75
    assert found(k=3).coverage == 1


def test_items_never_shown_make_lists_less_equal():
    assert gini(np.array([1, 1, 1, 1])) == 0
    assert gini(np.array([0, 0, 0, 8])) == 0.75
    assert gini(np.zeros(3, dtype=np.int64)) == 0
    assert found(k=2).gini == gini(np.array([2, 1, 1, 0]))


@given(counts=st.lists(st.integers(0, 50), min_size=1).filter(any))
def test_gini_is_the_mean_difference_of_all_pairs_by_twice_the_mean(counts):
    pairs = [abs(a - b) for a in counts for b in counts]
    expected = np.mean(pairs) / (2 * np.mean(counts))
    assert gini(np.array(counts)) == pytest.approx(expected, abs=1e-12)


def test_rare_items_are_novel_and_cold_ones_not_infinitely():
    bits = novelty([["a"], ["b"], ["c"], ["a", "c"], []], num_fans={"a": 3, "b": 1}, num_users=3)
    assert bits[:4].tolist() == [0, 1, 2, 1]
    assert math.isnan(bits[4])


def test_users_to_whom_nothing_is_shown_have_no_novelty_and_are_counted():
    measured = found(k=2)
    assert measured.num_users_without == 1
    assert measured.novelty.mean == pytest.approx((0.5 + 1) / 2)
    assert measured.novelty.low <= measured.novelty.mean <= measured.novelty.high
    empty = Run(name="r", rankings={"w": []})
    nothing = whole_list(empty, JUDGEMENTS[2:], catalog="a", num_fans={}, num_users=1)
    assert nothing.novelty is None
    assert (nothing.coverage, nothing.gini, nothing.num_users_without) == (0, 0, 1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"catalog": "abc"}, "1 shown items are not in the catalog, the first is 'd'"),
        ({"catalog": ""}, "empty"),
        ({"k": 0}, "k = 1"),
        ({"num_users": 2}, "3 fans among 2 users"),
    ],
)
def test_lists_that_do_not_fit_the_catalog_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        found(**options)


def test_exposure_goes_by_item_id():
    assert exposure([["b", "a"], ["b"]], ["c", "b", "a"]).tolist() == [1, 2, 0]
