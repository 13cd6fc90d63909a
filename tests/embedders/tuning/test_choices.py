"""Who chose what before the cut, and each user's last choice apart."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from embedders.graph_smoothing import Smoothing
from embedders.tuning.choices import read_choices

START = datetime(2024, 1, 1, tzinfo=UTC)


def events(*rows: tuple[str, str, int], weights: list[float | None] | None = None) -> pa.Table:
    columns: dict[str, Any] = {
        "user_id": [user for user, _, _ in rows],
        "item_id": [item for _, item, _ in rows],
        "timestamp": pa.array(
            [START + timedelta(days=day) for _, _, day in rows], pa.timestamp("us", tz="UTC")
        ),
        "position": pa.array([None] * len(rows), pa.int32()),
    }
    if weights is not None:
        columns["weight"] = pa.array(weights, pa.float32())
    return pa.table(columns)


def pairs(users: Any, items: Any) -> list[tuple[int, int]]:
    return list(zip(users.tolist(), items.tolist(), strict=True))


def test_the_last_choice_of_whoever_has_three_is_kept_apart() -> None:
    table = events(("b", "x", 1), ("a", "z", 0), ("a", "x", 2), ("a", "y", 1), ("b", "y", 0))
    choices = read_choices(table, until=None, item_ids=["x", "y", "z", "w"])
    assert (choices.user_ids, choices.item_ids) == (["a", "b"], ["w", "x", "y", "z"])
    assert pairs(choices.users_V, choices.items_V) == [(0, 1)]
    assert pairs(choices.users_E, choices.items_E) == [(0, 2), (0, 3), (1, 1), (1, 2)]


def test_a_choice_made_again_counts_where_it_was_first_made() -> None:
    table = events(("a", "x", 0), ("a", "y", 1), ("a", "z", 2), ("a", "x", 3))
    choices = read_choices(table, until=None, item_ids=["x", "y", "z"])
    assert pairs(choices.users_V, choices.items_V) == [(0, 2)]


def test_events_from_the_cut_on_are_not_seen() -> None:
    table = events(("a", "x", 0), ("a", "y", 1), ("a", "z", 2), ("b", "x", 2))
    choices = read_choices(table, until=START + timedelta(days=2), item_ids=["x", "y", "z"])
    assert choices.user_ids == ["a"]
    assert pairs(choices.users_E, choices.items_E) == [(0, 0), (0, 1)]
    assert not len(choices.users_V)


def test_low_ratings_and_unknown_items_are_no_choices() -> None:
    table = events(("a", "x", 0), ("a", "y", 1), ("a", "q", 1), weights=[5.0, 1.0, 5.0])
    choices = read_choices(table, until=None, item_ids=["x", "y"], min_weight=4)
    assert pairs(choices.users_E, choices.items_E) == [(0, 0)]


def test_the_order_of_rows_does_not_matter_and_any_change_does() -> None:
    rows = [("a", "x", 0), ("a", "y", 1), ("a", "z", 2), ("b", "x", 0)]
    one = read_choices(events(*rows), until=None, item_ids=["x", "y", "z"])
    other = read_choices(events(*rows[::-1]), until=None, item_ids=["z", "y", "x"])
    assert one.digest == other.digest
    assert one.digest != read_choices(events(*rows[:3]), until=None, item_ids=list("xyz")).digest
    later = events(("a", "x", 3), *rows[1:])
    assert one.digest != read_choices(later, until=None, item_ids=["x", "y", "z"]).digest


def test_smoothing_leaves_those_without_a_choice_as_they_are() -> None:
    choices = read_choices(events(("a", "x", 0)), until=None, item_ids=["w", "x"])
    nodes = torch.tensor([[1.0], [7.0], [3.0]])  # a, w, x
    assert Smoothing(choices.edges)(nodes).flatten().tolist() == pytest.approx([3, 7, 1])


def test_nothing_left_says_what_was_asked() -> None:
    with pytest.raises(ValueError, match=r"of 1 interactions none .* min_weight=None"):
        read_choices(events(("a", "x", 0)), until=None, item_ids=["y"])
    with pytest.raises(ValueError, match="time zone"):
        read_choices(events(("a", "x", 0)), until=datetime(2024, 1, 1), item_ids=["x"])


def test_columns_are_numbers_of_places() -> None:
    choices = read_choices(events(("a", "x", 0)), until=None, item_ids=["w", "x"])
    assert choices.users_E.dtype == choices.items_E.dtype == np.int64
    assert choices.num_users_of_items.tolist() == [0, 1]
