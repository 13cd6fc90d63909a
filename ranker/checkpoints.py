"""A training's whole state in, one file out, and back: what an interrupted run goes on from."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedders import torchaudio_cpu

torchaudio_cpu.load()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from embedders import state_file  # noqa: E402
from feature_repo.atomic import publish  # noqa: E402

DIVIDER = "/"  # between a group's name and a tensor's

Tensors = Mapping[str, Tensor]


class CheckpointError(ValueError):
    """A checkpoint that cannot be read; the message says what to delete."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Where a training stands."""

    facts: dict[str, Any]
    """Whatever JSON can hold: the place in the curriculum, what was measured, generators."""
    groups: dict[str, dict[str, Tensor]]
    """Tensors by group, on the CPU: weights, the optimizer's state, the best weights so far."""

    def save(self, path: Path) -> None:
        """Write it in the place of the one before."""
        state_file.write(path, self.facts, self.groups, divider=DIVIDER, publish=publish)

    @classmethod
    def load(cls, path: Path) -> "Checkpoint":
        """What `save` wrote.

        Raises:
            CheckpointError: the file is damaged.
        """
        try:
            facts, groups = state_file.read(path, divider=DIVIDER)
        except ValueError as error:
            raise CheckpointError(
                f"{path} is damaged ({error}): delete it, and training begins anew"
            ) from error
        return cls(facts=facts, groups=groups)


def generators(rng: np.random.Generator) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What random numbers will follow: numpy's as facts, torch's as tensors."""
    tensors = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors["cuda"] = torch.cuda.get_rng_state()
    return dict(rng.bit_generator.state), tensors


def set_generators(
    rng: np.random.Generator, facts: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> None:
    """The reverse of `generators`; of another kind of device, nothing is set."""
    rng.bit_generator.state = facts
    torch.set_rng_state(tensors["cpu"])
    if "cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["cuda"])


def copy(tensors: Tensors) -> dict[str, Tensor]:
    """The same numbers in memory of their own."""
    return {name: value.detach().clone() for name, value in tensors.items()}


@torch.no_grad()
def put(tensors: Tensors, values: Tensors) -> None:
    """Write values into tensors of the same names.

    Raises:
        CheckpointError: the names differ.
    """
    if different := sorted(tensors.keys() ^ values.keys()):
        raise CheckpointError(f"tensors that only the model or only the file has: {different}")
    for name, value in values.items():
        tensors[name].copy_(value)


def swap(tensors: Tensors, values: dict[str, Tensor]) -> None:
    """Exchange both sides' numbers, without copying them; done twice, nothing has changed."""
    for name, value in values.items():
        own = tensors[name]
        own.data, values[name] = value, own.data
