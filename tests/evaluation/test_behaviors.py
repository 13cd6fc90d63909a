"""Each behavior is judged by its own choices, and asked about."""

from dataclasses import replace

import pytest

from evaluation.behaviors import by_behavior
from evaluation.judgements import drawn
from evaluation.metrics import ndcg
from evaluation.protocol import EvaluationConfig
from retrieval.candidates import Query

CONFIG = EvaluationConfig(samples=200)


def queries(judgements, behavior):
    return [Query(user_id=one.user_id, behavior=behavior) for one in judgements]


@pytest.fixture
def asked(world):
    """Half of what each of some users chose was bought, the rest was put into the cart."""
    judgements = [one for one in world.judgements[:80] if len(one.item_ids) > 1]
    bought = [replace(one, item_ids=frozenset({min(one.item_ids)})) for one in judgements]
    carted = [replace(one, item_ids=one.item_ids - {min(one.item_ids)}) for one in judgements]
    return {"cart": (carted, queries(carted, "cart")), "buy": (bought, queries(bought, "buy"))}


def say_nothing(name, done, total):
    """Progress that nobody watches."""


def test_each_behavior_has_its_own_truth_and_its_own_question(world, asked):
    retrieve, rerank = world.route(0.7, 0.5)
    heard = []
    orders = {}

    def listening(query, candidates):
        heard.append((query.user_id, query.behavior))
        ranking = rerank(query, candidates)
        orders[query.user_id, query.behavior] = [one.item_id for one in ranking.items]
        return ranking

    found = by_behavior(asked, (retrieve, listening), config=CONFIG, on_progress=say_nothing)
    assert [(one.group, one.name) for one in found] == [("behavior", "cart"), ("behavior", "buy")]
    for one in found:
        judgements, _ = asked[one.name]
        assert (one.num_users, one.num_items) == (
            len(judgements),
            sum(len(each.item_ids) for each in judgements),
        )
        values = [ndcg(orders[each.user_id, one.name], each.item_ids, 10) for each in judgements]
        assert one.rerank["ndcg@10"] == pytest.approx(sum(values) / len(values))
        change = one.rerank["ndcg@10"] - one.retrieval_order["ndcg@10"]
        assert one.delta.mean == pytest.approx(change)
        assert one.delta.low <= one.delta.mean <= one.delta.high
    assert sorted(heard) == sorted((query.user_id, query.behavior) for _, each in asked.values()
                                   for query in each)  # fmt: skip


def test_as_many_users_are_asked_as_are_reranked_and_none_where_nobody_reranks(world, asked):
    config = replace(CONFIG, max_reranked=7)
    found = by_behavior(asked, world.route(0.7, 0.5), config=config, on_progress=say_nothing)
    assert [one.num_users for one in found] == [7, 7]
    config = replace(CONFIG, max_reranked=0)
    assert by_behavior(asked, world.route(0.7, 0.5), config=config, on_progress=say_nothing) == ()
    empty = {"sniff": ((), ())}
    assert by_behavior(empty, world.route(0.7, 0.5), config=CONFIG, on_progress=say_nothing) == ()


def test_equal_seeds_draw_equal_users(world):
    users = drawn(world.judgements, 20, 3)
    assert len(users) == 20
    assert users == drawn(world.judgements, 20, 3) != drawn(world.judgements, 20, 4)
    assert len(drawn(world.judgements, None, 0)) == len(world.judgements)
