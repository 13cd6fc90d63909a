"""Parts of the truth, each measured on its own."""

from datetime import timedelta

import pytest

from evaluation.judgements import Judgement
from evaluation.runs import Run
from evaluation.slices import ItemFacts, UserFacts, label, parts, slices
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
        items=ItemFacts.of(popularity=["warm", "x"]),
        users=UserFacts(history_lengths={"new": 2, "old": 60}),
        samples=100,
    )
    return {(one.group, one.name): one for one in parts}


def cut_up(*judgements, items=None, users=None):
    """Group -> name -> user -> judged items, sorted."""
    groups = {}
    for part in parts(judgements, items or ItemFacts.of(popularity=["warm"]), users):
        groups.setdefault(part.group, {})[part.name] = {
            one.user_id: "".join(sorted(one.item_ids)) for one in part.judgements
        }
    return groups


def judged(user_id, item_ids):
    return Judgement(user_id=user_id, as_of=CUT, item_ids=frozenset(item_ids))


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


def test_items_have_the_age_that_they_had_at_the_cut():
    created = {
        "a": CUT + timedelta(days=3),
        "b": CUT,
        "c": CUT - timedelta(hours=1),
        "d": CUT - timedelta(days=7),
        "e": CUT - timedelta(days=4000),
        "f": None,
    }
    items = ItemFacts.of(popularity=[], created_at=created, cut=CUT)
    assert cut_up(judged("u", "abcdefg"), items=items)["age"] == {
        "after the cut": {"u": "ab"},
        "0-6": {"u": "c"},
        "7-29": {"u": "d"},
        "365+": {"u": "e"},
        "unknown": {"u": "fg"},
    }
    with pytest.raises(ValueError, match="needs the cut"):
        ItemFacts.of(popularity=[], created_at=created)


def test_items_are_told_apart_by_the_blocks_that_hold_them():
    blocks = {"text": "ab", "graph": "bc"}
    items = ItemFacts.of(popularity=[], item_ids_by_block=blocks)
    assert cut_up(judged("u", "abd"), judged("v", "c"), items=items)["presence"] == {
        "graph": {"v": "c"},
        "graph+text": {"u": "b"},
        "none": {"u": "d"},
        "text": {"u": "a"},
    }


def test_popularity_is_cut_into_tenths_of_the_order_without_cold_items():
    order = [f"i{n:02d}" for n in range(25)]
    items = ItemFacts.of(popularity=order)
    found = cut_up(judged("u", [*order, "cold"]), items=items)["popularity"]
    assert list(found) == [str(n) for n in range(1, 11)]
    assert found["1"] == {"u": "i00i01i02"}
    assert found["10"] == {"u": "i23i24"}
    assert cut_up(judged("u", ["cold"]), items=items).keys() == {"items"}


def test_users_are_told_apart_by_start_and_by_what_their_filter_leaves():
    users = UserFacts(newcomers={"a", "b"}, selectivity={"a": 0.0, "b": 0.01, "c": 1.0})
    found = cut_up(*(judged(user_id, "i") for user_id in "abcd"), users=users)
    assert found["users"] == {"cold": {"a": "i", "b": "i"}, "warm": {"c": "i", "d": "i"}}
    assert list(found["filter"].items()) == [
        ("none", {"d": "i"}),
        ("<=100%", {"c": "i"}),
        ("<=1%", {"b": "i"}),
        ("<=0.1%", {"a": "i"}),
    ]
    with pytest.raises(ValueError, match=r"in \[0, 1\], got 1.5"):
        UserFacts(selectivity={"a": 1.5})


def test_the_parts_of_a_group_hold_every_judged_item_once():
    judgements = [judged("u", "abc"), judged("v", "bd")]
    items = ItemFacts.of(
        popularity=["a", "b"],
        created_at={"a": CUT - timedelta(days=50), "b": None},
        cut=CUT,
        item_ids_by_block={"text": "ad"},
    )
    users = UserFacts(history_lengths={"u": 12}, newcomers={"v"}, selectivity={"u": 0.4})
    for group, names in cut_up(*judgements, items=items, users=users).items():
        pairs = [(user, item) for one in names.values() for user in one for item in one[user]]
        expected = [("u", "a"), ("u", "b"), ("u", "c"), ("v", "b"), ("v", "d")]
        if group == "popularity":
            expected = [(user, item) for user, item in expected if item in "ab"]
        assert sorted(pairs) == expected, group


def test_facts_that_are_not_given_make_no_parts():
    assert cut_up(judged("u", ["warm"])).keys() == {"items", "popularity"}


@pytest.mark.parametrize(
    ("group", "name", "said"),
    [
        ("items", "cold", "cold items"),
        ("age", "7-29", "items 7-29 days old"),
        ("age", "unknown", "items of unknown age"),
        ("presence", "graph+text", "items with graph+text"),
        ("presence", "none", "items without vectors"),
        ("popularity", "1", "popularity decile 1"),
        ("history", "50+", "50+ met before"),
        ("users", "cold", "cold-start users"),
        ("filter", "<=1%", "filter leaves <=1%"),
        ("filter", "none", "no filter"),
        ("week", "3", "week: 3"),
    ],
)
def test_every_part_has_a_name_in_words(group, name, said):
    assert label(group, name) == said
