"""A tuning's state in, one safetensors file out, and back: what an interrupted run goes on from.

Facts are JSON in the header. The file appears whole or not at all: a run that is killed while
writing goes on from the file before.
"""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

FACTS = "facts"
DIVIDER = "|"  # between a group's name and a tensor's


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """Where a tuning stands."""

    facts: Mapping[str, Any]
    groups: Mapping[str, Mapping[str, Tensor]]

    def write(self, path: Path) -> None:
        """Put it in the place of the one before."""
        tensors = {
            f"{group}{DIVIDER}{name}": value.detach().to("cpu", copy=True).contiguous()
            for group, named in self.groups.items()
            for name, value in named.items()
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{uuid4().hex}")
        try:
            save_file(tensors, temporary, metadata={FACTS: json.dumps(self.facts)})
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    @classmethod
    def read(cls, path: Path) -> "Saved":
        """What `write` wrote.

        Raises:
            ValueError: the file is damaged; the message says what to delete.
        """
        groups: dict[str, dict[str, Tensor]] = {}
        try:
            with safe_open(path, framework="pt") as file:
                facts = json.loads((file.metadata() or {})[FACTS])
                for key in file.keys():  # noqa: SIM118 - no mapping
                    group, _, name = key.partition(DIVIDER)
                    groups.setdefault(group, {})[name] = file.get_tensor(key)
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise ValueError(
                f"{path} is damaged ({error}): delete it, and tuning begins anew"
            ) from error
        return cls(facts=facts, groups=groups)


@torch.no_grad()
def put(tensors: Iterable[tuple[str, Tensor]], values: Mapping[str, Tensor], *, path: Path) -> None:
    """Write a file's values into tensors of the same names.

    Raises:
        ValueError: names or shapes differ.
    """
    named = dict(tensors)
    if different := sorted(named.keys() ^ values.keys()):
        raise ValueError(
            f"{path} is of another model ({different[0]} is in one alone): delete it, and tuning "
            "begins anew"
        )
    for name, value in values.items():
        if named[name].shape != value.shape:
            raise ValueError(
                f"{path} is of another model ({name} is {tuple(value.shape)}, not "
                f"{tuple(named[name].shape)}): delete it, and tuning begins anew"
            )
        named[name].copy_(value)


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
