"""All nodes' vectors and a batch of pairs in, how far known items are from being nearest out.

Both losses compare cosines, because cosines are what the index will search, or inner products,
divided by a temperature, and weigh a pair by its strongest behavior. `Bpr` is LightGCN's (Rendle et
al., UAI 2009), against one unknown item of the same user. `Softmax` is the sampled softmax (Wu et
al., arXiv 2201.02327), against items that the batch shares: cheap, as scores against them are one
matrix product, made once for all pairs of a user. They may hold items that the user knows, which
the many others outweigh; where all items are drawn it is the full softmax.

Shape legend: N nodes (users first, then items), U users, E pairs of a user and an item, B a batch
of them, M shared negatives, D dimensions.
"""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding, logsigmoid, softplus

from embedders.graph_config import GraphConfig
from embedders.graph_edges import Edges
from embedders.graph_smoothing import unit

SCORES = 1 << 20  # held at once: larger blocks leave the processor's cache, at ten times the cost


class Loss(Protocol):
    """One of the two."""

    def order(self, generator: torch.Generator) -> Tensor:
        """The pairs to train on in one epoch, as places among all pairs, shuffled."""

    def __call__(
        self, vectors_ND: Tensor, batch_B: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """The loss of a batch of pairs, and the nodes it compared, [K, B]: users, items."""


def create(edges: Edges, config: GraphConfig) -> Loss:
    """The loss that the configuration names."""
    return Bpr(edges, config) if config.loss == "bpr" else Softmax(edges, config)


class Bpr:
    """A user lies closer to a known item than to an unknown one."""

    def __init__(self, edges: Edges, config: GraphConfig) -> None:
        self._num_users = len(edges.user_ids)
        self._temperature = config.temperature
        self._is_cosine = config.compare == "cosine"
        self._users_E = torch.from_numpy(edges.users_E)
        self._items_E = torch.from_numpy(edges.items_E)
        self._weights_E = torch.from_numpy(edges.weights_E)
        self._negatives = Negatives(edges)
        # A user who touched every item has no negative; the smoothing still places such a user.
        has_unknown_E = self._negatives.num_unknown_U[self._users_E] > 0
        self._trainable = torch.nonzero(has_unknown_E).squeeze(1)

    def order(self, generator: torch.Generator) -> Tensor:
        """See `Loss`."""
        return self._trainable[torch.randperm(len(self._trainable), generator=generator)]

    def __call__(
        self, vectors_ND: Tensor, batch_B: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """See `Loss`; the nodes are users, known items and unknown items, [3, B]."""
        users_B, weights_B = self._users_E[batch_B], self._weights_E[batch_B]
        unknown_B = self._negatives.draw(users_B, generator) + self._num_users
        nodes_3B = torch.stack([users_B, self._items_E[batch_B] + self._num_users, unknown_B])
        users_BD, known_BD, unknown_BD = _rows(vectors_ND, nodes_3B, is_unit=self._is_cosine)
        margins_B = (users_BD * (known_BD - unknown_BD)).sum(dim=1) / self._temperature
        loss = -(weights_B * logsigmoid(margins_B)).sum() / weights_B.sum()
        return loss, nodes_3B


class Softmax:
    """A user lies closer to a known item than to all of the items that the batch drew, evenly."""

    def __init__(self, edges: Edges, config: GraphConfig) -> None:
        self._num_users, self._num_items = len(edges.user_ids), len(edges.item_ids)
        self._temperature = config.temperature
        self._is_cosine = config.compare == "cosine"
        self._num_negatives = min(config.num_negatives, self._num_items)
        self._users_E = torch.from_numpy(edges.users_E)
        self._items_E = torch.from_numpy(edges.items_E)
        self._weights_E = torch.from_numpy(edges.weights_E)

    def order(self, generator: torch.Generator) -> Tensor:
        """See `Loss`. A user's pairs stay together, as they share the scores of what is drawn."""
        place_U = torch.randperm(self._num_users, generator=generator)
        return torch.argsort(place_U[self._users_E], stable=True)

    def __call__(
        self, vectors_ND: Tensor, batch_B: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """See `Loss`; the nodes are users and known items, [2, B]."""
        nodes_2B = torch.stack([self._users_E[batch_B], self._items_E[batch_B] + self._num_users])
        weights_B = self._weights_E[batch_B]
        users_B, place_B = torch.unique(nodes_2B[0], return_inverse=True)
        users_UD = _rows(vectors_ND, users_B, is_unit=self._is_cosine) / self._temperature
        known_BD = _rows(vectors_ND, nodes_2B[1], is_unit=self._is_cosine)
        known_B = (embedding(place_B, users_UD) * known_BD).sum(dim=1)
        drawn_M = torch.randperm(self._num_items, generator=generator)[: self._num_negatives]
        drawn_MD = _rows(vectors_ND, drawn_M + self._num_users, is_unit=self._is_cosine)
        rows = max(1, SCORES // len(drawn_M))
        drawn_U = torch.cat(
            [torch.logsumexp(users @ drawn_MD.T, dim=1) for users in users_UD.split(rows)]
        )
        losses_B = embedding(place_B, drawn_U[:, None]).squeeze(1) - known_B
        if len(drawn_M) < self._num_items:  # else the known item is among the drawn
            losses_B = softplus(losses_B)
        return (weights_B * losses_B).sum() / weights_B.sum(), nodes_2B


def _rows(vectors_ND: Tensor, nodes: Tensor, *, is_unit: bool) -> Tensor:
    """The nodes' vectors, in the shape of `nodes`. Not all N: a batch may be far smaller."""
    rows = embedding(nodes.flatten(), vectors_ND)
    rows = unit(rows) if is_unit else rows
    return rows.reshape(*nodes.shape, vectors_ND.shape[1])


class Negatives:
    """Draws items that a user never touched, uniformly and without a rejected draw.

    The r-th unknown item of a user is r plus the number of known items at or before it: with the
    known items p_0 < p_1 < ..., that is the number of j with p_j - j <= r. All users' values of
    p_j - j lie in one sorted row, so a binary search answers a whole batch.
    """

    def __init__(self, edges: Edges) -> None:
        num_users = len(edges.user_ids)
        num_known_U = np.bincount(edges.users_E, minlength=num_users)
        starts_U = np.cumsum(num_known_U) - num_known_U
        shifted_E = edges.items_E - (np.arange(len(edges.items_E)) - starts_U[edges.users_E])
        self._stride = len(edges.item_ids) + 1
        self._keys_E = torch.from_numpy(edges.users_E * self._stride + shifted_E)
        self._starts_U = torch.from_numpy(starts_U)
        self.num_unknown_U = torch.from_numpy(len(edges.item_ids) - num_known_U)

    def draw(self, users_B: Tensor, generator: torch.Generator) -> Tensor:
        """One unknown item for each user; every user must have one."""
        uniform_B = torch.rand(len(users_B), generator=generator, dtype=torch.float64)
        draws_B = (uniform_B * self.num_unknown_U[users_B]).long()
        ends_B = torch.searchsorted(self._keys_E, users_B * self._stride + draws_B, right=True)
        return draws_B + ends_B - self._starts_U[users_B]
