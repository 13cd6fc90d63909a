"""Content vectors and trained vectors in, vectors for items that have content alone out.

An item that nobody has touched has no place in the graph, but its text, picture and sound say which
items it resembles. It gets the mean of the trained vectors of its nearest ones, weighted by their
likeness. Likeness is the sum, over the modalities that both items show, of their cosines after the
mean of the trained items is taken off: 0 is what an average item has, and what an absent modality
counts. Items that are not more alike than that lend nothing.

Blocks of new items meet blocks of trained ones, so beside the vectors themselves little is held.
Equal input gives equal vectors, ties fall by item id.

Shape legend: Q new items, N trained items, D dimensions, K nearest.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedders.vectors import Embeddings, Space, normalize

LEAST = 1e-4  # likenesses below it are rounding, and would lend a direction by chance
NEW_ROWS, TRAINED_ROWS = 512, 8192  # of one block; their likenesses take 16 MB


def impute(
    content: Sequence[Embeddings], known: Embeddings, item_ids: Sequence[str], *, k: int = 10
) -> Embeddings:
    """A vector in the space of `known` for each item that resembles some of its items.

    Call it once all content modalities are embedded, with what the store holds:

        content = [store.read(space) for space in content_spaces]
        known = the trained vectors alone: `store.read(space)` less `store.imputed(space)`
        store.write(impute(content, known, item_ids, k=k), ..., imputed=[True, ...])

    Args:
        content: Each content modality's vectors, of trained and of new items.
        known: The trained vectors.
        item_ids: The new items; those that `known` holds are left out.
        k: How many of the nearest trained items lend their vectors.

    Returns:
        Vectors of unit length, by item id. An item without content, or that resembles no trained
        item more than the average does, is left out.

    Raises:
        ValueError: k is not positive, or `known` has vectors that are not normalized.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if not known.space.is_normalized:
        raise ValueError(f"{known.space.space_id}: only normalized vectors can be averaged")
    trained_ids = sorted(known.item_ids)
    new_ids = sorted(set(item_ids).difference(trained_ids))
    rows = {item_id: row for row, item_id in enumerate(known.item_ids)}
    trained_ND = known.vectors_ND[[rows[one] for one in trained_ids]]
    sides = [_Side.of(one, trained_ids, new_ids) for one in content if len(one)]
    found: list[NDArray[np.float32]] = []
    for start in range(0, len(new_ids), NEW_ROWS):
        block = slice(start, start + NEW_ROWS)
        likeness_QK, nearest_QK = _nearest(sides, range(len(new_ids))[block], len(trained_ids), k=k)
        lent_QKD = trained_ND[nearest_QK]
        found.append(normalize(np.einsum("qk,qkd->qd", likeness_QK, lent_QKD)))
    vectors_QD = np.concatenate([np.zeros((0, known.space.dim), dtype=np.float32), *found])
    has_Q: NDArray[np.bool_] = (vectors_QD != 0).any(axis=1)
    return Embeddings(
        space=known.space,
        item_ids=[new_ids[row] for row in np.flatnonzero(has_Q)],
        vectors_ND=vectors_QD[has_Q],
    )


def content_hash(space: Space, *, hashes: Mapping[str, str], k: int) -> str:
    """What an imputed row is known by: other events, other content or another k make it anew.

    Args:
        space: Of the trained vectors.
        hashes: Content space's id -> the item's content hash in it, for each that it has.
        k: How many neighbors lend.
    """
    facts = [
        space.space_id,
        space.revision,
        str(k),
        *(f"{a}={b}" for a, b in sorted(hashes.items())),
    ]
    return hashlib.sha256("\0".join(facts).encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Side:
    """One modality: its vectors, where each trained and each new item's lies, and the mean."""

    vectors_MD: NDArray[np.float32]
    trained_N: NDArray[np.int64]
    new_Q: NDArray[np.int64]
    """-1 for an item without this modality."""
    mean_D: NDArray[np.float64]

    @classmethod
    def of(cls, content: Embeddings, trained_ids: Sequence[str], new_ids: Sequence[str]) -> "_Side":
        rows = {item_id: row for row, item_id in enumerate(content.item_ids)}
        trained_N = np.array([rows.get(one, -1) for one in trained_ids], dtype=np.int64)
        new_Q = np.array([rows.get(one, -1) for one in new_ids], dtype=np.int64)
        present = trained_N[trained_N >= 0]
        total_D = np.zeros(content.space.dim)
        for start in range(0, len(present), TRAINED_ROWS):
            block = normalize(content.vectors_ND[present[start : start + TRAINED_ROWS]])
            total_D += block.sum(axis=0, dtype=np.float64)
        mean_D = total_D / max(len(present), 1)
        return cls(vectors_MD=content.vectors_ND, trained_N=trained_N, new_Q=new_Q, mean_D=mean_D)

    def centered(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Unit vectors less the mean, of unit length again; zeros for -1."""
        vectors = normalize(normalize(self.vectors_MD[rows]) - self.mean_D)
        vectors[rows < 0] = 0
        return vectors


def _nearest(
    sides: Sequence[_Side], block: range, num_trained: int, *, k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """(likeness, place among the trained items) of each new item's nearest, [Q, K] both.

    Fewer than k are filled up with likenesses of 0.
    """
    num_new = len(block)
    new_QD = [side.centered(side.new_Q[block.start : block.stop]) for side in sides]
    best_QK = np.zeros((num_new, 0), dtype=np.float32)
    places_QK = np.zeros((num_new, 0), dtype=np.int64)
    for start in range(0, num_trained, TRAINED_ROWS):
        here = slice(start, start + TRAINED_ROWS)
        likeness_QN = sum(
            (
                new @ side.centered(side.trained_N[here]).T
                for new, side in zip(new_QD, sides, strict=True)
            ),
            start=np.zeros((num_new, len(range(num_trained)[here])), dtype=np.float32),
        )
        places_N = np.arange(num_trained)[here]
        best_QK, places_QK = _first(
            np.concatenate([best_QK, np.where(likeness_QN < LEAST, 0, likeness_QN)], axis=1),
            np.concatenate([places_QK, np.broadcast_to(places_N, likeness_QN.shape)], axis=1),
            k=k,
        )
    return best_QK, places_QK


def _first(
    values_QN: NDArray[np.float32], places_QN: NDArray[np.int64], *, k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The k largest of each row, in the order they stand in; of equal ones those that come first.

    Sorting would do the same at many times the cost.
    """
    num = values_QN.shape[1]
    if num <= k:
        return values_QN, places_QN
    least_Q1 = np.partition(values_QN, num - k, axis=1)[:, num - k, None]
    is_more_QN = values_QN > least_Q1
    is_tie_QN = values_QN == least_Q1
    num_ties_Q1 = k - is_more_QN.sum(axis=1, keepdims=True)
    is_first_QN = is_more_QN | (is_tie_QN & (np.cumsum(is_tie_QN, axis=1) <= num_ties_Q1))
    columns_QK = np.nonzero(is_first_QN)[1].reshape(len(values_QN), k)
    return (
        np.take_along_axis(values_QN, columns_QK, axis=1),
        np.take_along_axis(places_QN, columns_QK, axis=1),
    )
