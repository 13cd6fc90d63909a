"""Triples of a user, a chosen and an unknown item in, a loss out; and scores of every item.

What stage 1 trains and stage 2 asks (PTMRec, arXiv 2502.15542; its equations are not public, so
that the contract is our own resolution). Features are buffers: no optimizer sees them, and only
`refresh` changes them. Several modalities are projected to one width and averaged over those that
an item has, so that an item lacking one is neither shorter nor noisier for it.

Shape legend: U users, I items, B triples, K items of a batch, D dimensions of a modality, H of the
recommender.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, logsigmoid

from embedders.items import Modality
from embedders.tuning.choices import Choices
from embedders.tuning.features import Features

NO_ITEM = torch.zeros(0, dtype=torch.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """Features of a few items with gradients, which take the place of the stored ones."""

    items_K: Tensor
    """Rising and distinct."""
    vectors_KD: Tensor


LiveFeatures = Mapping[Modality, Live]


class Recommender(nn.Module, ABC):
    """Users and items as vectors whose inner product ranks; part of an item's is what it shows."""

    def __init__(
        self,
        choices: Choices,
        features: Mapping[Modality, Features],
        *,
        dim: int,
        weight_decay: float = 0.0,
    ) -> None:
        """Draw the parameters from torch's generator; the caller seeds it.

        Raises:
            ValueError: no modality, or features of other items.
        """
        super().__init__()
        if not features:
            raise ValueError("a recommender on features needs those of one modality at least")
        self.dim = dim
        self.weight_decay = weight_decay
        self.num_users, self.num_items = len(choices.user_ids), len(choices.item_ids)
        self.modalities = tuple(sorted(features))
        for modality in self.modalities:
            one = features[modality]
            if len(one.vectors_ID) != self.num_items:
                raise ValueError(
                    f"{modality} has features of {len(one.vectors_ID)} items, the choices are "
                    f"among {self.num_items}"
                )
            vectors_ID = torch.from_numpy(np.array(one.vectors_ID))
            self.register_buffer(f"_features_{modality}", vectors_ID, persistent=False)
            is_present_I = torch.from_numpy(np.array(one.is_present_I))
            self.register_buffer(f"_presence_{modality}", is_present_I, persistent=False)
        self.projections = nn.ModuleDict(
            {one: nn.Linear(features[one].dim, dim, bias=False) for one in self.modalities}
        )
        for weight in self.projections.parameters():
            nn.init.xavier_normal_(weight)

    @abstractmethod
    def user_vectors(self, *, live: LiveFeatures | None = None) -> Tensor:
        """What scores: [U, H']."""

    @abstractmethod
    def item_vectors(self, *, live: LiveFeatures | None = None) -> Tensor:
        """What scores: [I, H']."""

    @abstractmethod
    def knowledge(self) -> tuple[Tensor, Tensor]:
        """What was learned of users and items by who chose what alone: e_u [U, H], e_i [I, H]."""

    @abstractmethod
    def loss(self, triples_3B: Tensor, *, live: LiveFeatures | None = None) -> Tensor:
        """The mean loss of (users, chosen items, unknown items), [3, B].

        Random parts of it draw from torch's generator; the caller seeds it.
        """

    @torch.no_grad()
    def scores(self, users_Q: Tensor) -> Tensor:
        """Of every item for these users, [Q, I]: higher is better; known items are among them."""
        return self.user_vectors()[users_Q] @ self.item_vectors().T

    def features(self, modality: Modality) -> Tensor:
        """As stored, [I, D]."""
        stored_ID: Tensor = self.get_buffer(f"_features_{modality}")
        return stored_ID

    def presence(self, modality: Modality) -> Tensor:
        """Which items have the modality, [I]."""
        is_present_I: Tensor = self.get_buffer(f"_presence_{modality}")
        return is_present_I

    @torch.no_grad()
    def refresh(self, modality: Modality, items_K: Tensor, vectors_KD: Tensor) -> None:
        """Store other features of these items, as a tuned encoder gives them."""
        self.features(modality)[items_K] = vectors_KD

    def projected(
        self, modality: Modality, items_K: Tensor, *, live: LiveFeatures | None = None
    ) -> Tensor:
        """What the recommender sees of these items in one modality, [K, H]; zeros without it."""
        vectors_KD = embedding(items_K, self.features(modality))
        if live is not None and modality in live and len(live[modality].items_K):
            own = live[modality]
            places_K = torch.searchsorted(own.items_K, items_K.contiguous()).clamp(
                max=len(own.items_K) - 1
            )
            is_live_K1 = (own.items_K[places_K] == items_K)[:, None]
            vectors_KD = torch.where(is_live_K1, embedding(places_K, own.vectors_KD), vectors_KD)
        projected_KH: Tensor = self.projections[modality](vectors_KD)
        return projected_KH

    def content(self, items_K: Tensor, *, live: LiveFeatures | None = None) -> Tensor:
        """The mean of what the modalities show of these items, [K, H]; zeros where none does."""
        total_KH = torch.zeros(len(items_K), self.dim)
        count_K1 = torch.zeros(len(items_K), 1)
        for modality in self.modalities:
            total_KH = total_KH + self.projected(modality, items_K, live=live)
            count_K1 = count_K1 + self.presence(modality)[items_K][:, None]
        return total_KH / count_K1.clamp(min=1)


def bpr(users_BH: Tensor, known_BH: Tensor, unknown_BH: Tensor) -> Tensor:
    """-log sigmoid(score of the chosen less score of the unknown item), the mean over triples.

    Rendle et al., UAI 2009.
    """
    return -logsigmoid((users_BH * (known_BH - unknown_BH)).sum(dim=1)).mean()


def squares(*compared: Tensor) -> Tensor:
    """Half of the summed squared lengths, the mean over triples: what weight decay multiplies."""
    return torch.stack([one.square().sum() for one in compared]).sum() / (2 * len(compared[0]))


def table(num_rows: int, dim: int) -> nn.Parameter:
    """Vectors to be learned, by Glorot and Bengio's draw."""
    return nn.Parameter(nn.init.xavier_normal_(torch.empty(num_rows, dim)))
