"""Embeddings of some items in, one row for every item of the catalog out, zeros for the others.

Shape legend: I items, D dimensions.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedders.vectors import Embeddings


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """What one modality shows of all items, as the recommender reads it: frozen."""

    vectors_ID: NDArray[np.float32]
    is_present_I: NDArray[np.bool_]
    """Whether the item has the modality at all; else its row is zeros and is never read."""

    def __post_init__(self) -> None:
        if self.vectors_ID.ndim != 2 or self.is_present_I.shape != self.vectors_ID.shape[:1]:
            raise ValueError(
                f"features need a row and a presence for each item, got {self.vectors_ID.shape} "
                f"and {self.is_present_I.shape}"
            )
        if self.vectors_ID[~self.is_present_I].any():
            raise ValueError("an item without the modality has features that are not zeros")
        if not np.isfinite(self.vectors_ID).all():
            raise ValueError("features hold a number that is not finite")

    @property
    def dim(self) -> int:
        """Of a vector."""
        return int(self.vectors_ID.shape[1])

    @property
    def digest(self) -> str:
        """16 hex digits that change whenever a vector does."""
        digest = hashlib.sha256(np.ascontiguousarray(self.vectors_ID).tobytes())
        digest.update(self.is_present_I.tobytes())
        return digest.hexdigest()[:16]


def aligned(embeddings: Embeddings, item_ids: Sequence[str]) -> Features:
    """The rows of these items, in their order; vectors of other items are left out."""
    row_of = {item_id: row for row, item_id in enumerate(embeddings.item_ids)}
    rows_I = np.array([row_of.get(item_id, -1) for item_id in item_ids], dtype=np.int64)
    vectors_ID = np.zeros((len(item_ids), embeddings.space.dim), dtype=np.float32)
    is_present_I = rows_I >= 0
    vectors_ID[is_present_I] = embeddings.vectors_ND[rows_I[is_present_I]]
    return Features(vectors_ID=vectors_ID, is_present_I=is_present_I)
