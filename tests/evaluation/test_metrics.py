"""Metrics worked out by hand, and congruence with ranx."""

import math
import warnings
from datetime import UTC, datetime

import numpy as np
import pytest

from evaluation.judgements import Judgement
from evaluation.metrics import (
    METRICS,
    average_precision,
    hit_rate,
    mrr,
    ndcg,
    per_user,
    precision,
    recall,
)

RANKED = ["a", "b", "c", "d", "e"]
AS_OF = datetime(2024, 1, 1, tzinfo=UTC)


def test_ndcg_discounts_by_log2_and_is_one_for_the_ideal_order():
    assert ndcg(RANKED, {"b"}, 5) == pytest.approx(1 / math.log2(3))
    assert ndcg(RANKED, {"a", "b"}, 5) == 1
    expected = (1 / math.log2(3) + 1 / math.log2(5)) / (1 + 1 / math.log2(3))
    assert ndcg(RANKED, {"b", "d"}, 5) == pytest.approx(expected)


def test_the_ideal_of_ndcg_holds_no_more_hits_than_k():
    assert ndcg(RANKED, {"a", "b", "c", "x", "y"}, 3) == 1


def test_hit_rate_asks_for_any_and_recall_for_all():
    assert hit_rate(RANKED, {"c", "x"}, 3) == 1
    assert hit_rate(RANKED, {"c", "x"}, 2) == 0
    assert recall(RANKED, {"c", "x"}, 3) == 0.5


def test_mrr_looks_at_the_first_hit_within_k():
    assert mrr(RANKED, {"c", "b"}, 5) == 0.5
    assert mrr(RANKED, {"c"}, 2) == 0


def test_precision_divides_by_k_also_where_less_is_ranked():
    assert precision(["a"], {"a"}, 10) == 0.1


def test_average_precision_divides_by_all_relevant_items():
    assert average_precision(RANKED, {"a", "c", "x"}, 5) == pytest.approx((1 + 2 / 3) / 3)


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_every_metric_is_zero_where_nothing_is_ranked_or_relevant(metric):
    assert metric([], {"a"}, 10) == 0
    assert metric(RANKED, set(), 10) == 0


@pytest.fixture(scope="module")
def ranx():
    """ranx as plain Python: compiling it takes minutes, and the formulas are the same."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setenv("NUMBA_DISABLE_JIT", "1")
        warnings.simplefilter("ignore")  # numba's and ranx's own, while they are imported
        import ranx
    return ranx


@pytest.mark.parametrize("k", [1, 5, 10, 20])
def test_every_metric_agrees_with_ranx(ranx, k):
    rng = np.random.default_rng(3)
    rankings, judgements = [], []
    for user in range(60):
        ranked = [f"i{n}" for n in rng.permutation(40)[: rng.integers(1, 30)]]
        relevant = {f"i{n}" for n in rng.permutation(40)[: rng.integers(1, 12)]}
        rankings.append(ranked)
        judgements.append(
            Judgement(user_id=f"u{user:02d}", as_of=AS_OF, item_ids=frozenset(relevant))
        )
    qrels = ranx.Qrels({one.user_id: dict.fromkeys(one.item_ids, 1) for one in judgements})
    run = ranx.Run(
        {
            one.user_id: {item: float(-rank) for rank, item in enumerate(ranked)}
            for one, ranked in zip(judgements, rankings, strict=True)
        }
    )
    theirs = {
        "ndcg": "ndcg", "hr": "hit_rate", "recall": "recall",
        "mrr": "mrr", "precision": "precision", "map": "map",
    }  # fmt: skip
    for name, metric in METRICS.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = ranx.evaluate(qrels, run, f"{theirs[name]}@{k}", return_mean=False)
        np.testing.assert_allclose(
            per_user(rankings, judgements, metric, k), expected, atol=1e-9, err_msg=name
        )


def test_rankings_and_judgements_are_aligned_or_refused():
    judgement = Judgement(user_id="u", as_of=AS_OF, item_ids=frozenset({"a"}))
    assert per_user([RANKED], [judgement], recall, 1).tolist() == [1.0]
    with pytest.raises(ValueError, match="2 rankings for 1 judgements"):
        per_user([RANKED, RANKED], [judgement], recall, 1)
    with pytest.raises(ValueError, match="k >= 1"):
        per_user([RANKED], [judgement], recall, 0)
