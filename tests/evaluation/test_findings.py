"""Two stages, each over its own users."""

from dataclasses import replace

import pytest

from evaluation.findings import Background
from evaluation.protocol import EvaluationConfig
from tests.evaluation.small_world import lossy, make_evaluation


def test_retrieval_alone_asks_no_reranker_and_delivers_its_own_order(world):
    found = make_evaluation(world, config=EvaluationConfig(samples=50, max_reranked=0), rerank=None)
    assert "rerank" not in found.report.routes
    assert "rerank" not in found.runs
    assert found.report.final == found.report.ledger.final == "retrieval_order"
    assert found.report.counts["num_users_reranked"] == 0


def test_the_users_who_are_reranked_are_drawn_by_the_seed(world):
    def drawn(seed):
        config = EvaluationConfig(samples=50, max_reranked=30, seed=seed)
        return set(make_evaluation(world, config=config).runs["rerank"].rankings)

    assert len(drawn(0)) == 30
    assert drawn(0) == drawn(0)
    assert drawn(0) != drawn(1)


def test_what_compares_orders_is_over_those_reranked_alone(world, mixed):
    users = [one.num_users for one in mixed.slices if one.group == "history"]
    assert sum(users) == mixed.num_reranked == 60
    assert mixed.curve.ks[-1] == 100
    everybody = mixed.everybody["retrieval_order"]["recall@100"]
    assert mixed.candidate_recall["recall@100"] == everybody
    assert mixed.routes["retrieval_order"]["recall@100"] != everybody
    change = mixed.delta["ndcg@10"].mean
    after, before = (mixed.routes[one]["ndcg@10"].mean for one in ("rerank", "retrieval_order"))
    assert change == pytest.approx(after - before)


def test_without_what_the_generation_holds_there_is_no_ledger(world):
    bare = Background(popularity=world.popularity, seen=world.seen)
    retrieve, rerank = world.route(0.7, 0.5)
    found = make_evaluation(world, background=bare, retrieve=lossy(retrieve), rerank=rerank)
    assert found.report.ledger is None
    assert found.report.whole_lists == {}
    assert found.report.index_loss is not None


def test_scores_are_read_as_log_odds_and_order_within_users(report):
    one = report.scores["rerank"]
    assert 0.5 < one.auc <= 1
    assert sum(part.count for part in one.calibration.bins) == report.counts["num_candidates"]


def test_p_values_are_corrected_over_both_tables_of_changes(report):
    for table in (report.delta, report.llm_delta):
        assert all(one.p_value_holm >= one.p_value for one in table.values())


def test_a_popular_item_outside_the_catalog_is_refused_not_hidden(world):
    stranger = replace(world.background, popularity=("stranger", *world.popularity))
    with pytest.raises(ValueError, match="not in the catalog, the first is 'stranger'"):
        make_evaluation(world, background=stranger)
