"""Differences are taken user by user, full route minus ablated."""

import numpy as np
import pytest

from evaluation.comparison import ablations_of, deltas, intervals
from evaluation.protocol import EvaluationConfig
from evaluation.runs import Scores

CONFIG = EvaluationConfig(samples=300)
USERS = tuple(f"u{n}" for n in range(40))


def scores(shift):
    base = np.linspace(0.2, 0.6, len(USERS))
    keys = [*CONFIG.measures, *(f"recall@{k}" for k in CONFIG.recall_ks)]
    return Scores(run="r", user_ids=USERS, values={key: base + shift for key in keys})


def test_a_constant_gain_has_an_interval_of_no_width():
    delta = deltas(scores(0), scores(0.1), CONFIG)["ndcg@10"]
    assert (delta.mean, delta.low, delta.high) == pytest.approx((0.1, 0.1, 0.1))
    assert delta.p_value == pytest.approx(1 / 301)


def test_a_modality_is_worth_what_the_route_loses_without_it():
    found = ablations_of(
        {"text": (scores(-0.2), scores(-0.1)), "audio": (scores(0), scores(0.05))},
        full=(scores(0), scores(0.05)),
        config=CONFIG,
    )
    assert [one.modality for one in found] == ["audio", "text"]
    audio, text = found
    assert text.delta.mean == pytest.approx(0.15)
    assert text.recall_delta.mean == pytest.approx(0.2)
    assert text.p_value_holm == pytest.approx(2 / 301)
    assert audio.delta.includes_zero
    assert text.rerank["ndcg@10"] == pytest.approx(0.3)
    assert text.candidate_recall["recall@100"] == pytest.approx(0.2)


def test_intervals_keep_the_names_of_routes_and_measures():
    found = intervals({"rerank": scores(0)}, CONFIG)
    assert found["rerank"]["mrr@5"].mean == pytest.approx(0.4)
