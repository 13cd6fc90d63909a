"""Tensors by group and facts in, one safetensors file out, and back: a training's whole state.

One file, since a state of two could be of two moments. What is no tensor is JSON in its header. The
file appears whole or not at all: a run that is killed while writing goes on from the one before.
"""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

from embedders import torchaudio_cpu

torchaudio_cpu.load()

import torch  # noqa: E402
from safetensors import SafetensorError, safe_open  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from torch import Tensor  # noqa: E402

FACTS = "facts"
Groups = Mapping[str, Mapping[str, Tensor]]


def write(
    path: Path,
    facts: Mapping[str, Any],
    groups: Groups,
    *,
    divider: str,
    publish: Callable[[Path, Path], object],
) -> None:
    """Put a state in the place of the one before.

    Args:
        path: Its folder is made where it is missing.
        facts: Whatever JSON can hold.
        groups: On any device; their names hold no divider.
        divider: Between a group's name and a tensor's.
        publish: Gives the finished file its name.
    """
    tensors = {
        f"{group}{divider}{name}": value.detach().to("cpu", copy=True).contiguous()
        for group, named in groups.items()
        for name, value in named.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        save_file(tensors, temporary, metadata={FACTS: json.dumps(facts)})
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read(path: Path, *, divider: str) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]]:
    """The facts and groups that `write` wrote.

    Raises:
        ValueError: the file is damaged.
    """
    groups: dict[str, dict[str, Tensor]] = {}
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {})[FACTS])
            for key in file.keys():  # noqa: SIM118 - no mapping
                group, _, name = key.partition(divider)
                groups.setdefault(group, {})[name] = file.get_tensor(key)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise ValueError(str(error)) from error
    return facts, groups


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Its moments and step counts, by place of the parameter and name."""
    state = optimizer.state_dict()["state"]
    return {f"{place}.{name}": value for place, own in state.items() for name, value in own.items()}


def set_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """The reverse of `optimizer_tensors`, for one that was made of the same parameters."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        place, _, name = key.partition(".")
        state.setdefault(int(place), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
