"""One file, whole or not at all, and refused where it does not fit."""

from pathlib import Path

import pytest
import torch

from embedders.tuning.saved import Saved, put


def test_what_is_written_is_read(tmp_path: Path) -> None:
    saved = Saved(
        facts={"step": 3}, groups={"a": {"x|y": torch.arange(3)}, "b": {"x": torch.ones(1)}}
    )
    saved.write(tmp_path / "deep" / "one.safetensors")
    saved.write(tmp_path / "deep" / "one.safetensors")
    found = Saved.read(tmp_path / "deep" / "one.safetensors")
    assert found.facts == {"step": 3}
    assert found.groups["a"]["x|y"].tolist() == [0, 1, 2]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["one.safetensors"]


def test_a_damaged_file_says_what_to_delete(tmp_path: Path) -> None:
    path = tmp_path / "one.safetensors"
    Saved(facts={}, groups={"a": {"x": torch.ones(4)}}).write(path)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ValueError, match=r"is damaged .*: delete it"):
        Saved.read(path)


def test_tensors_of_another_model_are_refused(tmp_path: Path) -> None:
    own = {"x": torch.zeros(2)}
    put(own.items(), {"x": torch.ones(2)}, path=tmp_path)
    assert own["x"].tolist() == [1, 1]
    with pytest.raises(ValueError, match="y is in one alone"):
        put(own.items(), {"x": torch.ones(2), "y": torch.ones(2)}, path=tmp_path)
    with pytest.raises(ValueError, match=r"x is \(3,\), not \(2,\)"):
        put(own.items(), {"x": torch.ones(3)}, path=tmp_path)
