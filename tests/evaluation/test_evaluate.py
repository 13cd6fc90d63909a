"""The whole measurement over a world whose answers are known."""

from dataclasses import replace
from datetime import timedelta

import pytest

from evaluation.evaluate import evaluate
from evaluation.findings import Background
from evaluation.protocol import EvaluationConfig
from retrieval.candidates import Query

QUICK = EvaluationConfig(samples=300)
UNKNOWN = Background(popularity=[], seen={})


def run(world, *, retrieval=0.7, rerank=0.5, judgements=None, **options):
    retrieve, reranker = world.route(retrieval, rerank)
    return evaluate(
        world.judgements[:60] if judgements is None else judgements,
        retrieve=retrieve,
        rerank=reranker,
        background=world.background,
        **{"config": QUICK} | options,
    ).report


def test_a_reranker_that_knows_more_gains_and_one_that_shuffles_does_not(world, report):
    assert report.delta["ndcg@10"].low > 0
    assert run(world, rerank=-0.5).delta["ndcg@10"].high < 0


def test_reranking_cannot_change_the_recall_of_the_whole_list(report):
    before, after = report.routes["retrieval_order"], report.routes["rerank"]
    assert before["recall@100"].mean == after["recall@100"].mean
    assert report.candidate_recall["recall@100"] == before["recall@100"]


def test_no_route_beats_the_ceiling_of_its_candidates(report):
    for measure, best in report.routes["ceiling"].items():
        assert best.mean >= report.routes["rerank"][measure].mean - 1e-12
    assert 0 < report.headroom < 1


def test_the_modality_that_matters_costs_most_when_left_out(report):
    worth = {one.modality: one.delta.mean for one in report.ablations}
    assert max(worth, key=worth.get) == "text"
    text = next(one for one in report.ablations if one.modality == "text")
    assert text.candidate_recall["recall@100"] < report.candidate_recall["recall@100"].mean
    assert text.recall_delta.low > 0


def test_items_outside_the_popularity_order_are_cold(world, report):
    cold = next(one for one in report.slices if one.name == "cold")
    warm = set(world.popularity)
    assert cold.num_items == sum(len(one.item_ids - warm) for one in world.judgements) > 0


def test_the_recall_curve_rises_and_meets_the_measured_recall(report):
    curve = report.curve
    assert list(curve.retrieval) == sorted(curve.retrieval)
    assert curve.ks[-1] == 100
    assert curve.retrieval[-1] == pytest.approx(report.candidate_recall["recall@100"].mean)
    assert curve.popularity[-1] == pytest.approx(report.routes["popularity"]["recall@100"].mean)


def test_everything_is_counted_and_the_caller_may_add_to_it(world, report):
    assert report.num_users == report.counts["num_users_judged"] == len(world.judgements)
    assert report.counts["num_without_history"] == 41
    assert report.counts["num_seen_candidates"] == 0
    assert report.manifest["generation_id"] == "g-20240301"
    assert report.manifest["cut"].startswith("2024-03-01")
    assert report.manifest["catalog"] == "sha256:0f3a"
    assert report.manifest["versions"]["numpy"]


def test_candidates_that_the_user_had_met_are_counted(world):
    everything = frozenset(world.popularity)
    seen = dict.fromkeys((one.user_id for one in world.judgements), everything)
    assert run(replace(world, seen=seen)).counts["num_seen_candidates"] > 0


def test_equal_input_gives_equal_numbers(world):
    one, other = run(world), run(world)
    timeless = {"manifest": {}}
    assert replace(one, **timeless) == replace(other, **timeless)


def test_queries_of_the_caller_are_asked_instead_of_the_plain_ones(world):
    asked = []
    retrieve, rerank = world.route(0.7, 0.5)
    judgements = world.judgements[:3]
    queries = [Query(user_id=one.user_id, exclude_seen=False) for one in judgements]

    def noting(batch):
        asked.extend(batch)
        return retrieve(batch)

    rest = {"rerank": rerank, "background": UNKNOWN, "config": QUICK}
    evaluate(judgements, retrieve=noting, queries=queries, **rest)
    assert asked == queries
    with pytest.raises(ValueError, match="same users in the same order"):
        evaluate(judgements, retrieve=noting, queries=queries[::-1], **rest)


def test_users_are_asked_for_as_of_the_cut(world):
    asked = []
    retrieve, rerank = world.route(0.7, 0.5)

    def noting(batch):
        asked.extend(batch)
        return retrieve(batch)

    evaluate(
        world.judgements[:3],
        retrieve=noting,
        rerank=rerank,
        background=UNKNOWN,
        config=QUICK,
    )
    assert {query.as_of for query in asked} == {world.judgements[0].as_of}


def test_each_user_is_asked_at_their_own_moment_and_cold_items_stay_the_cuts(world):
    asked = []
    retrieve, rerank = world.route(0.7, 0.5)
    cut = world.judgements[0].as_of
    judgements = [
        replace(one, as_of=cut + timedelta(days=days))
        for days, one in enumerate(world.judgements[:40])
    ]

    def noting(batch):
        asked.extend(batch)
        return retrieve(batch)

    route = {"retrieve": noting, "rerank": rerank}
    facts = {"background": world.background, "config": QUICK}
    later = evaluate(judgements, **route, **facts).report
    assert [query.as_of for query in asked] == [one.as_of for one in judgements]
    at_the_cut = evaluate(world.judgements[:40], **route, **facts).report
    assert later.slices == at_the_cut.slices
    assert later.manifest["cut"] == cut.isoformat()
    known = evaluate(judgements[1:], **route, **facts, manifest={"cut": cut.isoformat()}).report
    assert known.manifest["cut"] == cut.isoformat()


def test_nobody_to_judge_is_refused_with_what_to_do(world):
    with pytest.raises(ValueError, match="move the cut to an earlier time"):
        run(world, judgements=[])
    with pytest.raises(ValueError, match="judged twice"):
        run(world, judgements=[world.judgements[0]] * 2)
