"""Embeddings of several spaces in, one matrix of all items in the concatenated space out.

Each item's row is its unit vectors side by side, one block for each space by name, unweighted. A
block has its modality's name, or "sequence" where a network over histories made it. Weights belong
to the query: its blocks are multiplied by them, so that one inner product is the weighted sum of
cosines and no index is rebuilt when weights change.

Raw encoders put all items into a narrow cone, where every cosine is high and says little. So a
space's mean vector is subtracted before the vectors are normalized again. Vectors of the graph and
of the sequence network are left as they are, for their very cosines were trained.

An absent vector is a block of zeros. In a centered space that is the cosine of the average item,
so an item lacking a modality is neither praised nor blamed for it.

Shape legend: N items, M blocks, D dimensions.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from embedders.items import Modality
from embedders.vectors import Embeddings, Space, normalize

SEQUENCE = "sequence"
"""The name of the block that a network over histories makes, and of its encoder."""

NEIGHBORS = "neighbors"
"""The name of a block that is not searched: what was found by who had both, evidence alone."""

BLOCKS = tuple(sorted([*map(str, Modality), SEQUENCE]))
"""Every name that a block may have whose vectors are searched."""

UNCENTERED = frozenset({str(Modality.GRAPH), SEQUENCE})
"""The blocks whose encoders are trained on the very cosines that retrieval compares."""

TINY = 1e-6  # a vector this short after centering is the mean itself, and has no direction


@dataclass(frozen=True, kw_only=True)
class ItemVectors:
    """All items' vectors in the concatenated space. Rows are sorted by item id."""

    item_ids: tuple[str, ...]
    spaces: tuple[Space, ...]
    """One for each block, sorted by the block's name."""
    vectors_ND: NDArray[np.float32] = field(repr=False)
    """Unweighted unit blocks side by side; zeros where absent."""
    is_present_NM: NDArray[np.bool_] = field(repr=False)
    centers_D: NDArray[np.float32] = field(repr=False)
    """What was subtracted from each block before it was normalized; zeros where nothing was."""

    def __post_init__(self) -> None:
        num_items, dim = len(self.item_ids), sum(space.dim for space in self.spaces)
        names = [block_name(space) for space in self.spaces]
        if not names or names != sorted(set(names)):
            raise ValueError(f"expected one space for each block, by name, got {names}")
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
    def names(self) -> tuple[str, ...]:
        """The name of each block, sorted."""
        return tuple(block_name(space) for space in self.spaces)

    @cached_property
    def modalities(self) -> tuple[Modality, ...]:
        """The modalities among the blocks, by name."""
        return tuple(Modality(space.modality) for space in self.spaces if space.modality)

    @cached_property
    def columns_of(self) -> Mapping[str, slice]:
        """The columns of each block, by its name."""
        ends = np.cumsum([space.dim for space in self.spaces]).tolist()
        return {
            name: slice(end - space.dim, end)
            for name, space, end in zip(self.names, self.spaces, ends, strict=True)
        }

    @cached_property
    def modalities_of(self) -> Mapping[str, tuple[Modality, ...]]:
        """The modalities that each item has, by name."""
        columns = [self.names.index(one) for one in self.modalities]
        return {
            item_id: tuple(one for one, there in zip(self.modalities, row, strict=True) if there)
            for item_id, row in zip(
                self.item_ids, self.is_present_NM[:, columns].tolist(), strict=True
            )
        }

    def block(self, name: str) -> NDArray[np.float32]:
        """One block's centered unit vectors, [N, D]; zeros where absent."""
        return self.vectors_ND[:, self.columns_of[name]]

    def is_present(self, name: str) -> NDArray[np.bool_]:
        """Which items have a vector in one block, [N]."""
        return self.is_present_NM[:, self.names.index(name)]

    def space(self, name: str) -> Space:
        """The space of one block.

        Raises:
            ValueError: no such block.
        """
        if name not in self.names:
            raise ValueError(f"no block {str(name)!r}; there are {', '.join(self.names)}")
        return self.spaces[self.names.index(name)]

    @cached_property
    def content(self) -> "ItemVectors":
        """The modalities' blocks alone: what a network over histories is made from."""
        return self.only(self.modalities)

    def only(self, names: Collection[str]) -> "ItemVectors":
        """These blocks alone, of the same items.

        Raises:
            ValueError: no such block, or none at all.
        """
        kept = [place for place, name in enumerate(self.names) if name in names]
        for name in names:
            self.space(name)
        if len(kept) == len(self.names):
            return self
        if not kept:
            raise ValueError(f"no block is left of {', '.join(self.names)}")
        columns_D = np.concatenate(
            [np.arange(self.dim)[self.columns_of[self.names[place]]] for place in kept]
        )
        return ItemVectors(
            item_ids=self.item_ids,
            spaces=tuple(self.spaces[place] for place in kept),
            vectors_ND=self.vectors_ND[:, columns_D],
            is_present_NM=self.is_present_NM[:, kept],
            centers_D=self.centers_D[columns_D],
        )

    def joined(self, embeddings: Embeddings) -> "ItemVectors":
        """One more block, uncentered, or another in the place of the one of its name."""
        name = block_name(embeddings.space)
        others = [one for one in self.names if one != name]
        added = concatenate([embeddings], item_ids=self.item_ids, uncentered=frozenset({name}))
        if not others:
            return added
        parts = {one: self.only([one]) for one in others} | {name: added}
        chosen = [parts[one] for one in sorted(parts)]
        return ItemVectors(
            item_ids=self.item_ids,
            spaces=tuple(one.spaces[0] for one in chosen),
            vectors_ND=np.concatenate([one.vectors_ND for one in chosen], axis=1),
            is_present_NM=np.concatenate([one.is_present_NM for one in chosen], axis=1),
            centers_D=np.concatenate([one.centers_D for one in chosen]),
        )

    def place(self, embeddings: Embeddings) -> NDArray[np.float32]:
        """Vectors of a block's space, centered and normalized as the items' are, [N, D].

        Raises:
            ValueError: the vectors are of another space.
        """
        known = [space.space_id for space in self.spaces]
        if embeddings.space not in self.spaces:
            raise ValueError(f"vectors of space {embeddings.space.space_id} do not meet {known}")
        columns = self.columns_of[block_name(embeddings.space)]
        return _unit(embeddings.vectors_ND - self.centers_D[columns])


