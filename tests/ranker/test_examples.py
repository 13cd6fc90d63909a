"""What training sees is what serving would have seen; what is no negative; what is held out."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial

import numpy as np
import pytest

from embedders.items import Modality
from embedders.vectors import Embeddings, Space, normalize
from ranker.config import TrainingConfig
from ranker.examples import Example, Preferences, Target, collect, duplicates, split
from retrieval.candidates import Query
from retrieval.concatenated import ItemVectors, concatenate
from tests.ranker import model_world
from tests.ranker.events_world import DAY, START, Event, histories, table, views

PAST = ("item-05", "item-06", "item-07", "item-09", "item-10")
WORLD = [("ann", item_id, "view", None, day) for day, item_id in enumerate((*PAST, "item-08"))]


def gathered(
    events: Sequence[Event] = tuple(WORLD),
    *,
    created_at: dict[str, datetime] | None = None,
    num_candidates: int = 100,
    max_examples: int = 100,
    duplicate_cosine: float | None = None,
    by_behavior: bool = False,
    preferences: Preferences | None = None,
) -> Sequence[Example]:
    return collect(
        table(events),
        target=Target(),
        start=START,
        cut=START + 100 * DAY,
        histories=partial(histories, events),
        retriever=model_world.retriever(model_world.items()),
        config=TrainingConfig(
            num_candidates=num_candidates,
            max_examples=max_examples,
            duplicate_cosine=duplicate_cosine,
        ),
        created_at=created_at,
        by_behavior=by_behavior,
        preferences=preferences,
    )


def test_what_was_written_of_a_user_is_asked_for_as_of_each_moment() -> None:
    asked: list[tuple[str, datetime]] = []

    def written(pairs: Sequence[tuple[str, datetime]]) -> list[str | None]:
        asked.extend(pairs)
        return [f"{user_id} as of {as_of}" for user_id, as_of in pairs]

    (example,) = gathered(preferences=written)
    assert asked == [("ann", START + 5 * DAY)]
    assert example.query.preference == f"ann as of {START + 5 * DAY}"
    (silent,) = gathered(preferences=lambda pairs: [None] * len(pairs))
    assert silent.query.preference == "", "which says that nothing is to be looked up"
    (without,) = gathered()
    assert without.query.preference is None
    assert example.candidates == silent.candidates == without.candidates


def test_an_example_is_what_serving_would_have_seen_at_the_moment() -> None:
    (example,) = gathered()
    assert example.chosen == {"item-08"}
    assert example.query.as_of == START + 5 * DAY
    assert example.query.history is not None
    assert tuple(event.item_id for event in example.query.history) == PAST
    searched = model_world.retriever(model_world.items())
    assert list(example.candidates) == searched.retrieve(example.query, limit=100)
    assert example.weights == {Modality.AUDIO: 0.5, Modality.GRAPH: 1.0, Modality.TEXT: 1.0}


def test_a_list_without_the_choice_is_no_example() -> None:
    (example,) = gathered()
    rank = {one.item_id: one.rank for one in example.candidates}["item-08"]
    assert rank > 1, "the choice must not be the first for the test to say anything"
    assert len(gathered(num_candidates=rank)) == 1
    assert gathered(num_candidates=rank - 1) == []
    assert gathered(created_at={"item-08": START + 6 * DAY}) == []


def test_a_list_of_nothing_but_choices_is_no_example() -> None:
    others = set(model_world.IDS) - {*PAST, "item-08"}
    assert gathered(created_at=dict.fromkeys(others, START + 6 * DAY)) == []
    others.remove("item-11")
    (example,) = gathered(created_at=dict.fromkeys(others, START + 6 * DAY))
    assert {one.item_id for one in example.candidates} == {"item-08", "item-11"}


def test_items_that_were_not_there_yet_are_no_candidates() -> None:
    later = {item_id: START + 6 * DAY for item_id in model_world.IDS[20:]}
    later["item-11"] = START + 5 * DAY  # there from the moment itself on
    (example,) = gathered(created_at=later)
    candidates = {one.item_id for one in example.candidates}
    assert not candidates & set(model_world.IDS[20:])
    assert {"item-08", "item-11"} <= candidates


def test_an_example_does_not_carry_the_sets_that_retrieval_hid() -> None:
    (example,) = gathered(created_at={"item-30": START + 6 * DAY})
    assert example.query.exclude == frozenset()


def test_no_more_examples_than_asked_for() -> None:
    events = [(f"user-{n}", *one[1:]) for n in range(6) for one in WORLD]
    assert len(gathered(events)) == 6  # type: ignore[arg-type]
    assert len(gathered(events, max_examples=4)) == 4  # type: ignore[arg-type]


@pytest.mark.parametrize("events", [[], views("ann", "abc")])
def test_where_nothing_was_chosen_there_is_no_example(events: list[Event]) -> None:
    assert gathered(events) == []


def test_what_is_chosen_later_is_no_negative() -> None:
    later = [("ann", f"item-{n}", "view", None, 6 + day) for day, n in enumerate(range(11, 40))]
    first = gathered([*WORLD, *later])[0]  # type: ignore[list-item]
    found = {one.item_id for one in first.candidates}
    assert first.chosen == {"item-08", *(f"item-{n}" for n in range(11, 30))}
    assert first.masked == found & {f"item-{n}" for n in range(30, 40)}
    assert first.masked
    assert not first.masked & first.chosen


def test_a_list_of_choices_and_masked_ones_is_no_example() -> None:
    later = [*WORLD, *(("ann", f"item-{n}", "view", None, 6 + n) for n in range(11, 40))]
    kept = {*PAST, "item-08", *(f"item-{n}" for n in range(11, 40))}
    others = dict.fromkeys(set(model_world.IDS) - kept, START + 100 * DAY)
    assert not any(one.query.as_of == START + 5 * DAY for one in gathered(later, created_at=others))  # type: ignore[arg-type]


def test_each_behavior_has_an_example_with_its_own_choices_from_one_list() -> None:
    events = [*WORLD, ("ann", "item-11", "buy", None, 6)]
    examples = gathered(events, by_behavior=True)  # type: ignore[arg-type]
    assert [(one.behavior, sorted(one.chosen)) for one in examples] == [
        (None, ["item-08", "item-11"]),
        ("buy", ["item-11"]),
        ("view", ["item-08"]),
    ]
    assert all(one.candidates == examples[0].candidates for one in examples)
    assert {one.query.behavior for one in examples} == {None, "buy", "view"}


def doubles(vectors: dict[Modality, dict[str, list[float]]]) -> ItemVectors:
    """Items in spaces whose vectors are the unit vectors given: the graph's are not centered, and
    the others get opposite partners, so that their mean is zero."""
    given = []
    for modality, told in vectors.items():
        rows = {**told, **{f"anti-{one}": [-x for x in row] for one, row in told.items()}}
        space = Space(modality=modality, encoder="e", revision="1", dim=2)
        ids = sorted(rows)
        array = np.array([rows[one] for one in ids], dtype=np.float32)
        given.append(Embeddings(space=space, item_ids=ids, vectors_ND=normalize(array)))
    return concatenate(given, item_ids=sorted({one for e in given for one in e.item_ids}))


EAST, NEARLY_EAST, NORTH = [1.0, 0.0], [1.0, 0.1], [0.0, 1.0]  # nearly: a cosine of .995


def test_what_is_like_a_chosen_one_in_every_modality_of_both_is_a_duplicate() -> None:
    items = doubles(
        {
            Modality.GRAPH: {"a": EAST, "b": EAST, "c": NORTH, "d": NEARLY_EAST, "e": EAST},
            Modality.TEXT: {"a": EAST, "b": NEARLY_EAST, "c": EAST, "f": EAST, "g": NORTH},
        }
    )

    def found(*chosen: str, cosine: float = 0.99) -> str:
        return "".join(sorted(duplicates(items, chosen, "abcdefg", cosine=cosine)))

    assert found("a") == "bdef"  # c lies elsewhere in the graph, d and e have no text
    assert found("a", cosine=0.999) == "ef"
    assert found("a", cosine=1.0) == "ef"
    assert found("a", "c") == "bdef"  # f is c's too; a chosen one is no duplicate
    assert found("g") == ""
    assert found("e") == "abd"  # f has nothing that e has
    assert found("unknown") == found() == ""
    assert duplicates(items, ["a"], ["unknown", "b"], cosine=0.99) == {"b"}


def test_duplicates_of_the_choices_are_masked_where_they_are_looked_for() -> None:
    (plain,) = gathered()
    assert plain.masked == frozenset()
    assert gathered(duplicate_cosine=-1.0) == [], "where all are duplicates, none is a negative"
    (some,) = gathered(duplicate_cosine=-0.2)
    item_ids = [one.item_id for one in plain.candidates]
    alike = duplicates(model_world.items(), {"item-08"}, item_ids, cosine=-0.2)
    assert some.masked == alike != frozenset()
    assert replace(some, masked=frozenset()) == plain


def at(day: int | None, user: str, *chosen: str) -> Example:
    as_of = None if day is None else START + day * DAY
    query = Query(user_id=user, history=(), as_of=as_of)
    return Example(query=query, candidates=(), chosen=frozenset(chosen), weights={})


def test_the_newest_are_held_out_and_both_parts_come_as_they_came() -> None:
    examples = [at(day, f"u{n}", "x") for n, day in enumerate((5, 1, 9, 3, 8, 2, 7, 4, 6, 0))]
    train, held = split(examples, 0.3)
    assert list(held) == [examples[2], examples[4], examples[6]]
    assert list(train) == [one for one in examples if one not in list(held)]
    assert [len(one) for one in split(examples, 0.19)] == [9, 1]
    assert [len(one) for one in split(examples[:4], 0.2)] == [4, 0]
    assert [len(one) for one in split(examples, 0.0)] == [10, 0]
    assert [len(one) for one in split([], 0.5)] == [0, 0]


def test_of_equal_times_the_later_ones_are_held_out_and_timeless_ones_are_oldest() -> None:
    examples = [at(3, "a", "x"), at(None, "b", "x"), at(3, "c", "x"), at(None, "d", "x")]
    train, held = split(examples, 0.25)
    assert list(held) == [examples[2]]
    train, held = split(examples, 0.75)
    assert list(train) == [examples[1]]
    train, held = split([examples[1], examples[3]], 0.5)
    assert (list(train), list(held)) == ([examples[1]], [examples[3]])


def test_who_shares_a_choice_with_what_is_held_out_is_in_neither_part() -> None:
    examples = [
        at(1, "ann", "x"),
        at(2, "ann", "x", "y"),
        at(3, "bob", "y"),
        at(4, "", "y"),
        at(5, "ann", "y", "z"),
        at(5, "", "y"),
    ]
    train, held = split(examples, 0.4)
    assert list(held) == examples[4:]
    assert list(train) == [examples[0], examples[2], examples[3]]


@pytest.mark.parametrize("share", [-0.1, 1.0, 2.0])
def test_a_share_that_leaves_nothing_to_train_on_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match=r"lies in \[0, 1\)"):
        split([], share)
