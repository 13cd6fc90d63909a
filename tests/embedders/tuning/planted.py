"""A small world with one taste, which shows in contents but hardly in what the encoder makes of it.

Every item has ten numbers. The first says of which of two kinds it is, and users choose one kind
alone; the others are noise. The encoder is linear and all but drops the first number.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import normalize

from embedders.base import Embedder
from embedders.items import Item, Modality
from embedders.tuning.base import Tunable
from embedders.tuning.choices import Choices, divided
from embedders.tuning.config import TuningConfig
from embedders.vectors import Space

NUM_NUMBERS, DIM = 10, 6
SQUASHED = 0.05  # how much of the telling number the encoder lets through


class Linear(nn.Module):
    """Unit vectors of a frozen matrix plus a low-rank one that is trained."""

    def __init__(self) -> None:
        super().__init__()
        weights = np.random.default_rng(5).normal(size=(NUM_NUMBERS, DIM)).astype(np.float32)
        weights[0] *= SQUASHED
        self.weight = nn.Parameter(torch.from_numpy(weights), requires_grad=False)
        self.down = nn.Parameter(torch.zeros(NUM_NUMBERS, 1), requires_grad=False)
        self.up = nn.Parameter(torch.zeros(1, DIM), requires_grad=False)

    def forward(self, contents_KC: Tensor) -> Tensor:
        return normalize(contents_KC @ (self.weight + self.down @ self.up), dim=1)


class LinearEmbedder(Embedder):
    """Embeds the numbers that it was given for each item."""

    def __init__(self, numbers: dict[str, NDArray[np.float32]], modality: Modality) -> None:
        self.space = Space(modality=modality, encoder="linear", revision="5", dim=DIM)
        self.module = Linear()
        self._numbers = numbers

    def fingerprint(self, item: Item) -> str | None:
        numbers = self._numbers.get(item.item_id)
        return None if numbers is None else hashlib.sha256(numbers.tobytes()).hexdigest()

    def load(self, item: Item) -> NDArray[np.float32]:
        return self._numbers[item.item_id]

    def encode(self, contents: Sequence[Any]) -> NDArray[np.float32]:
        with torch.no_grad():
            vectors: NDArray[np.float32] = self.module(torch.from_numpy(np.stack(contents))).numpy()
        return vectors


class LinearTunable(Tunable):
    """The low-rank matrix is the adapter."""

    def __init__(
        self, numbers: dict[str, NDArray[np.float32]], modality: Modality = Modality.TEXT
    ) -> None:
        self._own = LinearEmbedder(numbers, modality)
        self.embedder = self._own

    @property
    def module(self) -> nn.Module:
        return self._own.module

    def adapt(self, config: TuningConfig) -> None:
        generator = torch.Generator().manual_seed(config.seed)
        own = self._own.module
        with torch.no_grad():
            own.down.copy_(0.1 * torch.randn(own.down.shape, generator=generator))
            own.up.zero_()
        own.down.requires_grad_(True)
        own.up.requires_grad_(True)

    @property
    def num_trained(self) -> int:
        return sum(one.numel() for one in self.module.parameters() if one.requires_grad)

    @property
    def num_parameters(self) -> int:
        return sum(one.numel() for one in self.module.parameters())

    def encode(self, contents: Sequence[Any]) -> Tensor:
        vectors: Tensor = self.module(torch.from_numpy(np.stack(contents)))
        return vectors

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        own = self._own.module
        tensors = {"down": own.down.detach(), "up": own.up.detach()}
        save_file(tensors, folder / "adapter_model.safetensors")

    def load(self, folder: Path) -> None:
        tensors = load_file(folder / "adapter_model.safetensors")
        with torch.no_grad():
            self._own.module.down.copy_(tensors["down"])
            self._own.module.up.copy_(tensors["up"])


@dataclass(frozen=True, kw_only=True)
class World:
    """Items of two kinds; the last ones nobody has chosen yet."""

    items: list[Item]
    kinds_I: NDArray[np.int64]
    numbers: dict[str, NDArray[np.float32]]
    choices: Choices
    tastes_U: NDArray[np.int64]
    num_cold: int


def world(*, num_users: int = 120, num_items: int = 80, num_cold: int = 20, seed: int = 0) -> World:
    rng = np.random.default_rng(seed)
    item_ids = [f"i{n:03}" for n in range(num_items)]
    kinds_I = rng.permutation(np.arange(num_items) % 2)
    numbers_IC = rng.normal(size=(num_items, NUM_NUMBERS)).astype(np.float32)
    numbers_IC[:, 0] = 2 * kinds_I - 1
    tastes_U = np.arange(num_users) % 2
    users, items = [], []
    for user, taste in enumerate(tastes_U):
        liked = np.flatnonzero(kinds_I[: num_items - num_cold] == taste)
        for item in rng.choice(liked, size=10, replace=False):
            users.append(user)
            items.append(item)
    user_ids = [f"u{n:03}" for n in range(num_users)]
    return World(
        items=[Item(item_id=item_id, title=item_id) for item_id in item_ids],
        kinds_I=kinds_I,
        numbers=dict(zip(item_ids, numbers_IC, strict=True)),
        choices=divided(np.array(users), np.array(items), user_ids=user_ids, item_ids=item_ids),
        tastes_U=tastes_U,
        num_cold=num_cold,
    )


def told_apart(vectors_ID: NDArray[np.float32], kinds_I: NDArray[np.int64]) -> float:
    """Mean cosine with items of the same kind less that with those of the other."""
    similar_II = vectors_ID @ vectors_ID.T
    is_same_II = kinds_I[:, None] == kinds_I[None]
    is_other_II = ~np.eye(len(kinds_I), dtype=bool)
    return float(similar_II[is_same_II & is_other_II].mean() - similar_II[~is_same_II].mean())
