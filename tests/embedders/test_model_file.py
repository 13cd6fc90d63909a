"""What is common to the runtimes: choosing a tensor, levels and real numbers, rows in batches."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from embedders import model_file
from embedders.model_file import ModelFile, RowRunner, Tensor, choose, is_alike, read_model
from embedders.onnx_file import OnnxFile
from tests.embedders.tiny_files import save_linear, save_range_quantized

PATH = Path("net.onnx")
WEIGHTS_PD = np.random.default_rng(1).standard_normal((6, 4)).astype(np.float32)
PROBES = (np.full((1, 6), 1, np.float32), np.full((1, 6), -2, np.float32))


def tensor(name: str, *shape: int | None) -> Tensor:
    return Tensor(name=name, shape=shape, dtype=np.float32)


def first(output: NDArray[np.float32]) -> NDArray[np.float32]:
    return output[0]


def runner(model: ModelFile, **options: Any) -> RowRunner:
    return RowRunner(model, probes=PROBES, pool=first, **{"batch_size": 2, "dim": None} | options)


class Counted(OnnxFile):
    """Counts its passes."""

    num_passes = 0

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        self.num_passes += 1
        return super().run(feeds)


def test_levels_are_rounded_clipped_and_come_back() -> None:
    levels = Tensor(name="x", shape=(3,), dtype=np.uint8, scale=0.5, zero_point=10)

    stored = levels.quantized(np.array([-99.0, 0.6, 200.0]))

    assert stored.tolist() == [0, 11, 255]
    assert levels.real(stored).tolist() == [-5, 0.5, 122.5]


def test_numbers_without_a_scale_stand_for_themselves() -> None:
    assert tensor("x", 2).quantized(np.array([0.1, 0.2])).dtype == np.float32
    whole = Tensor(name="x", shape=(2,), dtype=np.int8)
    assert whole.quantized(np.array([1.4, 300.0])).tolist() == [1, 127]
    assert whole.real(np.array([1, 2], np.int8)).tolist() == [1, 2]


def test_a_tensor_is_shown_with_its_axes_and_not_all_of_an_endless_name() -> None:
    assert str(tensor("x", None, 3)) == "'x' float32 [any, 3]"
    assert len(str(tensor("n" * 500, 1))) < 120


NAMED = {0: tensor("x", 1), 3: tensor("a;b", 1, 4), 5: tensor("b;c", 1, 7), 7: tensor("9", 2)}


@pytest.mark.parametrize(("output", "number"), [("3", 3), ("a;b", 3), ("a", 3), ("c", 5), ("x", 0)])
def test_a_tensor_is_chosen_by_number_by_name_or_by_part_of_a_joined_one(
    output: str, number: int
) -> None:
    assert choose(PATH, NAMED, output, [5]) == number


def test_the_only_output_needs_no_choice_and_several_do() -> None:
    assert choose(PATH, NAMED, None, [5]) == 5
    with pytest.raises(ValueError, match=r"2 outputs \(3: 'a;b' .*; 5: 'b;c' .*\): say which"):
        choose(PATH, NAMED, None, [3, 5])


def test_a_name_that_several_tensors_share_is_no_choice() -> None:
    with pytest.raises(ValueError, match=r"has 2 tensors 'b': .* such as 3: 'a;b' .*; 5: 'b;c'"):
        choose(PATH, NAMED, "b", [3])


def test_a_file_too_large_for_its_format_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_file, "LIMIT_BYTES", 3)
    path = tmp_path / "large.onnx"
    path.write_bytes(b"1234")

    with pytest.raises(ValueError, match=r"has 4 bytes; a model file has at most 3"):
        read_model(path)


def test_rows_run_together_where_the_file_takes_any_number(tmp_path: Path) -> None:
    rows = list(np.random.default_rng(2).standard_normal((5, 1, 6)).astype(np.float32))
    free = Counted(save_linear(tmp_path / "free.onnx", WEIGHTS_PD, shape=["n", 6]))
    fixed = Counted(save_linear(tmp_path / "fixed.onnx", WEIGHTS_PD, shape=[1, 6]))
    passes, answers = [], []

    for model in (free, fixed):
        rows_of = runner(model)
        model.num_passes = 0
        answers.append(rows_of.run(rows))
        passes.append(model.num_passes)

    assert passes == [3, 5]
    np.testing.assert_allclose(answers[0], np.concatenate(rows) @ WEIGHTS_PD, atol=1e-5)
    np.testing.assert_allclose(answers[0], answers[1], atol=1e-6)


def test_rows_run_alone_where_others_would_move_their_vectors(tmp_path: Path) -> None:
    """A file that rounds by the range it sees gives a row other numbers beside a loud one."""
    path = save_range_quantized(tmp_path / "range.onnx", WEIGHTS_PD, shape=["n", 6])
    soft = np.random.default_rng(3).standard_normal((1, 6)).astype(np.float32) / 100
    loud = np.full((1, 6), 50, np.float32)
    model = OnnxFile(path)

    beside = model.run({"x": np.concatenate([soft, loud])})[:1]
    rows_of = RowRunner(model, probes=(soft, loud), pool=first, batch_size=8, dim=None)

    assert not is_alike(beside, model.run({"x": soft}))
    np.testing.assert_array_equal(rows_of.run([soft, loud])[:1], rows_of.run([soft]))


def test_an_output_that_nothing_changes_is_refused(tmp_path: Path) -> None:
    path = save_linear(tmp_path / "dead.onnx", 0 * WEIGHTS_PD, shape=["n", 6])

    with pytest.raises(ValueError, match="is the same whatever goes in, so it is a weight"):
        runner(OnnxFile(path))


def test_a_declared_length_is_checked(tmp_path: Path) -> None:
    model = OnnxFile(save_linear(tmp_path / "net.onnx", WEIGHTS_PD, shape=["n", 6]))

    assert runner(model, dim=4).dim == 4
    with pytest.raises(ValueError, match=r"gives vectors of 4 dimensions, declared are 5; correc"):
        runner(model, dim=5)


def test_a_batch_of_none_is_refused(tmp_path: Path) -> None:
    model = OnnxFile(save_linear(tmp_path / "net.onnx", WEIGHTS_PD, shape=["n", 6]))

    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        runner(model, batch_size=0)
