"""Embeddings of several spaces in, one matrix of all items in the concatenated space out.

Each item's row is its unit vectors side by side, one block for each modality by name, unweighted.
Weights belong to the query: its blocks are multiplied by them, so that one inner product is the
weighted sum of cosines and no index is rebuilt when weights change.

Raw encoders put all items into a narrow cone, where every cosine is high and says little. So a
space's mean vector is subtracted before the vectors are normalized again. Graph vectors are left
as they are, for LightGCN trained their very cosines.

An absent vector is a block of zeros. In a centered space that is the cosine of the average item,
so an item lacking a modality is neither praised nor blamed for it.

Shape legend: N items, M modalities, D dimensions.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from embedders.items import Modality
from embedders.vectors import Embeddings, Space, normalize

UNCENTERED = frozenset({Modality.GRAPH})
"""The modalities whose encoders are trained on the very cosines that retrieval compares."""

TINY = 1e-6  # a vector this short after centering is the mean itself, and has no direction


@dataclass(frozen=True, kw_only=True)
class ItemVectors:
    """All items' vectors in the concatenated space. Rows are sorted by item id."""

    item_ids: tuple[str, ...]
    spaces: tuple[Space, ...]
    """One for each modality, sorted by its name."""
    vectors_ND: NDArray[np.float32] = field(repr=False)
    """Unweighted unit blocks side by side; zeros where absent."""
    is_present_NM: NDArray[np.bool_] = field(repr=False)
    centers_D: NDArray[np.float32] = field(repr=False)
    """What was subtracted from each block before it was normalized; zeros where nothing was."""

    def __post_init__(self) -> None:
        num_items, dim = len(self.item_ids), sum(space.dim for space in self.spaces)
        names = [space.modality for space in self.spaces]
        if not names or None in names or names != sorted(set(names)):  # type: ignore[type-var]
            raise ValueError(f"expected one space for each modality, by name, got {names}")
        if list(self.item_ids) != sorted(set(self.item_ids)):
            raise ValueError("item ids must be sorted, each once")
        shapes = (self.vectors_ND.shape, self.is_present_NM.shape, self.centers_D.shape)
        expected = ((num_items, dim), (num_items, len(names)), (dim,))
        if shapes != expected:
            raise ValueError(f"expected shapes {expected}, got {shapes}")

    def __len__(self) -> int:
        return len(self.item_ids)

    @property
    def dim(self) -> int:
        """The dimensions of all blocks together."""
        return sum(space.dim for space in self.spaces)

    @cached_property
    def row_of(self) -> Mapping[str, int]:
        """Each item's row."""
        return {item_id: row for row, item_id in enumerate(self.item_ids)}

    @cached_property
    def modalities(self) -> tuple[Modality, ...]:
        """The modality of each block, by name."""
        return tuple(Modality(space.modality) for space in self.spaces if space.modality)

    @cached_property
    def columns_of(self) -> Mapping[Modality, slice]:
        """The columns of each modality's block."""
        ends = np.cumsum([space.dim for space in self.spaces]).tolist()
        return {
            modality: slice(end - space.dim, end)
            for modality, space, end in zip(self.modalities, self.spaces, ends, strict=True)
        }

    def block(self, modality: Modality) -> NDArray[np.float32]:
        """One modality's centered unit vectors, [N, D]; zeros where absent."""
        return self.vectors_ND[:, self.columns_of[modality]]

    def space(self, modality: Modality) -> Space:
        """The space of one modality's block.

        Raises:
            ValueError: no such block.
        """
        for space in self.spaces:
            if space.modality is modality:
                return space
        raise ValueError(f"no space of modality {modality}; there are {list(self.modalities)}")

    def place(self, embeddings: Embeddings) -> NDArray[np.float32]:
        """Vectors of a block's space, centered and normalized as the items' are, [N, D].

        Raises:
            ValueError: the vectors are of another space.
        """
        known = [space.space_id for space in self.spaces]
        if embeddings.space not in self.spaces or embeddings.space.modality is None:
            raise ValueError(f"vectors of space {embeddings.space.space_id} do not meet {known}")
        columns = self.columns_of[embeddings.space.modality]
        return _unit(embeddings.vectors_ND - self.centers_D[columns])


def concatenate(
    embeddings: Iterable[Embeddings],
    *,
    item_ids: Sequence[str] | None = None,
    uncentered: frozenset[Modality] = UNCENTERED,
) -> ItemVectors:
    """Put the vectors of several modalities side by side.

    Args:
        embeddings: Vectors of one space for each modality, in any order.
        item_ids: The catalog; vectors of other items are left out. None takes every item that has
            a vector.
        uncentered: The modalities whose mean stays.

    Raises:
        ValueError: no space, two spaces of one modality, or a space of fused modalities.
    """
    given = list(embeddings)
    by_modality = {one.space.modality: one for one in given}
    if not given or len(by_modality) < len(given) or None in by_modality:
        seen = [one.space.space_id for one in given]
        raise ValueError(f"expected one space for each modality, got {seen}")
    parts = sorted(given, key=lambda one: str(one.space.modality))
    if item_ids is None:
        item_ids = [item_id for part in parts for item_id in part.item_ids]
    sorted_ids = tuple(sorted(set(item_ids)))
    row_of = {item_id: row for row, item_id in enumerate(sorted_ids)}
    blocks, presences, centers = [], [], []
    for part in parts:
        known = [row for row, item_id in enumerate(part.item_ids) if item_id in row_of]
        rows = [row_of[part.item_ids[row]] for row in known]
        unit_ND = normalize(part.vectors_ND[known])
        center_D = np.zeros(part.space.dim, dtype=np.float32)
        if known and part.space.modality not in uncentered:
            center_D = unit_ND.mean(axis=0, dtype=np.float64).astype(np.float32)
        block_ND = np.zeros((len(sorted_ids), part.space.dim), dtype=np.float32)
        block_ND[rows] = _unit(unit_ND - center_D)
        blocks.append(block_ND)
        presences.append(block_ND.any(axis=1))
        centers.append(center_D)
    return ItemVectors(
        item_ids=sorted_ids,
        spaces=tuple(part.space for part in parts),
        vectors_ND=np.concatenate(blocks, axis=1),
        is_present_NM=np.stack(presences, axis=1),
        centers_D=np.concatenate(centers),
    )


def _unit(vectors_ND: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of unit length; a row without direction becomes zeros."""
    has_direction_N1 = np.linalg.norm(vectors_ND, axis=1, keepdims=True) > TINY
    return normalize(np.where(has_direction_N1, vectors_ND, np.float32(0)))
