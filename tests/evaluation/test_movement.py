"""How far the right answers moved."""

import numpy as np
import pytest

from evaluation.judgements import Judgement
from evaluation.movement import LABELS, STEPS, movement
from evaluation.runs import Run
from tests.evaluation.small_world import CUT


def moved(before, after, chosen):
    judgement = Judgement(user_id="u", as_of=CUT, item_ids=frozenset(chosen))
    return movement(
        Run(name="before", rankings={"u": before}),
        Run(name="after", rankings={"u": after}),
        [judgement],
        np.array([0.1]),
    )


def test_items_that_rise_fall_stay_and_are_missing_are_told_apart():
    found = moved(list("abcd"), list("bacd"), {"a", "b", "c", "x"})
    assert (found.num_up, found.num_down, found.num_same, found.num_missed) == (1, 1, 1, 1)
    assert (found.num_users_better, found.num_users_same, found.num_users_worse) == (1, 0, 0)
    assert dict(found.bins)["1-4 up"] == 1
    assert dict(found.bins)["1-4 down"] == 1
    assert dict(found.bins)["same"] == 1


@pytest.mark.parametrize(
    ("move", "label"),
    [
        (99, "50+ up"), (50, "50+ up"), (49, "20-49 up"), (20, "20-49 up"), (19, "10-19 up"),
        (9, "5-9 up"), (5, "5-9 up"), (4, "1-4 up"), (1, "1-4 up"), (0, "same"),
        (-1, "1-4 down"), (-4, "1-4 down"), (-5, "5-9 down"), (-9, "5-9 down"),
        (-10, "10-19 down"), (-19, "10-19 down"), (-20, "20-49 down"), (-49, "20-49 down"),
        (-50, "50+ down"), (-99, "50+ down"),
    ],
)  # fmt: skip
def test_every_move_falls_into_the_bin_that_names_it(move, label):
    assert len(LABELS) == len(STEPS) + 1
    items = [f"i{n}" for n in range(100)]
    start = max(move, 0)
    item = items[start]
    rest = [one for one in items if one != item]
    after = [*rest[: start - move], item, *rest[start - move :]]
    assert [name for name, count in moved(items, after, {item}).bins if count] == [label]
