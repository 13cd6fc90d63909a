"""Metrics worked out by hand, and congruence with ranx and ir-measures."""

import math
import warnings
from datetime import UTC, datetime

import ir_measures
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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
from evaluation.trec import falling

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


KS = (1, 3, 10, 30)
THEIRS = {
    "ndcg": ("ndcg", ir_measures.nDCG),
    "hr": ("hit_rate", ir_measures.Success),
    "recall": ("recall", ir_measures.R),
    "mrr": ("mrr", ir_measures.RR),
    "precision": ("precision", ir_measures.P),
    "map": ("map", ir_measures.AP),
}


def tied_world(seed, *, num_users=25, num_items=40):
    """Users with few distinct scores, hence many ties: user -> item -> score, and what is right."""
    rng = np.random.default_rng(seed)
    items = [f"i{n:02d}" for n in range(num_items)]
    scored, judgements = {}, []
    for number in range(num_users):
        listed = rng.permutation(num_items)[: rng.integers(1, num_items)]
        levels = rng.integers(0, rng.integers(1, 9), size=len(listed))
        chosen = rng.permutation(num_items)[: rng.integers(1, 12)]
        user_id = f"u{number:02d}"
        scored[user_id] = {items[n]: float(x) for n, x in zip(listed, levels, strict=True)}
        judgements.append(
            Judgement(user_id=user_id, as_of=AS_OF, item_ids=frozenset(items[n] for n in chosen))
        )
    return scored, judgements


def with_ties_by_id(scored):
    """Our order, and scores that hold it in every tool."""
    ranked = {
        user: sorted(of_user, key=lambda item: (-of_user[item], item))
        for user, of_user in scored.items()
    }
    told_apart = {
        user: dict(zip(items, falling([scored[user][i] for i in items], len(items)), strict=True))
        for user, items in ranked.items()
    }
    return ranked, told_apart


def of_ir_measures(judgements, scored):
    """`<metric>@<k>` -> values in the order of the judgements, by trec_eval's own code."""
    measures = {m @ k: f"{name}@{k}" for name, (_, m) in THEIRS.items() for k in KS}
    qrels = {one.user_id: dict.fromkeys(one.item_ids, 1) for one in judgements}
    found = {name: {} for name in measures.values()}
    for one in ir_measures.iter_calc(measures, qrels, scored):
        found[measures[one.measure]][one.query_id] = one.value
    return {name: [of_user[one.user_id] for one in judgements] for name, of_user in found.items()}


def assert_equal_values(ranked, judgements, expected, *, names=METRICS):
    rankings = [ranked[one.user_id] for one in judgements]
    for name in names:
        for k in KS:
            np.testing.assert_allclose(
                per_user(rankings, judgements, METRICS[name], k),
                expected[f"{name}@{k}"],
                rtol=0,
                atol=1e-9,
                err_msg=f"{name}@{k}",
            )


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32 - 1))
def test_every_metric_agrees_with_ranx(ranx, seed):
    """Ties: ranx sorts by numpy, so equal scores fall as they happen to; ours are told apart."""
    scored, judgements = tied_world(seed)
    ranked, told_apart = with_ties_by_id(scored)
    qrels = ranx.Qrels({one.user_id: dict.fromkeys(one.item_ids, 1) for one in judgements})
    names = {f"{theirs}@{k}": f"{name}@{k}" for name, (theirs, _) in THEIRS.items() for k in KS}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = ranx.evaluate(qrels, ranx.Run(told_apart), list(names), return_mean=False)
    assert_equal_values(ranked, judgements, {names[name]: found[name] for name in names})


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_every_metric_agrees_with_ir_measures(seed):
    scored, judgements = tied_world(seed)
    ranked, told_apart = with_ties_by_id(scored)
    assert_equal_values(ranked, judgements, of_ir_measures(judgements, told_apart))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_trec_eval_lets_ties_fall_by_id_from_the_largest_down(seed):
    """With its rule in the place of ours, tied scores give equal values as well. Not so `mrr`:
    ir-measures takes it from a script in which ties fall by id from the smallest up, as ours."""
    scored, judgements = tied_world(seed)
    by_ours, _ = with_ties_by_id(scored)
    by_theirs = {
        user: sorted(sorted(of_user, reverse=True), key=lambda item: -of_user[item])
        for user, of_user in scored.items()
    }
    expected = of_ir_measures(judgements, scored)
    assert_equal_values(by_ours, judgements, expected, names=["mrr"])
    assert_equal_values(by_theirs, judgements, expected, names=METRICS.keys() - {"mrr"})


def test_rankings_and_judgements_are_aligned_or_refused():
    judgement = Judgement(user_id="u", as_of=AS_OF, item_ids=frozenset({"a"}))
    assert per_user([RANKED], [judgement], recall, 1).tolist() == [1.0]
    with pytest.raises(ValueError, match="2 rankings for 1 judgements"):
        per_user([RANKED, RANKED], [judgement], recall, 1)
    with pytest.raises(ValueError, match="k >= 1"):
        per_user([RANKED], [judgement], recall, 0)
