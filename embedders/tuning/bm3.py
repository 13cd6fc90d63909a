"""Scores by who chose what alone; features enter a loss that asks them to agree with it.

BM3 (Zhou et al., WWW 2023, arXiv 2207.05969): two views of the same vector, one through dropout
and out of the gradient's reach, one through a predictor, are drawn together by cosine; no unknown
items are needed. Vectors are LightGCN's over ids (arXiv 2002.02126), an item's own id vector added
once more, as in its authors' code.

The score holds no feature, so that tuned features change it only through a re-fit.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, dropout, embedding

from embedders.graph_smoothing import Smoothing
from embedders.items import Modality
from embedders.tuning.choices import Choices
from embedders.tuning.features import Features
from embedders.tuning.recommender import LiveFeatures, Recommender, squares, table

NUM_LAYERS = 1
DROPOUT = 0.3
ALIGNMENT = 2.0  # its authors' weight of the features' terms


class Bm3(Recommender):
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
        self.predictor = nn.Linear(dim, dim)
        nn.init.xavier_normal_(self.predictor.weight)
        nn.init.zeros_(self.predictor.bias)
        self._smoothing = Smoothing(choices.edges)

    def user_vectors(self, *, live: LiveFeatures | None = None) -> Tensor:
        """Of users through the predictor, [U, H]."""
        predicted_UH: Tensor = self.predictor(self._smoothed()[0])
        return predicted_UH

    def item_vectors(self, *, live: LiveFeatures | None = None) -> Tensor:
        """Of items through the predictor, [I, H]."""
        predicted_IH: Tensor = self.predictor(self._smoothed()[1])
        return predicted_IH

    @torch.no_grad()
    def knowledge(self) -> tuple[Tensor, Tensor]:
        """The smoothed vectors before the predictor."""
        return self._smoothed()

    def loss(self, triples_3B: Tensor, *, live: LiveFeatures | None = None) -> Tensor:
        """Users and chosen items agree, and what items show agrees with them; unknown ones are
        not looked at."""
        users_B, known_B, _ = triples_3B
        users_UH, items_IH = self._smoothed()
        users_BH, known_BH = embedding(users_B, users_UH), embedding(known_B, items_IH)
        total = _apart(self.predictor(users_BH), _view(known_BH))
        total = total + _apart(self.predictor(known_BH), _view(users_BH))
        for modality in self.modalities:
            has_B = self.presence(modality)[known_B]
            if has_B.any():
                shown_BH = self.projected(modality, known_B[has_B], live=live)
                seen_BH = self.predictor(shown_BH)
                own = _apart(seen_BH, _view(known_BH[has_B])) + _apart(seen_BH, _view(shown_BH))
                total = total + ALIGNMENT * own * has_B.float().mean()
        untouched = embedding(torch.cat([users_B, known_B + self.num_users]), self.nodes)
        return total + self.weight_decay * 2 * squares(untouched)

    def _smoothed(self) -> tuple[Tensor, Tensor]:
        layers: list[Tensor] = [self.nodes]
        for _ in range(NUM_LAYERS):
            layers.append(self._smoothing(layers[-1]))
        mean_NH = torch.stack(layers).mean(dim=0)
        users_UH, items_IH = mean_NH[: self.num_users], mean_NH[self.num_users :]
        return users_UH, items_IH + self.nodes[self.num_users :]


def _view(vectors_BH: Tensor) -> Tensor:
    """The other view: through dropout, without a gradient."""
    return dropout(vectors_BH.detach(), DROPOUT)


def _apart(seen_BH: Tensor, view_BH: Tensor) -> Tensor:
    return 1 - cosine_similarity(seen_BH, view_BH, dim=1).mean()
