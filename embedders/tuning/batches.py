"""Choices in, batches of items out: who chose them, and what those users do not know.

Stage 2 pays for every item that an encoder reads, and hardly for a user. So a batch is a few items:
half of them by choices drawn evenly, as stage 1 sees them, half drawn evenly from the catalog as
unknown items; every chosen item brings several of its users. A batch depends on its seed and
number alone, so that an interrupted run draws on as if nothing had been.

Shape legend: E pairs, I items, K items of a batch, B triples.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embedders.tuning.choices import Choices

USERS_OF_AN_ITEM = 8
SALTS = {"items": 0, "triples": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Items to be embedded, and what is asked of them."""

    items_K: Tensor
    """Rising and distinct, each with content."""
    triples_3B: Tensor
    """Users, chosen and unknown items, all within the batch; B may be 0."""


class Batches:
    """Draws batches of items, and triples of all items."""

    def __init__(
        self, choices: Choices, has_content_I: NDArray[np.bool_], *, size: int, seed: int
    ) -> None:
        """Args:
        choices: Who chose what.
        has_content_I: Which items an encoder can read.
        size: Items of a batch, at most.
        seed: Of everything drawn.

        Raises:
            ValueError: fewer than two items have content, or nobody chose one of them.
        """
        self._seed = seed
        self._num_items = len(choices.item_ids)
        self._all_users_E, self._all_items_E = choices.users_E, choices.items_E
        self._keys_E = choices.users_E * self._num_items + choices.items_E  # rising
        is_read_E = has_content_I[choices.items_E]
        order = np.argsort(choices.items_E[is_read_E], kind="stable")
        self._users_E = choices.users_E[is_read_E][order]
        self._items_E = choices.items_E[is_read_E][order]
        self._readable = np.flatnonzero(has_content_I)
        if len(self._readable) < 2 or not len(self._items_E):
            raise ValueError(
                f"{len(self._readable)} items have content to tune by, and {len(self._items_E)} "
                "choices are of one of them: tuning needs two such items and choices"
            )
        self._num_chosen = min(max(1, size // 2), len(self._readable) - 1)
        self._num_others = min(max(1, size - size // 2), len(self._readable))

    def items(self, step: int) -> Batch:
        """The batch of a step of stage 2."""
        rng = np.random.default_rng([self._seed, SALTS["items"], step])
        pairs = rng.integers(len(self._items_E), size=self._num_chosen)
        chosen = np.unique(self._items_E[pairs])
        others = rng.choice(self._readable, size=self._num_others, replace=False)
        first = np.searchsorted(self._items_E, chosen, side="left")
        count = np.searchsorted(self._items_E, chosen, side="right") - first
        drawn = rng.random((len(chosen), USERS_OF_AN_ITEM))
        users_B = self._users_E[(first[:, None] + (drawn * count[:, None]).astype(int)).ravel()]
        known_B = np.repeat(chosen, USERS_OF_AN_ITEM)
        unknown_B = rng.choice(others, size=len(users_B))
        is_new_B = ~self._is_known(users_B, unknown_B)
        triples_3B = np.stack([users_B, known_B, unknown_B])[:, is_new_B]
        return Batch(
            items_K=torch.from_numpy(np.unique(np.concatenate([chosen, others]))),
            triples_3B=torch.from_numpy(triples_3B),
        )

    def triples(self, step: int, *, size: int) -> Tensor:
        """Triples of any items, [3, B], as stage 1 sees them, drawn evenly."""
        rng = np.random.default_rng([self._seed, SALTS["triples"], step])
        pairs = rng.integers(len(self._all_users_E), size=size)
        users_B, known_B = self._all_users_E[pairs], self._all_items_E[pairs]
        unknown_B = rng.integers(self._num_items, size=size)
        is_new_B = ~self._is_known(users_B, unknown_B)
        return torch.from_numpy(np.stack([users_B, known_B, unknown_B])[:, is_new_B])

    def _is_known(
        self, users_B: NDArray[np.int64], items_B: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        keys_B = users_B * self._num_items + items_B
        places_B = np.searchsorted(self._keys_E, keys_B).clip(max=len(self._keys_E) - 1)
        return np.asarray(self._keys_E[places_B] == keys_B)
