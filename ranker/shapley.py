"""What every coalition of players is worth in, each player's exact share out (Shapley, 1953).

    share_p = sum over the coalitions S without p of
              |S|! (n - |S| - 1)! / n! * (worth(S and p) - worth(S))

It is the only division that adds up to what all are worth more than nobody, gives equal shares to
players who bring the same, nothing to one who never brings anything, and that is additive. Exact,
so every coalition has to be worth something: 2^n of them.

A coalition is a row of bits and has a number: bit p says whether player p is in it. So 0 is the
empty coalition and 2^n - 1 the whole.

Shape legend: C coalitions, P players, N games.
"""

from math import factorial

import numpy as np
from numpy.typing import NDArray

MOST_PLAYERS = 8  # 256 coalitions


def coalitions(num_players: int) -> NDArray[np.bool_]:
    """Who is in each coalition, [C, P], by number.

    Raises:
        ValueError: more players than can be dealt with exactly.
    """
    if num_players > MOST_PLAYERS:
        raise ValueError(
            f"{num_players} blocks have {2**num_players} coalitions: at most {MOST_PLAYERS} blocks "
            f"can be explained, so embed fewer, or ask for no explanation"
        )
    numbers_C1 = np.arange(2**num_players)[:, None]
    return (numbers_C1 >> np.arange(num_players) & 1).astype(np.bool_)


def shares(worths_NC: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each player's share of each game, [N, P].

    Args:
        worths_NC: What each coalition is worth, by number.
    """
    num_coalitions = worths_NC.shape[1]
    num_players = num_coalitions.bit_length() - 1
    assert num_coalitions == 2**num_players
    is_in_CP = coalitions(num_players)
    weights = [
        factorial(size) * factorial(num_players - size - 1) / factorial(num_players)
        for size in range(num_players)
    ]
    found_NP = np.zeros((len(worths_NC), num_players))
    for player in range(num_players):
        without_S = np.flatnonzero(~is_in_CP[:, player])
        weight_S = np.array([weights[size] for size in is_in_CP[without_S].sum(axis=1)])
        gains_NS = worths_NC[:, without_S | 1 << player] - worths_NC[:, without_S]
        found_NP[:, player] = gains_NS @ weight_S
    return found_NP
