"""One file, whole or not at all, and an optimizer that goes on where it was."""

from pathlib import Path

import pytest
import torch

from embedders import state_file
from embedders.state_file import optimizer_tensors, set_optimizer


def test_a_state_that_cannot_be_published_leaves_the_one_before(tmp_path: Path) -> None:
    def fails(temporary: Path, path: Path) -> None:
        assert temporary.parent == path.parent, "a rename across disks is no rename"
        raise OSError("no space")

    path = tmp_path / "one.safetensors"
    state_file.write(path, {"step": 1}, {}, divider="/", publish=Path.replace)
    with pytest.raises(OSError, match="no space"):
        state_file.write(path, {"step": 2}, {}, divider="/", publish=fails)
    assert list(tmp_path.iterdir()) == [path]
    assert state_file.read(path, divider="/") == ({"step": 1}, {})


def test_a_name_may_hold_the_divider(tmp_path: Path) -> None:
    path = tmp_path / "one.safetensors"
    groups = {"a": {"x/y": torch.arange(3)}, "b": {"x": torch.ones(1)}}
    state_file.write(path, {}, groups, divider="/", publish=Path.replace)
    _, found = state_file.read(path, divider="/")
    assert {
        group: {name: one.tolist() for name, one in own.items()} for group, own in found.items()
    } == {"a": {"x/y": [0, 1, 2]}, "b": {"x": [1.0]}}


def test_an_optimizer_goes_on_as_if_it_had_never_stopped() -> None:
    def stepped(weight: torch.nn.Parameter, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        torch.autograd.backward((weight**2).sum())
        optimizer.step()

    weight = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizer = torch.optim.AdamW([weight])
    stepped(weight, optimizer)
    other = torch.nn.Parameter(weight.detach().clone())
    resumed = torch.optim.AdamW([other])
    kept = {name: one.clone() for name, one in optimizer_tensors(optimizer).items()}
    set_optimizer(resumed, kept)
    stepped(weight, optimizer)
    stepped(other, resumed)
    assert other.tolist() == weight.tolist()
