"""Runs, their scores, and the two runs that need no system."""

import pytest

from evaluation.judgements import Judgement
from evaluation.runs import Run, ceiling_run, measure, popularity_run
from tests.evaluation.small_world import CUT


def judged(**chosen):
    return [
        Judgement(user_id=user_id, as_of=CUT, item_ids=frozenset(items))
        for user_id, items in chosen.items()
    ]


def test_scores_are_macro_averages_in_the_order_of_the_judgements():
    run = Run(name="r", rankings={"v": ["x"], "u": ["a", "b"]})
    scores = measure(run, judged(u="ab", v="y"), ks=(1, 2), recall_ks=(2,))
    assert scores.user_ids == ("u", "v")
    assert scores.values["recall@1"].tolist() == [0.5, 0]
    assert scores.mean("recall@2") == 0.5
    assert scores.mean("precision@2") == 0.5


def test_candidate_lists_are_measured_by_recall_alone():
    scores = measure(Run(name="r", rankings={"u": "a"}), judged(u="a"), ks=(5,), recall_ks=(100,))
    assert "recall@100" in scores.values
    assert "ndcg@100" not in scores.values


def test_a_run_that_ranks_an_item_twice_is_refused():
    with pytest.raises(ValueError, match="twice for user 'u'"):
        Run(name="r", rankings={"u": ["a", "b", "a"]})


def test_a_judged_user_must_be_ranked_if_only_by_nothing():
    with pytest.raises(ValueError, match=r"nothing for 1 judged users, the first is 'v'"):
        measure(Run(name="r", rankings={"u": ["a"]}), judged(u="a", v="b"))
    empty = Run(name="r", rankings={"u": [], "v": []})
    assert measure(empty, judged(u="a", v="b")).mean("ndcg@10") == 0


def test_popularity_leaves_out_what_each_user_had_met_and_still_fills_the_list():
    run = popularity_run("abcdef", judged(u="f", v="a"), {"u": frozenset("ab")}, limit=3)
    assert run.rankings == {"u": ["c", "d", "e"], "v": ["a", "b", "c"]}


def test_the_ceiling_puts_the_found_right_answers_first_and_adds_none():
    retrieved = Run(name="r", rankings={"u": list("abcd")})
    assert ceiling_run(retrieved, judged(u="dbz")).rankings["u"] == ["b", "d", "a", "c"]
