"""A recommender and each user's last choice in, how often it stands among the first out.

Full ranking: every item competes but those the user chose before. Equal scores fall by item id.

Shape legend: V users asked, I items.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from embedders.tuning.choices import Choices
from embedders.tuning.recommender import Recommender

DEPTH = 20
USERS = 2000  # asked at most, drawn evenly: a tenth of a point of recall is enough to stop by
ROWS = 256  # users scored together


class Validation:
    """Asks the same users every time."""

    def __init__(self, choices: Choices, *, seed: int) -> None:
        rows = np.arange(len(choices.users_V))
        if len(rows) > USERS:
            rows = np.sort(np.random.default_rng([seed, 2]).choice(rows, USERS, replace=False))
        self._users_V, self._items_V = choices.users_V[rows], choices.items_V[rows]
        self._choices = choices

    def __len__(self) -> int:
        return len(self._users_V)

    def recall(self, recommender: Recommender) -> float:
        """The share of users whose last choice is among the first 20; 0 where nobody is asked."""
        if not len(self):
            return 0.0
        return float(
            (ranks(recommender, self._choices, self._users_V, self._items_V) < DEPTH).mean()
        )


def ranks(
    recommender: Recommender,
    choices: Choices,
    users_V: NDArray[np.int64],
    items_V: NDArray[np.int64],
) -> NDArray[np.int64]:
    """From 0, the place of one item among all that its user did not choose before, [V]."""
    found = []
    for start in range(0, len(users_V), ROWS):
        part = slice(start, start + ROWS)
        scores_QI = unknown_scores(recommender, choices, users_V[part])
        targets_Q1 = torch.from_numpy(items_V[part])[:, None]
        own_Q1 = scores_QI.gather(1, targets_Q1)
        is_before_QI = torch.arange(scores_QI.shape[1])[None] < targets_Q1
        ahead_QI = (scores_QI > own_Q1) | ((scores_QI == own_Q1) & is_before_QI)
        found.append(ahead_QI.sum(dim=1).numpy())
    return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)


def unknown_scores(
    recommender: Recommender, choices: Choices, users_Q: NDArray[np.int64]
) -> torch.Tensor:
    """Every item's score for each user, [Q, I]; minus infinity for what they chose before."""
    scores_QI = recommender.scores(torch.from_numpy(users_Q))
    first = np.searchsorted(choices.users_E, users_Q, side="left")
    count = np.searchsorted(choices.users_E, users_Q, side="right") - first
    rows = np.repeat(np.arange(len(users_Q)), count)
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    known = choices.items_E[np.repeat(first, count) + within]
    scores_QI[torch.from_numpy(rows), torch.from_numpy(known)] = -torch.inf
    return scores_QI
