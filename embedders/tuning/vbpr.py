"""Features in the score itself: an item is what was learned of it beside what it shows.

VBPR (He and McAuley, AAAI 2016) in MMRec's form (arXiv 2302.03497), without biases:
score(u, i) = [p_u ; t_u] . [q_i ; W x_i]. Tuned features move the ranking directly.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import embedding

from embedders.items import Modality
from embedders.tuning.choices import Choices
from embedders.tuning.features import Features
from embedders.tuning.recommender import LiveFeatures, Recommender, bpr, squares, table


class Vbpr(Recommender):
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
        self.users = table(self.num_users, 2 * dim)
        self.items = table(self.num_items, dim)

    def user_vectors(self, *, live: LiveFeatures | None = None) -> Tensor:
        """[p_u ; t_u], [U, 2 H]."""
        return self.users

    def item_vectors(self, *, live: LiveFeatures | None = None) -> Tensor:
        """[q_i ; W x_i], [I, 2 H]."""
        return self._rows(torch.arange(self.num_items), live)

    def knowledge(self) -> tuple[Tensor, Tensor]:
        """p_u and q_i."""
        return self.users[:, : self.dim].detach(), self.items.detach()

    def loss(self, triples_3B: Tensor, *, live: LiveFeatures | None = None) -> Tensor:
        """BPR, and the squared lengths of what was compared."""
        users_B, known_B, unknown_B = triples_3B
        users_BH = embedding(users_B, self.users)
        known_BH, unknown_BH = self._rows(known_B, live), self._rows(unknown_B, live)
        compared = (users_BH, embedding(known_B, self.items), embedding(unknown_B, self.items))
        return bpr(users_BH, known_BH, unknown_BH) + self.weight_decay * squares(*compared)

    def _rows(self, items_K: Tensor, live: LiveFeatures | None) -> Tensor:
        shown_KH = self.content(items_K, live=live)
        return torch.cat([embedding(items_K, self.items), shown_KH], dim=1)
