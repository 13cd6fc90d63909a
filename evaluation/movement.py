"""Two orders of the same candidates in: how far the right answers moved, and for whom it paid."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.judgements import Judgement
from evaluation.runs import Run

# Upper ends of the bins by which moved ranks are told apart; moves run from -99 to 99.
STEPS = (-50, -20, -10, -5, -1, 0, 4, 9, 19, 49)
LABELS = (
    "50+ down", "20-49 down", "10-19 down", "5-9 down", "1-4 down", "same",
    "1-4 up", "5-9 up", "10-19 up", "20-49 up", "50+ up",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Movement:
    """Chosen items that retrieval found, by how many ranks reranking moved them."""

    bins: tuple[tuple[str, int], ...]
    """Label and number of chosen items, from the farthest down to the farthest up."""
    num_up: int
    num_same: int
    num_down: int
    num_missed: int
    """Chosen items that retrieval did not find, which no reranking can mend."""
    num_users_better: int
    num_users_same: int
    num_users_worse: int
    """Users by their own change of the headline metric."""


def movement(
    retrieved: Run,
    reranked: Run,
    judgements: Sequence[Judgement],
    change_U: NDArray[np.float64],
) -> Movement:
    """Where the chosen items went. `change_U` is each user's change of the headline metric."""
    moves: list[int] = []
    num_missed = 0
    for judgement in judgements:
        before = {item: rank for rank, item in enumerate(retrieved.rankings[judgement.user_id])}
        after = {item: rank for rank, item in enumerate(reranked.rankings[judgement.user_id])}
        found = judgement.item_ids & before.keys()
        num_missed += len(judgement.item_ids) - len(found)
        moves.extend(before[item_id] - after[item_id] for item_id in found)
    moved = np.array(moves, dtype=np.int64)
    counts = np.bincount(np.searchsorted(STEPS, moved), minlength=len(LABELS))
    return Movement(
        bins=tuple(zip(LABELS, counts.tolist(), strict=True)),
        num_up=int((moved > 0).sum()),
        num_same=int((moved == 0).sum()),
        num_down=int((moved < 0).sum()),
        num_missed=num_missed,
        num_users_better=int((change_U > 0).sum()),
        num_users_same=int((change_U == 0).sum()),
        num_users_worse=int((change_U < 0).sum()),
    )