def block_name(space: Space) -> str:
    """What the block of a space is called: its modality, "sequence" or "neighbors".

    Raises:
        ValueError: the space of other fused vectors, which no block can hold.
    """
    name = str(space.modality or space.encoder)
    if name not in (*BLOCKS, NEIGHBORS):
        raise ValueError(f"{space.space_id} can be no block; expected one of {', '.join(BLOCKS)}")
    return name


def concatenate(
    embeddings: Iterable[Embeddings],
    *,
    item_ids: Sequence[str] | None = None,
    uncentered: frozenset[str] = UNCENTERED,
    fitted_on: Collection[str] | None = None,
) -> ItemVectors:
    """Put the vectors of several blocks side by side.

    Args:
        embeddings: Vectors of one space for each block, in any order.
        item_ids: The catalog; vectors of other items are left out. None takes every item that has
            a vector.
        uncentered: The blocks whose mean stays.
        fitted_on: The items whose mean is subtracted, such as those known before a cut; a block of
            which none of them has a vector is left uncentered. None takes all items.

    Raises:
        ValueError: no space, two spaces of one block, or a space that no block can hold.
    """
    given = list(embeddings)
    by_name = {block_name(one.space): one for one in given}
    if not given or len(by_name) < len(given):
        seen = [one.space.space_id for one in given]
        raise ValueError(f"expected one space for each block, got {seen}")
    if item_ids is None:
        item_ids = [item_id for part in given for item_id in part.item_ids]
    sorted_ids = tuple(sorted(set(item_ids)))
    row_of = {item_id: row for row, item_id in enumerate(sorted_ids)}
    parts = [by_name[name] for name in sorted(by_name)]
    blocks, centers = [], []
    for part in parts:
        known = [row for row, item_id in enumerate(part.item_ids) if item_id in row_of]
        known.sort(key=lambda row: part.item_ids[row])  # so that no order changes a mean's bits
        ids = [part.item_ids[row] for row in known]
        unit_ND = normalize(part.vectors_ND[known])
        center_D = np.zeros(part.space.dim, dtype=np.float32)
        if block_name(part.space) not in uncentered:
            center_D = _center(unit_ND, ids, fitted_on)
        block_ND = np.zeros((len(sorted_ids), part.space.dim), dtype=np.float32)
        block_ND[[row_of[one] for one in ids]] = _unit(unit_ND - center_D)
        blocks.append(block_ND)
        centers.append(center_D)
    return ItemVectors(
        item_ids=sorted_ids,
        spaces=tuple(part.space for part in parts),
        vectors_ND=np.concatenate(blocks, axis=1),
        is_present_NM=np.stack([block_ND.any(axis=1) for block_ND in blocks], axis=1),
        centers_D=np.concatenate(centers),
    )


def _center(
    unit_ND: NDArray[np.float32], item_ids: Sequence[str], fitted_on: Collection[str] | None
) -> NDArray[np.float32]:
    """The mean of the items that are fitted on; zeros where there are none."""
    if fitted_on is not None:
        chosen = frozenset(fitted_on)
        unit_ND = unit_ND[[row for row, item_id in enumerate(item_ids) if item_id in chosen]]
    if not len(unit_ND):
        return np.zeros(unit_ND.shape[1], dtype=np.float32)
    center_D: NDArray[np.float32] = unit_ND.mean(axis=0, dtype=np.float64).astype(np.float32)
    return center_D


def _unit(vectors_ND: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of unit length; a row without direction becomes zeros."""
    has_direction_N1 = np.linalg.norm(vectors_ND, axis=1, keepdims=True) > TINY
    return normalize(np.where(has_direction_N1, vectors_ND, np.float32(0)))
