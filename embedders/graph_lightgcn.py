"""Interactions in, one vector for each item and user of the graph out (LightGCN, SIGIR 2020).

Users and items are nodes, and who touched what are the edges; a node's vector is the mean over
the layers of its neighbors' smoothed vectors (He et al., arXiv 2002.02126). Two things differ
from the paper. Training compares cosines, because cosines are what the index will search, and an
edge's weight counts both in the smoothing and in the loss. Behaviors may be relations of their own,
and friends and item edges further ones (`embedders.graph_smoothing`).

Only events strictly before `until` make edges, so that a vector never knows what came later.
Equal edges, configuration and number of threads give bit-equal vectors.

Shape legend: N items, D dimensions.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedders.base import BadContent, Embedder
from embedders.graph_config import GraphConfig
from embedders.graph_edges import read_edges, revision
from embedders.graph_training import OnProgress, train
from embedders.items import Item, Modality
from embedders.vectors import Embeddings, Space, normalize

__all__ = ["GraphConfig", "LightGcnEmbedder", "fit"]


class LightGcnEmbedder(Embedder):
    """Looks up the vectors that `fit` trained; users live in the same space as items."""

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


def fit(
    interactions: pa.Table,
    *,
    until: datetime | None,
    config: GraphConfig,
    friends: pa.Table | None = None,
    item_edges: pa.Table | None = None,
    on_progress: OnProgress | None = None,
) -> LightGcnEmbedder:
    """Train LightGCN on who touched what before `until`.

    Args:
        interactions: Columns user_id, item_id, behavior, timestamp and optionally weight.
        until: The training cut, in UTC. Given one, events without a timestamp are left out,
            since nothing shows that they came before it. None takes all events.
        config: How the graph is read and trained.
        friends: As `Catalog.friends`; used where `friend_weight` is above 0.
        item_edges: As `Catalog.item_edges`; used where `item_edge_weight` is above 0.
        on_progress: Told about each epoch.

    Raises:
        ValueError: no event is left to train on.
    """
    edges = read_edges(
        interactions, until=until, config=config, friends=friends, item_edges=item_edges
    )
    num_users = len(edges.user_ids)
    trained_ND = train(edges, config=config, on_progress=on_progress)
    if config.compare == "dot":
        trained_ND = lifted(trained_ND, num_users=num_users)
    vectors_ND = normalize(trained_ND)
    space = Space(
        modality=Modality.GRAPH,
        encoder="lightgcn",
        revision=revision(edges, until=until, config=config),
        dim=config.dim,
        preprocessing="user-item graph",
    )
    return LightGcnEmbedder(
        users=Embeddings(space=space, item_ids=edges.user_ids, vectors_ND=vectors_ND[:num_users]),
        items=Embeddings(space=space, item_ids=edges.item_ids, vectors_ND=vectors_ND[num_users:]),
        until=until,
    )


def lifted(vectors_ND: NDArray[np.float32], *, num_users: int) -> NDArray[np.float32]:
    """Users and items with one more dimension, in which all items are of one length, [N, D + 1].

    The new number of an item is what its length lacks to the longest one's, and 0 for a user. So a
    user's cosines with items have the order of the inner products (Bachrach et al., RecSys 2014).
    """
    squares_N = np.square(vectors_ND, dtype=np.float64).sum(axis=1)
    lacks_N = np.sqrt(squares_N[num_users:].max() - squares_N[num_users:])
    added_N = np.concatenate([np.zeros(num_users), lacks_N])
    return np.column_stack([vectors_ND, added_N]).astype(np.float32)
