"""Histories in, what neighbors of their items say of every item out: lists beside the encoders'.

Co-occurrence counts who had two items, each user's pairs sharing one vote; a score is the decayed
sum over the history's items, damped by how many had the other item. One hop answers with
neighbors, two hops with neighbors of the best of those.

Shape legend: Q queries, N items, H items of a history, P pairs.
"""

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

DAMPING, SHRINKAGE = 0.3, 3.0
"""Of popular items: the exponent of how many had them, and what is added to that number."""
KEPT = 50  # neighbors from which the second hop goes on


def decayed(
    histories: Sequence[NDArray[np.int64]], *, num_items: int, half_life: float
) -> sp.csr_matrix:
    """Each history as weights of items, [Q, N]: the newest weighs 1, half of it each half-life."""
    rows = np.repeat(np.arange(len(histories)), [len(one) for one in histories])
    ages = np.concatenate([np.arange(len(one))[::-1] for one in histories])
    weights = 0.5 ** (ages / half_life)
    shape = (len(histories), num_items)
    return sp.csr_matrix((weights, (rows, np.concatenate(histories))), shape).astype(np.float32)


def neighbors(
    histories: Sequence[NDArray[np.int64]], *, num_items: int, decay: float, is_directed: bool
) -> sp.csr_matrix:
    """How much each item's presence says for each other one, [N, N].

    Args:
        histories: Of all users.
        num_items: In the catalog.
        decay: What one more event between the two items leaves of their vote.
        is_directed: Whether only what came later is answered.
    """
    lefts, rights, votes = [], [], []
    left = [one for one in histories if len(one) > 1]
    gap = 1
    while left:
        lefts += [one[:-gap] for one in left]
        rights += [one[gap:] for one in left]
        votes += [np.full(len(one) - gap, decay ** (gap - 1) / (len(one) - 1)) for one in left]
        gap += 1
        left = [one for one in left if len(one) > gap]
    pairs = (np.concatenate(lefts), np.concatenate(rights))
    counts = sp.csr_matrix((np.concatenate(votes), pairs), (num_items, num_items))
    if not is_directed:
        counts = counts + counts.T
    had_N = np.bincount(np.concatenate(histories), minlength=num_items) + 1 + SHRINKAGE
    return (sp.diags(1 / had_N) @ counts @ sp.diags(had_N**-DAMPING)).tocsr().astype(np.float32)


class Neighbors:
    """The three lists that co-occurrence makes."""

    def __init__(self, histories: Sequence[NDArray[np.int64]], *, num_items: int) -> None:
        self._num_items = num_items
        self._near = neighbors(histories, num_items=num_items, decay=1.0, is_directed=False)
        self._next = neighbors(histories, num_items=num_items, decay=0.5, is_directed=True)

    def logits(self, histories: Sequence[NDArray[np.int64]]) -> dict[str, NDArray[np.float32]]:
        """For each list the logarithms of its scores, [Q, N]."""
        near = (self._decayed(histories, 3.0) @ self._near).toarray()
        least = np.partition(near, -KEPT, axis=1)[:, -KEPT, None]
        best = sp.csr_matrix(np.where(near > least, near, 0))
        return {
            "near": np.log(near * 3000 + 0.1),
            "next": np.log((self._decayed(histories, 1.0) @ self._next).toarray() * 3000 + 0.1),
            "near the near": np.log((best @ self._near).toarray() * 3000 + 0.01),
        }

    def _decayed(self, histories: Sequence[NDArray[np.int64]], half_life: float) -> sp.csr_matrix:
        return decayed(histories, num_items=self._num_items, half_life=half_life)
