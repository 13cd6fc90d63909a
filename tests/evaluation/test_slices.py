"""Parts of the truth, each measured on its own."""

from evaluation.judgements import Judgement
from evaluation.runs import Run
from evaluation.slices import slices
from tests.evaluation.small_world import CUT

JUDGEMENTS = [
    Judgement(user_id="new", as_of=CUT, item_ids=frozenset({"cold"})),
    Judgement(user_id="old", as_of=CUT, item_ids=frozenset({"warm", "cold"})),
]
BEFORE = Run(name="b", rankings={"new": ["x", "cold"], "old": ["warm", "x"]})
AFTER = Run(name="a", rankings={"new": ["cold", "x"], "old": ["warm", "x"]})


def found():
    parts = slices(
        BEFORE,
        AFTER,
        JUDGEMENTS,
        warm_items={"warm", "x"},
        history_lengths={"new": 2, "old": 60},
        samples=100,
    )
    return {(one.group, one.name): one for one in parts}


def test_item_slices_keep_only_their_kind_of_right_answers():
    cold, warm = found()["items", "cold"], found()["items", "warm"]
    assert (cold.num_users, cold.num_items, cold.candidate_recall) == (2, 2, 0.5)
    assert (warm.num_users, warm.num_items, warm.candidate_recall) == (1, 1, 1.0)
    assert cold.delta.mean > 0
    assert warm.delta.mean == 0
    assert cold.rerank["recall@10"] == 0.5


def test_users_fall_into_slices_by_history_and_empty_slices_are_left_out():
    names = [name for group, name in found() if group == "history"]
    assert names == ["0-4", "50+"]
    assert found()["history", "0-4"].retrieval_order["ndcg@10"] < 1
    assert found()["history", "0-4"].rerank["ndcg@10"] == 1
