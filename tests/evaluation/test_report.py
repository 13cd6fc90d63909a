"""The report's keys are a promise."""

import json

import pytest

from evaluation.report import as_dict


@pytest.fixture
def plain(report):
    return json.loads(json.dumps(as_dict(report), allow_nan=False))


def test_the_documented_keys_stand(plain):
    assert set(plain["retrieval"]) == {"recall@20", "recall@100"}
    for route in ("retrieval_order", "rerank", "popularity", "ceiling"):
        for metric in ("ndcg", "hr", "recall", "mrr"):
            assert 0 <= plain[route][f"{metric}@10"] <= 1
            assert {"mean", "low", "high"} == set(plain["intervals"][route][f"{metric}@10"])
    assert {"recall@20", "recall@100"} <= set(plain["popularity"])
    assert {"mean", "low", "high", "p_value"} == set(plain["delta"]["ndcg@10"])
    text = plain["ablation"]["text"]
    assert {"ndcg@10", "recall@100", "retrieval", "retrieval_order", "delta"} <= set(text)
    assert {"mean", "low", "high", "p_value", "p_value_holm"} == set(text["delta"])
    assert set(plain["slices"]) == {"items", "popularity", "history"}
    assert {"generation_id", "cut", "versions", "durations"} <= set(plain["manifest"])
    assert plain["config"]["seed"] == 0


def test_every_key_is_documented(plain, repository):
    text = (repository / "docs" / "report.md").read_text(encoding="utf-8")
    named = {*plain, *plain["counts"], *plain["config"], *plain["movement"], *plain["curve"]}
    named |= {*plain["ablation"]["text"], *plain["slices"]["items"]["cold"]} - set(plain["rerank"])
    named -= {"num_users_after", "num_without_history"}
    assert sorted(name for name in named if f"`{name}" not in text and f".{name}" not in text) == []


def test_a_change_is_reranked_minus_retrieval_order(plain):
    for measure, delta in plain["delta"].items():
        expected = plain["rerank"][measure] - plain["retrieval_order"][measure]
        assert delta["mean"] == pytest.approx(expected)
        assert delta["low"] <= delta["mean"] <= delta["high"]


def test_an_ablation_is_the_full_route_minus_the_route_without(plain):
    for one in plain["ablation"].values():
        expected = plain["rerank"]["ndcg@10"] - one["ndcg@10"]
        assert one["delta"]["mean"] == pytest.approx(expected)
        expected = plain["retrieval"]["recall@100"] - one["retrieval"]["recall@100"]
        assert one["recall_delta"]["mean"] == pytest.approx(expected)
