"""Differences are taken user by user, full route minus ablated."""

import numpy as np
import pytest

from evaluation.comparison import (
    ablations_of,
    deltas,
    differences,
    holm_across,
    holm_over,
    intervals,
)
from evaluation.protocol import EvaluationConfig
from evaluation.runs import Scores
from evaluation.significance import Difference, holm

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


def test_a_difference_has_its_effect_size_and_for_how_many_it_holds():
    gained = np.where(np.arange(40) < 30, 0.25, -0.05)
    found = differences({"x": gained, "y": np.zeros(40)}, CONFIG)
    assert found["x"].mean == pytest.approx(gained.mean())
    assert found["x"].effect.d_z == pytest.approx(gained.mean() / gained.std(ddof=1))
    assert found["x"].effect.share_better == 0.75
    assert (found["y"].p_value, found["y"].effect.d_z) == (1, None)


def test_holm_counts_the_comparisons_of_all_tables_together():
    def found(p_value):
        return Difference(mean=0, low=0, high=0, p_value=p_value)

    first, second = holm_across({"a": found(0.01), "b": found(0.04)}, {"a": found(0.02)})
    assert [first["a"].p_value_holm, second["a"].p_value_holm] == pytest.approx([0.03, 0.04])
    assert first["b"].p_value_holm == pytest.approx(0.04)


def test_a_report_is_corrected_for_every_comparison_in_it(report):
    found = [*report.delta.values(), *report.llm_delta.values(), report.index_loss.loss]
    found += [one for part in report.ablations for one in (part.delta, part.recall_delta)]
    expected = holm({str(place): one.p_value for place, one in enumerate(found)})
    assert [one.p_value_holm for one in found] == list(expected.values())
    assert [part.p_value_holm for part in report.ablations] == [
        part.delta.p_value_holm for part in report.ablations
    ]
    assert holm_over(report) == report
