"""The edges of a graph in, the smoothed vectors of its nodes after training out.

Every step smooths the whole graph once and compares users with items of its batch. Draws come from
a generator of the configured seed, and lookups go through `embedding`, whose gradient is summed in
a fixed order: equal edges, configuration and number of threads give bit-equal vectors.

Shape legend: N nodes (users, then items), B a batch of pairs, K nodes of a pair, D dimensions.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import embedding
from torch_geometric.nn import LightGCN

from embedders import graph_losses
from embedders.graph_config import GraphConfig
from embedders.graph_edges import Edges
from embedders.graph_smoothing import Smoothing

OnProgress = Callable[[int, int, float], None]
"""Called after each epoch with (epochs done, epochs in all, mean loss)."""


def train(
    edges: Edges, *, config: GraphConfig, on_progress: OnProgress | None = None
) -> NDArray[np.float32]:
    """The smoothed vectors of all nodes after training, [N, D], of any length.

    D is `config.dim`, or one less where inner products are compared: see `lifted`.
    """
    model = _model(edges, config)
    loss_of = graph_losses.create(edges, config)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    generator = torch.Generator().manual_seed(config.seed)
    for epoch in range(1, config.epochs + 1):
        order = loss_of.order(generator)
        total = 0.0
        for start in range(0, len(order), config.batch_size):
            batch_B = order[start : start + config.batch_size]
            loss, nodes_KB = loss_of(model.get_embedding(None), batch_B, generator)
            untouched = embedding(nodes_KB, model.embedding.weight)
            loss = loss + config.weight_decay * untouched.square().sum() / len(batch_B)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            total += float(loss.detach()) * len(batch_B)
        if on_progress is not None:
            on_progress(epoch, config.epochs, total / max(len(order), 1))
    with torch.no_grad():
        vectors_ND = model.get_embedding(None)
    smoothed_ND: NDArray[np.float32] = vectors_ND.numpy()
    return smoothed_ND


def _model(edges: Edges, config: GraphConfig) -> LightGCN:
    """Layers that share one smoothing, and so its learned shares."""
    others = 1 / (config.num_layers + 1)
    own = others if config.own_share is None else config.own_share
    if config.own_share is not None:
        others = (1 - own) / config.num_layers
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = LightGCN(
            edges.num_nodes,
            config.dim if config.compare == "cosine" else config.dim - 1,
            config.num_layers,
            alpha=torch.tensor([own] + [others] * config.num_layers),
            normalize=False,
        )
    smoothing = Smoothing(
        edges,
        is_learned=config.mixing == "learned",
        exponents=config.degree_exponents,
        scale=config.scale_layers,
    )
    model.convs = torch.nn.ModuleList([smoothing] * config.num_layers)
    return model
