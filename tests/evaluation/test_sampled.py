"""Short lists: known ranks, ties at their expected value, popularity always beside the systems."""

import itertools
import math
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import pytest

from evaluation.judgements import Judgement
from evaluation.negatives import Negatives
from evaluation.sampled import (
    ShortList,
    at_k,
    is_valid,
    list_auc,
    pooled_auc,
    scored_lists,
    short_lists,
)
from retrieval.candidates import Query

ITEMS = [f"i{n}" for n in range(10)]
CUT = datetime(2024, 3, 1, tzinfo=UTC)
NAN = float("nan")


def judged(user: str, *items: str) -> Judgement:
    return Judgement(user_id=user, as_of=CUT, item_ids=frozenset(items))


def lists(num: int = 3) -> list[ShortList]:
    return short_lists(
        [judged("u", "i0"), judged("v", "i5")],
        [Query(user_id="u"), Query(user_id="v")],
        negatives=Negatives(ITEMS),
        touched={"u": frozenset({"i1", "i2"}), "v": frozenset()},
        num_negatives=num,
    )


def test_a_list_holds_the_right_item_and_nothing_else_that_was_touched() -> None:
    for num in (1, 3, 7):
        for one in lists(num):
            assert one.item_ids == sorted({one.truth, *one.negatives})
            assert len(one.item_ids) == num + 1
    assert not {"i1", "i2"} & set(lists(7)[0].negatives)


def test_who_has_touched_too_much_is_left_out() -> None:
    assert [one.truth for one in lists(8)] == ["i5"]
    with pytest.raises(ValueError, match="nobody is left with 10 items"):
        lists(10)


def test_several_right_answers_are_refused() -> None:
    with pytest.raises(ValueError, match="'u' has 2 right answers"):
        short_lists(
            [judged("u", "i0", "i1")],
            [Query(user_id="u")],
            negatives=Negatives(ITEMS),
            touched={"u": frozenset()},
            num_negatives=1,
        )


def test_popularity_stands_beside_every_system() -> None:
    def score(query: Query, item_ids: Sequence[str]) -> dict[str, list[float]]:
        assert list(item_ids) == sorted(item_ids)
        return {"own": [float(item_id == "i0") for item_id in item_ids]}

    found = scored_lists(lists(), score, popularity={"i5": 2.0})
    assert set(found) == {"own", "popularity"}
    np.testing.assert_array_equal(found["own"][:, 0], [1, 0])
    np.testing.assert_array_equal(found["popularity"][:, 0], [0, 2])


def test_a_system_that_leaves_out_an_item_is_refused() -> None:
    with pytest.raises(ValueError, match="own gave 1 scores of 4 items"):
        scored_lists(lists(), lambda query, item_ids: {"own": [1.0]}, popularity={})


@pytest.mark.parametrize("rank", range(1, 8))
def test_at_a_known_rank_the_measures_are_their_formulas(rank: int) -> None:
    others = [-(n + 0.5) for n in range(rank - 1)] + [-100.0] * (7 - rank)
    scores_UK = np.array([[-50.0, *others]])
    found = {name: float(values[0]) for name, values in at_k(scores_UK, 5).items()}
    assert found == {
        "hr@5": float(rank <= 5),
        "mrr@5": pytest.approx(1 / rank if rank <= 5 else 0),
        "ndcg@5": pytest.approx(1 / math.log2(rank + 1) if rank <= 5 else 0),
    }
    assert list_auc(scores_UK)[0] == pytest.approx((7 - rank) / 6)


def test_ties_count_at_the_mean_over_all_their_orders() -> None:
    scores_UK = np.array([[1.0, 2.0, 1.0, 1.0, 0.0]])
    places = [order.index(0) + 2 for order in itertools.permutations(range(3))]
    found = at_k(scores_UK, 3)
    assert found["mrr@3"][0] == pytest.approx(np.mean([1 / p if p <= 3 else 0 for p in places]))
    assert found["hr@3"][0] == pytest.approx(np.mean([p <= 3 for p in places]))
    assert list_auc(scores_UK)[0] == pytest.approx((1 + 0.5 + 0.5) / 4)


def test_equal_scores_for_all_are_worth_a_guess() -> None:
    scores_UK = np.ones((4, 20))
    assert at_k(scores_UK, 1)["hr@1"].tolist() == pytest.approx([0.05] * 4)
    assert list_auc(scores_UK).tolist() == [0.5] * 4
    assert pooled_auc(scores_UK) == 0.5


def test_what_cannot_be_judged_ranks_last_and_no_judgement_at_all_is_no_answer() -> None:
    scores_UK = np.array([[0.1, NAN, NAN], [NAN, 0.1, NAN], [NAN, NAN, NAN]])
    assert is_valid(scores_UK).tolist() == [1, 1, 0]
    assert at_k(scores_UK, 1)["hr@1"].tolist() == [1, 0, 0]
    assert list_auc(scores_UK).tolist() == [1.0, 0.25, 0.5]


def test_pooled_auc_compares_across_users() -> None:
    scores_UK = np.array([[1.0, 0.0], [3.0, 2.0]])
    assert list_auc(scores_UK).mean() == 1
    assert pooled_auc(scores_UK) == 0.75
