"""An encoder and a method in, an adapter that has learned something out."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from embedders.items import Item
from embedders.registry import EncoderConfig
from embedders.tuning import registry
from embedders.tuning.base import Tunable
from embedders.tuning.config import Method, TuningConfig

STEPS = 3


def adapted(config: EncoderConfig, method: Method, *, seed: int = 0) -> Tunable:
    """The encoder with a fresh adapter, of whatever share."""
    tunable = registry.create(config)
    tunable.adapt(TuningConfig(method=method, max_trained_share=1.0, rank=2, seed=seed))
    return tunable


def train(tunable: Tunable, items: list[Item]) -> NDArray[np.float32]:
    """Bring the first two items together and the third away -> all vectors then."""
    contents = [tunable.embedder.load(item) for item in items]
    trained = [one for one in tunable.module.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=3e-2)
    for _ in range(STEPS):
        vectors_ND = tunable.encode(contents)
        loss = (vectors_ND[0] * (vectors_ND[2] - vectors_ND[1])).sum()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    return vectors(tunable, items)


def vectors(tunable: Tunable, items: list[Item]) -> NDArray[np.float32]:
    """As the encoder makes them now."""
    with torch.no_grad():
        found = tunable.encode([tunable.embedder.load(item) for item in items])
    return np.asarray(found.numpy())


def saved(config: EncoderConfig, method: Method, items: list[Item], folder: Path) -> Path:
    """The folder, with a trained adapter in it."""
    tunable = adapted(config, method)
    train(tunable, items)
    tunable.save(folder)
    return folder
