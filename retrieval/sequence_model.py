"""Items' content and histories in, item vectors and hidden states out: the network itself.

The causal self-attention over a history is SASRec's (Kang & McAuley, ICDM 2018), with learned
positions and with the item table tied to the output. Ours are: an item is the sum of its own vector
and one projection for each modality, each with a learned stand-in where it is absent; behaviors
have a vector, added to the item's; layers normalize what they read and not what they write, with
GELU in between; and what is compared may be cosines.

Shape legend: N items, M modalities, B histories, L events of a history, D the network's width,
H heads.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, gelu, normalize, scaled_dot_product_attention

from retrieval.sequence_config import SequenceConfig

STARTING_SCALE = 0.02  # of all that is looked up or added to it, at first


class Content(nn.Module):
    """Items as the sum of what is known of them."""

    def __init__(self, dims: Mapping[str, int], *, num_ids: int, config: SequenceConfig) -> None:
        super().__init__()
        self.names = tuple(dims)
        linear = {name: nn.Linear(dim, config.dim, bias=False) for name, dim in dims.items()}
        for projection in linear.values():
            nn.init.normal_(projection.weight, std=STARTING_SCALE)
        self.projections = nn.ModuleDict(linear)
        self.absent_MD = nn.Parameter(torch.zeros(len(dims), config.dim))
        self.ids = nn.Embedding(num_ids, config.dim) if config.use_ids else None
        if self.ids is not None:
            nn.init.normal_(self.ids.weight, std=STARTING_SCALE)
        self.unknown_D = nn.Parameter(torch.zeros(config.dim))
        self._id_dropout, self._modality_dropout = config.id_dropout, config.modality_dropout

    def forward(self, blocks: Mapping[str, Tensor], present_NM: Tensor, ids_N: Tensor) -> Tensor:
        """Item vectors of any length, [N, D].

        Args:
            blocks: For each modality unit vectors, [N, its dimensions]; those of absent ones do
                not matter.
            present_NM: Which modalities are present.
            ids_N: The row of each item's own vector; below 0 where training did not see it.
        """
        has_id_N = ids_N >= 0
        if self.training:
            present_NM = present_NM & (torch.rand(present_NM.shape) >= self._modality_dropout)
            # An item that shows no content keeps its own vector, or nothing would be left of it.
            is_kept_N = torch.rand(len(ids_N)) >= self._id_dropout
            has_id_N = has_id_N & (is_kept_N | ~present_NM.any(dim=1))
        total_ND = torch.zeros(len(ids_N), len(self.unknown_D))
        for place, name in enumerate(self.names):
            shown_N1 = present_NM[:, place, None]
            projected_ND = self.projections[name](blocks[name])
            total_ND = total_ND + torch.where(shown_N1, projected_ND, self.absent_MD[place])
        if self.ids is not None:
            own_ND = embedding(ids_N.clamp(min=0), self.ids.weight)
            total_ND = total_ND + torch.where(has_id_N[:, None], own_ND, self.unknown_D)
        return total_ND


class Layer(nn.Module):
    """Attention to what came before, then a pointwise network; both are added to what was there."""

    def __init__(self, config: SequenceConfig) -> None:
        super().__init__()
        self._num_heads = config.num_heads
        self.attention_norm, self.norm = nn.LayerNorm(config.dim), nn.LayerNorm(config.dim)
        self.attend = nn.Linear(config.dim, 3 * config.dim)
        self.join = nn.Linear(config.dim, config.dim)
        self.widen = nn.Linear(config.dim, config.widening * config.dim)
        self.narrow = nn.Linear(config.widening * config.dim, config.dim)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, hidden_BLD: Tensor) -> Tensor:
        B, L, D = hidden_BLD.shape
        parts = self.attend(self.attention_norm(hidden_BLD)).view(B, L, 3, self._num_heads, -1)
        query_BHLd, key_BHLd, value_BHLd = parts.permute(2, 0, 3, 1, 4)
        mixed_BHLd = scaled_dot_product_attention(query_BHLd, key_BHLd, value_BHLd, is_causal=True)
        joined_BLD = self.join(mixed_BHLd.transpose(1, 2).reshape(B, L, D))
        hidden_BLD = hidden_BLD + self.dropout(joined_BLD)
        widened = gelu(self.widen(self.norm(hidden_BLD)))
        added_BLD: Tensor = self.dropout(self.narrow(widened))
        return hidden_BLD + added_BLD


class Network(nn.Module):
    """The items' content, the layers over histories, and what is compared."""

    def __init__(
        self, dims: Mapping[str, int], *, num_ids: int, num_behaviors: int, config: SequenceConfig
    ) -> None:
        """Draw the starting weights from torch's generator.

        Args:
            dims: The dimensions of each modality, by name.
            num_ids: Items that have a vector of their own.
            num_behaviors: Behaviors that have one; behavior 0 stands for all others, as zeros.
            config: The sizes.
        """
        super().__init__()
        self.content = Content(dims, num_ids=num_ids, config=config)
        self.positions = nn.Embedding(config.limit, config.dim)
        nn.init.normal_(self.positions.weight, std=STARTING_SCALE)
        self.behaviors = nn.Embedding(num_behaviors + 1, config.dim, padding_idx=0)
        nn.init.zeros_(self.behaviors.weight)
        self.dropout = nn.Dropout(config.input_dropout)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(config.dim)
        self._is_cosine, self._temperature = config.compare == "cosine", config.temperature
        self._scale = math.sqrt(config.dim)

    def hidden(self, items_BLD: Tensor, behaviors_BL: Tensor) -> Tensor:
        """What is known after each event, [B, L, D]; histories begin at 0, padding is behind.

        Nothing looks forward, so that whatever stands in the padding changes nothing before it.
        """
        looked_BLD = self.comparable(items_BLD) if self._is_cosine else items_BLD
        places_LD = self.positions.weight[: items_BLD.shape[1]]
        kinds_BLD = embedding(behaviors_BL, self.behaviors.weight, padding_idx=0)
        hidden_BLD = self.dropout(looked_BLD * self._scale + places_LD + kinds_BLD)
        for layer in self.layers:
            hidden_BLD = layer(hidden_BLD)
        normed: Tensor = self.norm(hidden_BLD)
        return normed

    def asked(self, hidden_BD: Tensor) -> Tensor:
        """Hidden states as they are compared: their products with `comparable` are the logits."""
        if not self._is_cosine:
            return hidden_BD
        asked_BD: Tensor = normalize(hidden_BD, dim=-1) / self._temperature
        return asked_BD

    def comparable(self, items_ND: Tensor) -> Tensor:
        """Item vectors as they are compared."""
        return normalize(items_ND, dim=-1) if self._is_cosine else items_ND


def tensors(module: nn.Module) -> dict[str, Any]:
    """The module's weights by name, as arrays."""
    return {name: one.detach().numpy() for name, one in module.state_dict().items()}
