"""The contract of fusion: where items stand in several lists in, one score for each of them out.

Every block's list comes from the one index, searched with that block's weight alone.

Shape legend: K items, M blocks.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """What the lists of one query say about some items."""

    blocks: tuple[str, ...]
    """The query's blocks that have a list, by name."""
    ranks_KM: NDArray[np.int64]
    """From 1; 0 where a list does not hold the item."""
    cosines_KM: NDArray[np.float64]
    """0 where the item has no vector in the block."""
    is_present_KM: NDArray[np.bool_]
    """Whether it has one."""
    scores_K: NDArray[np.float64]
    """The weighted sum of cosines, by which the items would be ordered without a fusion."""

    @classmethod
    def nothing(cls) -> "Listed":
        """No lists, of no items."""
        return cls(
            blocks=(),
            ranks_KM=np.zeros((0, 0), dtype=np.int64),
            cosines_KM=np.zeros((0, 0)),
            is_present_KM=np.zeros((0, 0), dtype=np.bool_),
            scores_K=np.zeros(0),
        )


class Fusion(ABC):
    """Decides what an item's places in the lists are worth together."""

    depth: int = 200
    """How long each list is."""

    @abstractmethod
    def scores(self, listed: Listed) -> NDArray[np.float64]:
        """One score for each item, [K], larger is better; each depends on its own row alone."""
