"""Which events are predicted, from what, and in which batches."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from retrieval.sequence_config import SequenceConfig
from retrieval.sequence_windows import Windows, batches, read_windows

CONFIG = SequenceConfig(limit=4)


def table(*rows: tuple[str, str, str]) -> pa.Table:
    """User, item and behavior, in the order of time."""
    users, items, behaviors = zip(*rows, strict=True)
    return pa.table(
        {
            "user_id": users,
            "item_id": items,
            "behavior": behaviors,
            "timestamp": pa.nulls(len(rows), pa.timestamp("us", tz="UTC")),
            "position": range(len(rows)),
        }
    )


def read(given: pa.Table, config: SequenceConfig = CONFIG) -> Windows:
    return read_windows(given, known=list("abcdefghijklm"), until=None, config=config)


def predicted(windows: Windows) -> list[str]:
    """Each window as `history>next`, what is not predicted in parentheses."""
    told = []
    for start, length in zip(windows.starts_W.tolist(), windows.lengths_W.tolist(), strict=True):
        events = range(start, start + length)
        names = [windows.item_ids[windows.items_E[event]] for event in events]
        is_told = [windows.weights_E[event] > 0 for event in events]
        told.append(
            names[0]
            + "".join(
                name if yes else f"({name})"
                for name, yes in zip(names[1:], is_told[1:], strict=True)
            )
        )
    return sorted(told)


def test_every_event_but_a_users_first_is_predicted_once() -> None:
    windows = read(table(*[("u", item, "view") for item in "abcdefghijk"]))
    assert predicted(windows) == ["abc", "cdefg", "ghijk"]


def test_items_that_the_catalog_lacks_are_left_out() -> None:
    given = table(("u", "a", "view"), ("u", "z", "view"), ("u", "b", "view"), ("v", "c", "view"))
    assert predicted(read(given)) == ["ab"]


def test_what_the_history_holds_is_predicted_only_on_demand() -> None:
    given = table(*[("u", item, "view") for item in "abac"])
    assert predicted(read(given)) == ["ab(a)c"]
    assert predicted(read(given, replace(CONFIG, predict_repeats=True))) == ["abac"]


def test_a_behavior_of_weight_0_is_read_but_not_predicted() -> None:
    given = table(("u", "a", "buy"), ("u", "b", "view"), ("u", "c", "buy"))
    config = replace(CONFIG, behavior_weights={"view": 0.0, "buy": 2.0})
    assert predicted(read(given, config)) == ["a(b)c"]
    assert read(given, config).weights_E.tolist() == [2, 0, 2]
    with pytest.raises(ValueError, match="no user has two events"):
        read(given, replace(config, behavior_weights={"view": 0.0, "buy": 0.0}))


def test_a_first_event_counts_as_the_strongest_that_came_of_it() -> None:
    weights = {"view": 0.25, "cart": 0.5}
    given = table(
        ("u", "a", "view"),
        ("u", "b", "view"),
        ("u", "c", "view"),
        ("u", "b", "cart"),
        ("v", "a", "view"),
        ("v", "b", "view"),
    )
    windows = read(given, replace(CONFIG, limit=9, behavior_weights=weights))
    np.testing.assert_array_equal(windows.weights_E, [0.25, 0.5, 0.25, 0, 0.25, 0.25])
    repeats = read(given, replace(CONFIG, limit=9, behavior_weights=weights, predict_repeats=True))
    np.testing.assert_array_equal(repeats.weights_E, [0.25, 0.25, 0.25, 0.5, 0.25, 0.25])


def test_free_text_is_no_behavior() -> None:
    given = table(*[("u", "ab"[n % 2], f"note {n}") for n in range(100)])
    with pytest.raises(ValueError, match="100 behaviors are too many"):
        read(given)


def test_batches_hold_every_window_once_and_little_padding() -> None:
    random = np.random.default_rng(0)
    rows = [
        (f"user-{user:03}", "abcdefghijklm"[step], "view")
        for user in range(200)
        for step in range(int(random.integers(2, 6)))
    ]
    windows = read(table(*rows))
    seen = []
    for places_BL, is_padding_BL in batches(windows, size=64, random=random):
        assert places_BL[:, 1:].size <= 64
        assert not is_padding_BL[:, 0].any()
        assert is_padding_BL.mean() < 0.3
        seen += places_BL[:, 0].tolist()
    assert sorted(seen) == sorted(windows.starts_W.tolist())
