"""Items begin as what was learned of them plus what they show; LightGCN smooths both over choices.

LightGCN (He et al., arXiv 2002.02126) with two layers; that features enter as a sum at layer 0 is
our own choice. Every layer is linear, so that ids and features could be smoothed apart, and what
is transferred is the ids' part alone. Tuned features change the graph's vectors at once: there is
no item graph to be built anew, only the smoothing to be run.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import embedding

from embedders.graph_smoothing import Smoothing
from embedders.items import Modality
from embedders.tuning.choices import Choices
from embedders.tuning.features import Features
from embedders.tuning.recommender import LiveFeatures, Recommender, bpr, squares, table

NUM_LAYERS = 2


class LightGcnContent(Recommender):
    """See the module."""

    def __init__(
        self,
        choices: Choices,
        features: Mapping[Modality, Features],
        *,
        dim: int,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(choices, features, dim=dim, weight_decay=weight_decay)
        self.nodes = table(self.num_users + self.num_items, dim)
        self._smoothing = Smoothing(choices.edges)

    def user_vectors(self, *, live: LiveFeatures | None = None) -> Tensor:
        """After smoothing, [U, H]."""
        return self._smoothed(live)[: self.num_users]

    def item_vectors(self, *, live: LiveFeatures | None = None) -> Tensor:
        """After smoothing, [I, H]."""
        return self._smoothed(live)[self.num_users :]

    @torch.no_grad()
    def knowledge(self) -> tuple[Tensor, Tensor]:
        """The ids' part of the smoothed vectors."""
        smoothed_NH = self._layers(self.nodes)
        return smoothed_NH[: self.num_users], smoothed_NH[self.num_users :]

    @torch.no_grad()
    def scores(self, users_Q: Tensor) -> Tensor:
        """See `Recommender`; smoothed once."""
        smoothed_NH = self._smoothed(None)
        return smoothed_NH[users_Q] @ smoothed_NH[self.num_users :].T

    def loss(self, triples_3B: Tensor, *, live: LiveFeatures | None = None) -> Tensor:
        """BPR, and the squared lengths of the untouched vectors."""
        users_B, known_B, unknown_B = triples_3B
        nodes_3B = torch.stack([users_B, known_B + self.num_users, unknown_B + self.num_users])
        smoothed_NH = self._smoothed(live)
        found = [embedding(one_B, smoothed_NH) for one_B in nodes_3B]
        untouched = [embedding(one_B, self.nodes) for one_B in nodes_3B]
        return bpr(*found) + self.weight_decay * squares(*untouched)

    def _smoothed(self, live: LiveFeatures | None) -> Tensor:
        shown_IH = self.content(torch.arange(self.num_items), live=live)
        no_UH = torch.zeros(self.num_users, self.dim)
        return self._layers(self.nodes + torch.cat([no_UH, shown_IH]))

    def _layers(self, nodes_NH: Tensor) -> Tensor:
        layers = [nodes_NH]
        for _ in range(NUM_LAYERS):
            layers.append(self._smoothing(layers[-1]))
        return torch.stack(layers).mean(dim=0)
