"""Moments computed by hand: what was known then, what was chosen next, what retrieval found."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from embedders.items import Interaction, Modality
from ranker.config import TrainingConfig
from ranker.examples import Example, Moment, Target, collect, moments
from tests.ranker import model_world

DAY = timedelta(days=1)
START = datetime(2024, 1, 1, tzinfo=UTC)
EVERYTHING = Target()
Event = tuple[str, str, str, float | None, int]  # user, item, behavior, weight, day


def table(events: Sequence[Event]) -> pa.Table:
    users, items, behaviors, weights, days = zip(*events, strict=True) if events else [[]] * 5
    times = [None if day is None else START + day * DAY for day in days]
    return pa.table(
        {
            "user_id": pa.array(users, pa.string()),
            "item_id": pa.array(items, pa.string()),
            "behavior": pa.array(behaviors, pa.string()),
            "weight": pa.array(weights, pa.float64()),
            "timestamp": pa.array(times, pa.timestamp("us", tz="UTC")),
            "position": pa.nulls(len(events), pa.int64()),
        }
    )


def views(user: str, items: str, *, first: int = 0) -> list[Event]:
    """One view of each letter a day."""
    return [(user, item, "view", None, first + day) for day, item in enumerate(items)]


def found(
    events: Sequence[Event],
    *,
    target: Target = EVERYTHING,
    start: int = 0,
    cut: int = 1000,
    limit: int = 1000,
    seed: int = 0,
    min_history: int = 5,
) -> list[Moment]:
    return moments(
        table(events),
        target=target,
        start=START + start * DAY,
        cut=START + cut * DAY,
        limit=limit,
        seed=seed,
        min_history=min_history,
    )


def moment(user: str, day: int, chosen: str) -> Moment:
    return Moment(user_id=user, as_of=START + day * DAY, chosen=frozenset(chosen))


def test_a_moment_comes_every_few_events_with_the_choices_after_it() -> None:
    assert found(views("ann", "abcdefghijkl")) == [
        moment("ann", 5, "fghijkl"),
        moment("ann", 10, "kl"),
    ]


def test_choices_are_sought_among_the_next_twenty_events() -> None:
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    assert found(views("ann", letters))[0] == moment("ann", 5, letters[5:25])


def test_what_was_met_before_is_no_choice() -> None:
    assert found(views("ann", "abcdeafgb")) == [moment("ann", 5, "fg")]
    assert found(views("ann", "abcdeabcd")) == []


def test_what_is_chosen_after_a_first_look_within_the_window_is_a_choice() -> None:
    events = [*views("ann", "abcdef"), ("ann", "f", "buy", None, 6), ("ann", "a", "buy", None, 7)]
    assert found(events, target=Target(behaviors=frozenset({"buy"}))) == [moment("ann", 5, "f")]


def test_nothing_at_or_after_the_cut_is_used() -> None:
    events = views("ann", "abcdefghijkl")
    assert found(events, cut=7) == [moment("ann", 5, "fg")]
    assert found(events, cut=5) == []
    assert found(events, cut=7) == found(events[:7])


def test_no_moment_lies_before_the_start_and_older_events_are_history() -> None:
    events = views("ann", "abcdefghijkl")
    assert found(events, start=6) == [moment("ann", 6, "ghijkl"), moment("ann", 11, "l")]
    assert found(events, start=10) == [moment("ann", 10, "kl")]
    assert found(events, start=12) == []


def test_one_event_since_the_start_makes_a_moment() -> None:
    for letters in ("abcdef", "abcdefg", "abcdefgh", "abcdefghi"):
        last = len(letters) - 1
        assert found(views("ann", letters), start=last) == [moment("ann", last, letters[-1])]


def test_events_of_the_very_same_moment_are_hidden_together() -> None:
    events = [*views("ann", "abcde"), *(("ann", item, "view", None, 9) for item in "fghijk")]
    events[4] = ("ann", "e", "view", None, 9)  # so `e` is to be predicted as well
    assert found(events, min_history=4) == [
        moment("ann", 9, "efghijk"),
        moment("ann", 9, "efghijk"),
    ]


def test_events_that_are_hidden_do_not_count_as_history() -> None:
    events = [*views("ann", "abcd"), *(("ann", item, "view", None, 9) for item in "efgh")]
    assert found(events, min_history=5) == []
    assert found([("ann", item, "view", None, 0) for item in "abcdefgh"], min_history=0) == []


def test_users_are_told_apart_and_come_by_name() -> None:
    events = [*views("bob", "abcdefg"), *views("ann", "ghabcde", first=3)]
    assert found(events) == [moment("ann", 8, "de"), moment("bob", 5, "fg")]


def test_only_target_behaviors_of_enough_weight_are_choices() -> None:
    events = views("ann", "abcde")
    events += [("ann", item, "rate", stars, 5) for item, stars in (("f", 5.0), ("g", 3.0))]
    events += [("ann", "h", "rate", None, 5), ("ann", "i", "view", 5.0, 5)]
    target = Target(behaviors=frozenset({"rate"}), min_weight=4)
    assert found(events, target=target) == [moment("ann", 5, "f")]


def test_events_without_a_time_are_not_looked_at() -> None:
    events = [("ann", item, "view", None, None) for item in "abcdefgh"]
    assert found(events) == []  # type: ignore[arg-type]
    assert found([]) == []


def test_too_many_moments_are_sampled_the_same_way_each_time() -> None:
    events = [one for n in range(30) for one in views(f"user-{n:02}", "abcdefgh")]
    sampled = found(events, limit=10, seed=3)
    assert len(sampled) == 10
    assert sampled == found(events, limit=10, seed=3)
    assert sampled != found(events, limit=10, seed=4)
    assert [one.user_id for one in sampled] == sorted(one.user_id for one in sampled)


PAST = ("item-05", "item-06", "item-07", "item-09", "item-10")
WORLD = [("ann", item_id, "view", None, day) for day, item_id in enumerate((*PAST, "item-08"))]


def gathered(
    events: Sequence[Event] = tuple(WORLD),
    *,
    created_at: dict[str, datetime] | None = None,
    num_candidates: int = 100,
    max_examples: int = 100,
) -> list[Example]:
    def histories(pairs: Sequence[tuple[str, datetime]]) -> list[tuple[Interaction, ...]]:
        return [
            tuple(
                Interaction(
                    user_id=who, item_id=item, behavior=behavior, timestamp=START + day * DAY
                )
                for who, item, behavior, _, day in events
                if who == user_id and START + day * DAY < as_of
            )
            for user_id, as_of in pairs
        ]

    return collect(
        table(events),
        target=EVERYTHING,
        start=START,
        cut=START + 100 * DAY,
        histories=histories,
        retriever=model_world.retriever(model_world.items()),
        config=TrainingConfig(num_candidates=num_candidates, max_examples=max_examples),
        created_at=created_at,
    )


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
