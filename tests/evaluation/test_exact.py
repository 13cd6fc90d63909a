"""What the index loses, and what no number of candidates could find."""

import pytest

from evaluation.protocol import EvaluationConfig
from tests.evaluation.small_world import NUM_BLANK, make_evaluation


def test_an_index_that_overlooks_items_loses_what_it_overlooks(report):
    loss = report.index_loss
    assert loss.limit == 100
    assert 0.9 < loss.overlap.mean < 0.97  # every seventeenth item is overlooked
    assert loss.recall.mean == report.candidate_recall["recall@100"].mean
    assert loss.exact_recall.mean > loss.recall.mean
    assert loss.loss.mean == pytest.approx(loss.exact_recall.mean - loss.recall.mean)


def test_only_as_many_users_as_asked_are_compared(world):
    few = make_evaluation(world, config=EvaluationConfig(samples=50, exact_users=20))
    assert few.report.index_loss.num_users_compared == 20
    none = make_evaluation(world, config=EvaluationConfig(samples=50, exact_users=0))
    assert none.report.index_loss is None
    assert none.report.ledger == few.report.ledger


def test_the_exact_curve_rises_to_what_no_k_exceeds(world, report):
    curve = report.curve
    assert list(curve.exact) == sorted(curve.exact)
    assert curve.exact_ks[-1] == 600
    assert curve.exact[-1] == curve.infinity
    at_limit = curve.exact[curve.exact_ks.index(100)]
    assert at_limit == pytest.approx(report.index_loss.exact_recall.mean)
    blank = {f"i{number:03d}" for number in range(600 - NUM_BLANK, 600)}
    missing = [len(one.item_ids & blank) / len(one.item_ids) for one in world.judgements]
    assert curve.infinity == pytest.approx(1 - sum(missing) / len(missing))
