"""Interactions in, one spectral vector for each item and user of the graph out, in seconds.

Deterministic and without a model library; see `embedders.graph_factors` for what it computes and
whose ideas these are. Only events strictly before `until` make edges, so that a vector never knows
what came later.
"""

from datetime import datetime

import pyarrow as pa

from embedders.graph_config import GraphConfig
from embedders.graph_edges import read_edges, revision
from embedders.graph_embedder import GraphEmbedder
from embedders.graph_factors import factors
from embedders.items import Modality
from embedders.vectors import Space


def fit(interactions: pa.Table, *, until: datetime | None, config: GraphConfig) -> GraphEmbedder:
    """Factorize who touched what before `until`.

    Args:
        interactions: Columns user_id, item_id, behavior, timestamp and optionally weight.
        until: The training cut, in UTC, as for LightGCN. None takes all events.
        config: Its `behavior_weights`, `min_weight`, `seed` and what begins with `spectral_`.

    Raises:
        ValueError: no event is left to train on.
    """
    edges = read_edges(interactions, until=until, config=config)
    space = Space(
        modality=Modality.GRAPH,
        encoder="spectral",
        revision=revision(edges, until=until, config=config, encoder="spectral"),
        dim=config.spectral_dim,
        preprocessing="user-item graph",
    )
    return GraphEmbedder.of(factors(edges, config=config), edges, space=space, until=until)
