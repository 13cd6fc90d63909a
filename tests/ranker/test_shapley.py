"""Shares of games whose answers are known."""

from itertools import permutations

import numpy as np
import pytest

from ranker.shapley import MOST_PLAYERS, coalitions, shares


def test_coalitions_are_numbered_by_their_bits() -> None:
    assert coalitions(2).tolist() == [[False, False], [True, False], [False, True], [True, True]]
    assert coalitions(0).shape == (1, 0)


def test_two_players_share_what_they_make_together() -> None:
    # Alone they make 1 and 2 more than nobody, together 7 more: the 4 on top are halved.
    worths = np.array([[10.0, 11.0, 12.0, 17.0]])
    assert shares(worths).tolist() == [[1 + 2, 2 + 2]]


def test_one_left_and_two_right_gloves_are_shared_as_in_the_textbook() -> None:
    left, right, other = coalitions(3).T
    worths = (left & (right | other)).astype(float)
    np.testing.assert_allclose(shares(worths[None])[0], [2 / 3, 1 / 6, 1 / 6], atol=1e-12)


@pytest.mark.parametrize("num_players", [1, 3, 5])
def test_shares_are_the_mean_gains_over_all_orders_of_arrival(num_players: int) -> None:
    worths = np.random.default_rng(num_players).normal(size=2**num_players)
    orders = list(permutations(range(num_players)))
    expected = np.zeros(num_players)
    for order in orders:
        number = 0
        for player in order:
            gain = worths[number | 1 << player] - worths[number]
            expected[player] += gain / len(orders)
            number |= 1 << player
    np.testing.assert_allclose(shares(worths[None])[0], expected, atol=1e-12)


def test_shares_add_up_and_who_brings_nothing_gets_nothing() -> None:
    random = np.random.default_rng(0)
    worths_NC = random.normal(size=(4, 2**6))
    worths_NC[:, 2**5 :] = worths_NC[:, : 2**5]  # the sixth player changes nothing
    found_NP = shares(worths_NC)
    np.testing.assert_allclose(found_NP.sum(axis=1), worths_NC[:, -1] - worths_NC[:, 0])
    assert (found_NP[:, 5] == 0).all()


def test_a_game_without_players_has_no_shares() -> None:
    assert shares(np.array([[3.0]])).shape == (1, 0)


def test_more_players_than_can_be_dealt_with_exactly_are_refused() -> None:
    assert len(coalitions(MOST_PLAYERS)) == 2**MOST_PLAYERS
    with pytest.raises(ValueError, match="9 blocks have 512 coalitions: at most 8"):
        coalitions(MOST_PLAYERS + 1)
