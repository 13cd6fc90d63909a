"""Trained vectors of a graph's items and users in, an embedder that looks them up out.

What trains them is another file's matter: LightGCN's or the spectral one's.

Shape legend: U users, I items, N users and then items, D dimensions.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedders.base import BadContent, Embedder
from embedders.graph_edges import Edges
from embedders.items import Item
from embedders.vectors import Embeddings, Space, normalize


class GraphEmbedder(Embedder):
    """Looks up the vectors that were trained; users live in the same space as items."""

    rows_per_batch = 4096  # nothing is lost that takes long, and a batch is a file
    is_looked_up = True

    def __init__(
        self,
        *,
        items: Embeddings,
        users: Embeddings,
        until: datetime | None,
    ) -> None:
        self.space = items.space
        self.until = until
        """Only events strictly before it made edges; None means all did."""
        self._items = items
        self._users = users
        self._rows = {item_id: row for row, item_id in enumerate(items.item_ids)}

    @classmethod
    def of(
        cls, vectors_ND: NDArray[np.float32], edges: Edges, *, space: Space, until: datetime | None
    ) -> "GraphEmbedder":
        """From the vectors of all nodes, users and then items, of any length."""
        unit_ND = normalize(vectors_ND)
        num_users = len(edges.user_ids)
        return cls(
            users=Embeddings(space=space, item_ids=edges.user_ids, vectors_ND=unit_ND[:num_users]),
            items=Embeddings(space=space, item_ids=edges.item_ids, vectors_ND=unit_ND[num_users:]),
            until=until,
        )

    def fingerprint(self, item: Item) -> str | None:
        """The revision, for one more edge may move every vector; None for an item without edges."""
        return self.space.revision if item.item_id in self._rows else None

    def load(self, item: Item) -> int:
        """The item's row among the trained vectors."""
        if item.item_id not in self._rows:
            raise BadContent(f"item {item.item_id!r} has no interaction before {self.until}")
        return self._rows[item.item_id]

    def encode(self, contents: Sequence[Any]) -> NDArray[np.float32]:
        """Rows as `load` gave them -> their vectors, [N, D]."""
        return self._items.vectors_ND[np.asarray(contents, dtype=np.int64)]

    def items(self) -> Embeddings:
        """The vectors of all items with an edge, by item id."""
        return self._items

    def users(self) -> Embeddings:
        """The vectors of all users with an edge, by user id; inner products with items compare."""
        return self._users


def lifted(vectors_ND: NDArray[np.float32], *, num_users: int) -> NDArray[np.float32]:
    """Users and items with one more dimension, in which all items are of one length, [N, D + 1].

    The new number of an item is what its length lacks to the longest one's, and 0 for a user. So a
    user's cosines with items have the order of the inner products (Bachrach et al., RecSys 2014).
    """
    squares_N = np.square(vectors_ND, dtype=np.float64).sum(axis=1)
    lacks_N = np.sqrt(squares_N[num_users:].max() - squares_N[num_users:])
    added_N = np.concatenate([np.zeros(num_users), lacks_N])
    return np.column_stack([vectors_ND, added_N]).astype(np.float32)
