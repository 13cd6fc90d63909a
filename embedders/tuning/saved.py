"""A tuning's state in, one file out, and back: what an interrupted run goes on from."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from embedders import state_file

DIVIDER = "|"  # between a group's name and a tensor's


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """Where a tuning stands."""

    facts: Mapping[str, Any]
    groups: Mapping[str, Mapping[str, Tensor]]

    def write(self, path: Path) -> None:
        """Put it in the place of the one before."""
        state_file.write(path, self.facts, self.groups, divider=DIVIDER, publish=Path.replace)

    @classmethod
    def read(cls, path: Path) -> "Saved":
        """What `write` wrote.

        Raises:
            ValueError: the file is damaged; the message says what to delete.
        """
        try:
            facts, groups = state_file.read(path, divider=DIVIDER)
        except ValueError as error:
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
