"""Negatives are never touched items, and are drawn as they are said to be."""

from collections import Counter

import pytest

from evaluation.negatives import Negatives

ITEMS = [f"i{n:02d}" for n in range(30)]


def test_what_was_touched_is_never_drawn() -> None:
    touched = frozenset(ITEMS[:25])
    for user in range(50):
        assert set(Negatives(ITEMS).draw(f"u{user}", touched=touched, num=5)) == set(ITEMS[25:])


def test_a_draw_is_without_repeats_and_in_the_order_of_ids() -> None:
    drawn = Negatives(ITEMS).draw("u", touched=frozenset(), num=20)
    assert list(drawn) == sorted(set(drawn))
    assert len(drawn) == 20


def test_fewer_are_drawn_where_there_are_fewer() -> None:
    popularity = {"i00": 3.0, "i01": 1.0, "i02": 2.0}
    drawn = Negatives(ITEMS, popularity=popularity).draw("u", touched={"i01"}, num=20)
    assert drawn == ("i00", "i02")
    assert Negatives(ITEMS, popularity={}).draw("u", touched=frozenset(), num=20) == ()


def test_a_draw_depends_on_seed_and_user_alone() -> None:
    one = Negatives(ITEMS, seed=3).draw("u", touched=frozenset(), num=5)
    again = Negatives(list(reversed(ITEMS)), seed=3).draw("u", touched=frozenset(), num=5)
    assert one == again
    others = {Negatives(ITEMS, seed=n).draw("u", touched=frozenset(), num=5) for n in range(9)}
    assert len(others) > 1
    assert Negatives(ITEMS, seed=3).draw("v", touched=frozenset(), num=5) != one


def test_even_draws_are_even_and_popular_ones_in_proportion() -> None:
    popularity = {item_id: float(n + 1) for n, item_id in enumerate(ITEMS)}
    even, popular = Counter[str](), Counter[str]()
    for user in range(6000):
        even.update(Negatives(ITEMS).draw(f"u{user}", touched=frozenset(), num=1))
        popular.update(
            Negatives(ITEMS, popularity=popularity).draw(f"u{user}", touched=frozenset(), num=1)
        )
    assert max(even.values()) / min(even.values()) < 1.6
    total = sum(popularity.values())
    for item_id in ITEMS[10:]:
        expected = 6000 * popularity[item_id] / total
        assert popular[item_id] == pytest.approx(expected, abs=5 * expected**0.5)


def test_a_popularity_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="finite and 0 or more"):
        Negatives(ITEMS, popularity={"i00": float("nan")})
