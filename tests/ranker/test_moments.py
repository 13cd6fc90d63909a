"""Moments computed by hand: what was known then, what was chosen next, and what later."""

from collections.abc import Sequence

from ranker.moments import Births, Moment, Target, moments, not_yet
from tests.ranker.events_world import DAY, START, Event, table, views

EVERYTHING = Target()


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


def masked(one: Moment) -> str:
    return "".join(sorted(one.masked("abcdefghijklmnopqrstuvwxyz0123456789")))


def test_what_is_chosen_only_later_is_masked() -> None:
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    first, second, *_, last = found(views("ann", letters))
    assert masked(first) == "".join(sorted(letters[25:]))
    assert masked(second) == "".join(sorted(letters[30:]))
    assert masked(last) == ""


def test_what_is_chosen_again_is_masked_and_what_lies_in_the_past_alone_is_not() -> None:
    (one,) = found(views("ann", "abcdeafgb"))
    assert (one.chosen, masked(one)) == (frozenset("fg"), "ab")


def test_what_is_chosen_at_or_after_the_cut_is_not_masked() -> None:
    events = views("ann", "abcdefghijklmnopqrstuvwxyz0123456789")
    assert masked(found(events, cut=30)[0]) == masked(found(events[:30])[0]) == "0123z"


def test_only_choices_are_masked() -> None:
    events = views("ann", "abcdefghijklmnopqrstuvwxyz0123456789")
    events[30] = ("ann", "4", "buy", None, 30)
    events[7] = ("ann", "h", "buy", None, 7)
    (one,) = found(events, target=Target(behaviors=frozenset({"buy"})))[:1]
    assert (one.chosen, masked(one)) == (frozenset("h"), "4")


def shop() -> list[Event]:
    """Ann looks at five things, then at f, g and h, and buys g and a."""
    return [
        *views("ann", "abcde"),
        ("ann", "f", "view", None, 5),
        ("ann", "g", "view", None, 6),
        ("ann", "g", "buy", None, 7),
        ("ann", "h", "save", None, 8),
        ("ann", "a", "buy", None, 9),
    ]


def asked(events: list[Event], target: Target, *, limit: int = 1000) -> list[Moment]:
    return moments(
        table(events),
        target=target,
        start=START,
        cut=START + 1000 * DAY,
        limit=limit,
        seed=0,
        by_behavior=True,
    )


def test_each_behavior_is_asked_about_apart_after_all_of_them() -> None:
    told = [(one.behavior, "".join(sorted(one.chosen))) for one in asked(shop(), EVERYTHING)]
    assert told == [(None, "fgh"), ("buy", "g"), ("save", "h"), ("view", "fg")]


def test_only_the_targets_behaviors_are_asked_about() -> None:
    target = Target(behaviors=frozenset({"buy", "view", "rent"}))
    told = [(one.behavior, "".join(sorted(one.chosen))) for one in asked(shop(), target)]
    assert told == [(None, "fg"), ("buy", "g"), ("view", "fg")]


def test_a_behaviors_choices_are_masked_by_its_own_later_ones() -> None:
    masks = {one.behavior: masked(one) for one in asked(shop(), EVERYTHING)}
    assert masks == {None: "a", "buy": "a", "save": "", "view": ""}


def test_moments_of_behaviors_are_sampled_in_their_order() -> None:
    events = [(f"user-{n:02}", *one[1:]) for n in range(30) for one in shop()]
    whole = asked(events, EVERYTHING)  # type: ignore[arg-type]
    sampled = asked(events, EVERYTHING, limit=40)  # type: ignore[arg-type]
    assert len(sampled) == 40
    assert sampled == [one for one in whole if one in sampled]


def test_what_was_born_after_a_moment_is_found_in_order() -> None:
    born = {item: START + day * DAY for item, day in zip("dbca", (3, 1, 1, 2), strict=True)}
    births = Births(born)
    for day in range(-1, 5):
        as_of = START + day * DAY
        assert births.after(as_of) == not_yet(born, as_of)
        assert births.num_after(as_of) == len(births.after(as_of))
    assert births.after(START + DAY) == {"a", "d"}
    assert Births({}).after(START) == frozenset()
