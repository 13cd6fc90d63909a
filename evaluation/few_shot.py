"""A way to train on K rows in, AUC at each K over several draws out: mean and spread.

With so few rows, which ones were drawn moves AUC as much as any method does, so one draw says
nothing. The rows that are tested on stay the same for all draws, hence the spread is that of the
training rows alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.sampled import Score, ShortList, pooled_auc, scored_lists

KS = (16, 64, 256)
DRAWS = 5
Fit = Callable[[Sequence[int], int], Score]
"""Places in the pool of training pairs and a seed -> what was trained on them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shots:
    """One system's AUC at one K."""

    values: tuple[float, ...]
    """One for each draw."""

    @property
    def mean(self) -> float:
        """Over draws."""
        return float(np.mean(self.values))

    @property
    def spread(self) -> float:
        """The standard deviation between draws (n - 1)."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else 0.0


def few_shot(
    fit: Fit,
    lists: Sequence[ShortList],
    *,
    popularity: Mapping[str, float],
    pool_size: int,
    ks: Sequence[int] = KS,
    draws: int = DRAWS,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[int, dict[str, Shots]]:
    """K -> system -> AUC over draws.

    A row is one item of one user, right or wrong, as TALLRec counts them: K rows are K / 2 pairs
    of a chosen item and a negative.

    Args:
        fit: Trains on pairs of the pool.
        lists: What is tested on, with one negative each.
        popularity: Scores the baseline, which needs no training.
        pool_size: How many pairs there are to train on.
        ks: Rows; even numbers.
        draws: How often each K is drawn anew, without replacement.
        seed: Equal seeds draw equal pairs.
        on_progress: Called with trainings done, and of how many.

    Raises:
        ValueError: an odd K, fewer than 2 draws, or a pool with too few pairs for any K.
    """
    if draws < 2 or any(k < 2 or k % 2 for k in ks):
        raise ValueError(f"few-shot needs even K and at least 2 draws, got {ks} and {draws}")
    possible = [k for k in ks if k // 2 <= pool_size]
    if not possible:
        raise ValueError(
            f"{pool_size} pairs to train on, and the smallest K of {min(ks)} rows needs "
            f"{min(ks) // 2}: judge a catalog with more choices before the cut"
        )
    found: dict[int, dict[str, Shots]] = {}
    for place, k in enumerate(possible):
        values: dict[str, list[float]] = {}
        for draw in range(draws):
            rng = np.random.default_rng([seed, k, draw])
            pairs = rng.choice(pool_size, size=k // 2, replace=False).tolist()
            scores = scored_lists(lists, fit(sorted(pairs), draw), popularity=popularity)
            for name, scores_UK in scores.items():
                values.setdefault(name, []).append(pooled_auc(scores_UK))
            if on_progress is not None:
                on_progress(place * draws + draw + 1, len(possible) * draws)
        found[k] = {name: Shots(values=tuple(each)) for name, each in values.items()}
    return found
