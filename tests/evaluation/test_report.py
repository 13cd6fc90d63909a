"""The report's keys are a promise."""

import json

import jsonschema
import pytest

from evaluation.report import FORMAT, as_dict


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
    change = {"mean", "low", "high", "p_value", "p_value_holm", "effect"}
    assert change == set(plain["delta"]["ndcg@10"])
    text = plain["ablation"]["text"]
    assert {"ndcg@10", "recall@100", "retrieval", "retrieval_order", "delta"} <= set(text)
    assert change == set(text["delta"])
    assert set(plain["slices"]) == {"items", "popularity", "history"}
    assert {"generation_id", "cut", "versions", "durations"} <= set(plain["manifest"])
    assert plain["config"]["seed"] == 0


@pytest.fixture(scope="session")
def schema(repository):
    found = json.loads((repository / "evaluation" / "report.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(found)
    return jsonschema.Draft202012Validator(found)


@pytest.mark.parametrize("kind", ["report", "alone", "mixed", "told_why"])
def test_every_report_keeps_to_the_schema(schema, kind, request):
    plain = json.loads(json.dumps(as_dict(request.getfixturevalue(kind)), allow_nan=False))
    assert [one.message for one in schema.iter_errors(plain)] == []
    assert plain["format"] == FORMAT == schema.schema["properties"]["format"]["const"]


def test_explanations_and_behaviors_stand_by_name(told_why):
    plain = json.loads(json.dumps(as_dict(told_why), allow_nan=False))
    item = plain["explained"][0]["items"][1]
    assert item["contributions"] == {"audio": 0.25, "graph": -0.25, "text": 0.0}
    assert item["base"] + sum(item["contributions"].values()) == item["score"]
    assert plain["behaviors"] == {"purchase": plain["slices"]["items"]["cold"]}


def test_the_schema_refuses_a_key_that_is_not_documented_and_a_share_above_one(schema, plain):
    assert not schema.is_valid(plain | {"surprise": 1})
    assert not schema.is_valid(plain | {"rerank": plain["rerank"] | {"ndcg@10": 1.2}})


def test_two_populations_stand_apart(mixed, report):
    plain = as_dict(mixed)
    assert plain["counts"]["num_users_judged"] == 300
    assert plain["counts"]["num_users_reranked"] == 60
    assert plain["everybody"]["retrieval_order"] == as_dict(report)["retrieval_order"]
    assert plain["retrieval"] == as_dict(report)["retrieval"]
    assert plain["ledger"]["num_users"] == 60
    assert plain["retrieval_ledger"]["num_users"] == 300
    assert plain["retrieval_ledger"]["final"] == "retrieval_order"


def test_retrieval_alone_has_no_change(alone):
    plain = as_dict(alone)
    assert plain["rerank"] is plain["delta"] is plain["movement"] is plain["everybody"] is None
    assert plain["ledger"]["final"] == "retrieval_order"


def test_every_key_is_documented(plain, repository):
    text = (repository / "docs" / "report.md").read_text(encoding="utf-8")
    named = {*plain, *plain["counts"], *plain["config"], *plain["movement"], *plain["curve"]}
    named |= {*plain["index_loss"], *plain["ledger"], *plain["ledger"]["counts"]}
    named |= {*plain["scores"]["rerank"], *plain["scores"]["rerank"]["calibration"]}
    named |= {*plain["whole_lists"]["rerank"]}
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
