"""Interactions in, one vector for each item and user of the graph out (LightGCN, SIGIR 2020).

Users and items are nodes, and who touched what are the edges; a node's vector is the mean over
the layers of its neighbors' smoothed vectors (He et al., arXiv 2002.02126). Two things differ
from the paper. Training compares cosines, because cosines are what the index will search, and an
edge's weight counts both in the smoothing and in the loss. Behaviors may be relations of their own,
and friends and item edges further ones (`embedders.graph_smoothing`).

Only events strictly before `until` make edges, so that a vector never knows what came later.
Equal edges, configuration and number of threads give bit-equal vectors. With a `spectral_share`,
spectral vectors of the same graph (`embedders.graph_factors`) stand beside the trained ones.

Shape legend: N users and then items, D dimensions.
"""

from datetime import datetime

import pyarrow as pa

from embedders.graph_config import GraphConfig
from embedders.graph_edges import read_edges, revision
from embedders.graph_embedder import GraphEmbedder, lifted
from embedders.graph_factors import factors, joined
from embedders.graph_training import OnProgress, train
from embedders.items import Modality
from embedders.vectors import Space, normalize

__all__ = ["GraphConfig", "GraphEmbedder", "fit", "lifted"]


def fit(
    interactions: pa.Table,
    *,
    until: datetime | None,
    config: GraphConfig,
    friends: pa.Table | None = None,
    item_edges: pa.Table | None = None,
    on_progress: OnProgress | None = None,
) -> GraphEmbedder:
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
    vectors_ND = train(edges, config=config, on_progress=on_progress)
    if config.compare == "dot":
        vectors_ND = lifted(vectors_ND, num_users=len(edges.user_ids))
    if config.spectral_share > 0:
        spectral_ND = factors(edges, config=config)
        vectors_ND = joined(normalize(vectors_ND), spectral_ND, share=config.spectral_share)
    space = Space(
        modality=Modality.GRAPH,
        encoder="lightgcn",
        revision=revision(edges, until=until, config=config),
        dim=vectors_ND.shape[1],
        preprocessing="user-item graph",
    )
    return GraphEmbedder.of(vectors_ND, edges, space=space, until=until)
