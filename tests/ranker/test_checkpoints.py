"""What is written of a training is what is read, or nothing at all."""

from pathlib import Path

import numpy as np
import pytest
import torch

from embedders import state_file
from ranker import checkpoints
from ranker.checkpoints import Checkpoint, CheckpointError


def test_what_is_saved_is_loaded_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "new" / "state"
    weights = {"a.weight": torch.randn(3, 2), "b/c": torch.tensor(3, dtype=torch.int64)}
    Checkpoint(facts={"step": 1}, groups={"weights": weights}).save(path)
    kept = Checkpoint(facts={"step": 2, "queue": [3, 1]}, groups={"weights": weights, "none": {}})
    kept.save(path)
    assert [one.name for one in path.parent.iterdir()] == ["state"]
    loaded = Checkpoint.load(path)
    assert loaded.facts == {"step": 2, "queue": [3, 1]}
    assert loaded.groups.keys() == {"weights"}
    for name, value in weights.items():
        assert torch.equal(loaded.groups["weights"][name], value)


def test_a_checkpoint_holds_the_numbers_of_its_moment_even_of_shared_tensors(
    tmp_path: Path,
) -> None:
    weight = torch.zeros(2)
    Checkpoint(facts={}, groups={"weights": {"w": weight}, "best": {"w": weight}}).save(
        tmp_path / "state"
    )
    loaded = Checkpoint.load(tmp_path / "state")
    assert torch.equal(loaded.groups["best"]["w"], torch.zeros(2))


@pytest.mark.parametrize("cut", [0, 5, -3])
def test_a_damaged_checkpoint_says_what_to_delete(cut: int, tmp_path: Path) -> None:
    path = tmp_path / "state"
    Checkpoint(facts={"step": 1}, groups={"weights": {"w": torch.zeros(9)}}).save(path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(CheckpointError, match=r"state is damaged .* delete it"):
        Checkpoint.load(path)


def test_generators_go_on_where_they_were() -> None:
    rng = np.random.default_rng(3)
    rng.random(5)
    facts, tensors = checkpoints.generators(rng)
    expected = rng.permutation(50).tolist(), torch.rand(4)
    torch.manual_seed(99)
    other = np.random.default_rng(4)
    checkpoints.set_generators(other, facts, tensors)
    assert other.permutation(50).tolist() == expected[0]
    assert torch.equal(torch.rand(4), expected[1])


def test_an_optimizer_goes_on_where_it_was() -> None:
    def stepped(weight: torch.Tensor, optimizer: torch.optim.Optimizer) -> torch.Tensor:
        weight.grad = weight.detach() * 2 + 1
        optimizer.step()
        return weight.detach().clone()

    weight = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    unused = torch.nn.Parameter(torch.tensor([5.0]))
    optimizer = torch.optim.AdamW([unused, weight], lr=0.1)
    middle = [stepped(weight, optimizer) for _ in range(3)][-1]
    tensors = checkpoints.copy(state_file.optimizer_tensors(optimizer))
    end = [stepped(weight, optimizer) for _ in range(3)][-1]
    other = torch.nn.Parameter(middle.clone())
    again = torch.optim.AdamW([torch.nn.Parameter(torch.tensor([5.0])), other], lr=0.1)
    state_file.set_optimizer(again, tensors)
    assert torch.equal([stepped(other, again) for _ in range(3)][-1], end)


def test_weights_of_another_model_are_refused() -> None:
    tensors = {"a": torch.zeros(2), "b": torch.zeros(2)}
    with pytest.raises(CheckpointError, match=r"only the model or only the file has: \['b', 'c'\]"):
        checkpoints.put(tensors, {"a": torch.ones(2), "c": torch.ones(2)})
    assert not tensors["a"].any(), "nothing is half loaded"


def test_what_is_swapped_twice_is_as_it_was() -> None:
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    kept = {"w": torch.tensor([7.0])}
    checkpoints.swap({"w": weight}, kept)
    assert weight.item() == 7.0
    assert kept["w"].item() == 1.0
    checkpoints.swap({"w": weight}, kept)
    assert weight.item() == 1.0
    assert kept["w"].item() == 7.0
