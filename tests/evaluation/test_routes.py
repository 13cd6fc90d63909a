"""Queries along a route: the same candidates in two orders."""

from dataclasses import replace

import pytest

from evaluation.routes import travel
from retrieval.candidates import Query

QUERIES = [Query(user_id=f"u{number:04d}") for number in range(10)]


def go(route, **options):
    settings = {"name": "full", "limit": 20, "batch_size": 4, "on_progress": lambda *_: None}
    return travel(QUERIES, route, **(settings | options))


def test_both_runs_hold_the_same_items_in_other_orders(world):
    found = go(world.route(0.7, 0.5))
    for user_id, before in found.retrieved.rankings.items():
        assert len(before) == 20
        assert sorted(before) == sorted(found.reranked.rankings[user_id])
    assert found.retrieved.rankings != found.reranked.rankings
    assert found.num_candidates == 200
    assert found.generation_ids == {"g-20240301"}


def test_no_right_answer_is_put_in_that_retrieval_missed(world):
    found = go(world.route(0.0, 1.0), limit=5)
    missed = [
        one for one in world.judgements[:10]
        if not one.item_ids & set(found.retrieved.rankings[one.user_id])
    ]  # fmt: skip
    assert missed
    for one in missed:
        assert not one.item_ids & set(found.reranked.rankings[one.user_id])


def test_retrieval_is_asked_in_batches_and_progress_is_told_by_user(world):
    retrieve, rerank = world.route(0.7, 0.5)
    sizes, told = [], []

    def counting(queries):
        sizes.append(len(queries))
        return retrieve(queries)

    go((counting, rerank), on_progress=lambda *step: told.append(step))
    assert sizes == [4, 4, 2]
    assert told[0] == ("full", 1, 10)
    assert told[-1] == ("full", 10, 10)


def test_the_size_of_batches_changes_nothing(world):
    one, many = go(world.route(0.7, 0.5), batch_size=1), go(world.route(0.7, 0.5), batch_size=10)
    assert one.reranked == many.reranked


def test_a_reranker_that_loses_an_item_is_refused_by_name(world):
    retrieve, rerank = world.route(0.7, 0.5)

    def losing(query, candidates):
        ranking = rerank(query, candidates)
        return replace(ranking, items=ranking.items[1:])

    with pytest.raises(ValueError, match=r"full: reranking for user 'u0000'.*20 in, 19 out"):
        go((retrieve, losing))


def test_a_retriever_that_forgets_a_query_is_refused(world):
    retrieve, rerank = world.route(0.7, 0.5)
    with pytest.raises(ValueError, match="4 queries gave 3 candidate lists"):
        go((lambda queries: retrieve(queries[1:]), rerank))
