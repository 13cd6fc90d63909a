"""One user shown in full."""

from dataclasses import replace

from evaluation.example import Example, ExampleItem, example, explained
from evaluation.judgements import Judgement
from ranker.ranking import Explanation, RankedItem, Ranking, Status
from tests.evaluation.small_world import CUT


def ranked(item_id, rank, retrieval_rank, status=Status.OK):
    return RankedItem(
        item_id=item_id,
        rank=rank,
        score=1.0 / max(rank, 1),
        logit=0.0,
        status=status,
        retrieval_rank=retrieval_rank,
        retrieval_score=0.5,
    )


def test_an_example_shows_moves_choices_and_an_id_where_a_title_is_missing():
    ranking = Ranking(
        items=(ranked("b", 1, 3), ranked("a", 2, 1), ranked("?", 0, 2, Status.UNKNOWN_ITEM)),
        generation_id="g",
        judged_by="llm",
    )
    judgement = Judgement(user_id="u", as_of=CUT, item_ids=frozenset("b"))
    found = example(ranking, judgement, titles={"a": "Apple"}, history=[], why="the first")
    assert [(one.title, one.move, one.is_chosen) for one in found.items] == [
        ("b", 2, True),
        ("Apple", -1, False),
    ]
    assert [one.item_id for one in found.retrieved] == ["a", "b"]


def test_only_items_that_say_why_are_explained():
    explanation = Explanation(base=-1.0, contributions={"text": 2.0})
    first = replace(ranked("b", 1, 3), explanation=explanation)
    ranking = Ranking(items=(first, ranked("a", 2, 1)), generation_id="g", judged_by="llm")
    judgement = Judgement(user_id="u", as_of=CUT, item_ids=frozenset("b"))
    found = explained(ranking, judgement, titles={})
    assert found.user_id == "u"
    [item] = found.items
    assert (item.item_id, item.title, item.rank, item.score) == ("b", "b", 1, 1.0)
    assert (item.base, item.contributions, item.is_chosen) == (-1.0, {"text": 2.0}, True)


def test_a_chosen_item_is_shown_however_far_down_it_stands():
    items = tuple(
        ExampleItem(
            item_id=str(n),
            title=str(n),
            retrieval_rank=21 - n,
            retrieval_score=0,
            rank=n,
            score=0,
            is_chosen=n == 15,
        )
        for n in range(1, 21)
    )
    found = Example(user_id="u", why="", history=(), items=items)
    assert [one.rank for one in found.shown(3)] == [1, 2, 3, 15]
    assert [one.retrieval_rank for one in found.retrieved_shown(3)] == [1, 2, 3, 6]
