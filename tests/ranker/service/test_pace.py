"""How long a pass is likely to take, by the passes before it."""

import pytest

from ranker.service.pace import MOST_AGE_S, NUM_PASSES, Pace


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pace(clock: Clock) -> Pace:
    return Pace(clock=clock)


def test_whoever_comes_first_may_try(pace: Pace) -> None:
    assert pace.likely_s(10_000) == 0


def test_twice_the_tokens_take_twice_as_long(pace: Pace) -> None:
    pace.learn(num_tokens=100, seconds=0.5)
    assert pace.likely_s(100) == 0.5
    assert pace.likely_s(200) == 1.0


def test_a_single_slow_pass_among_many_is_no_rule(pace: Pace) -> None:
    for seconds in (0.1, 0.1, 9.0, 0.1, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1):
        pace.learn(num_tokens=1, seconds=seconds)
    assert pace.likely_s(1) == 0.2, "the slowest of nine in ten"


def test_only_the_latest_passes_count(pace: Pace) -> None:
    for _ in range(NUM_PASSES):
        pace.learn(num_tokens=1, seconds=9.0)
    for _ in range(NUM_PASSES):
        pace.learn(num_tokens=1, seconds=0.1)
    assert pace.likely_s(1) == 0.1


def test_what_was_slow_long_ago_is_tried_again(pace: Pace, clock: Clock) -> None:
    pace.learn(num_tokens=1, seconds=9.0)
    clock.now += MOST_AGE_S
    assert pace.likely_s(1) == 9.0
    clock.now += 0.1
    assert pace.likely_s(1) == 0


def test_a_pass_over_nothing_teaches_nothing(pace: Pace) -> None:
    pace.learn(num_tokens=0, seconds=9.0)
    assert pace.likely_s(1) == 0
