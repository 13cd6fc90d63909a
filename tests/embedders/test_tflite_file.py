"""TFLite files: inner tensors, quantized ones, graphs that remember, and damaged bytes."""

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.schema_py_generated import TensorType
from numpy.typing import NDArray

from embedders.tflite_file import TfliteFile
from tests.embedders.model_file_contract import WEIGHTS_PD, X_NP, ModelFileContract, Open, Save
from tests.embedders.tiny_files import save_remembering, save_tflite

SECOND = np.random.default_rng(7).standard_normal((2, 4)).astype(np.float32)


class TestContract(ModelFileContract):
    @pytest.fixture
    def open_file(self) -> Open:
        return TfliteFile

    @pytest.fixture
    def save(self) -> Save:
        def linear(path: Path, weights: NDArray[np.float32], shape: list[int | None]) -> Path:
            return save_tflite(
                path,
                [weights.T],
                shape=[each or 1 for each in shape],
                signature=[each or -1 for each in shape] if None in shape else None,
            )

        return linear


@pytest.fixture
def deep(tmp_path: Path) -> Path:
    """Two layers: tensors 0 x, 1 and 3 weights, 2 y0 (inner), 4 y1 (the output)."""
    return save_tflite(tmp_path / "deep.tflite", [WEIGHTS_PD.T, SECOND], shape=[1, 6])


@pytest.mark.parametrize("output", ["2", "y0"])
def test_an_inner_tensor_is_read_by_number_or_name(deep: Path, output: str) -> None:
    model = TfliteFile(deep, output=output)

    for row in range(3):
        x = X_NP[row : row + 1]
        np.testing.assert_allclose(model.run({"x": x}), x @ WEIGHTS_PD, atol=1e-5)
    assert (model.output_number, model.output.name) == (2, "y0")


def test_without_a_choice_the_only_output_is_read(deep: Path) -> None:
    found = TfliteFile(deep).run({"x": X_NP[:1]})

    np.testing.assert_allclose(found, X_NP[:1] @ WEIGHTS_PD @ SECOND.T, atol=1e-5)


def test_one_of_the_names_that_a_converter_joined_is_enough(tmp_path: Path) -> None:
    path = save_tflite(tmp_path / "net.tflite", [WEIGHTS_PD.T], shape=[1, 6])
    data = path.read_bytes()
    path.write_bytes(data.replace(b"\x02\x00\x00\x00y0\x00", b"\x02\x00\x00\x00;y\x00"))

    assert TfliteFile(path, output="y").output.name == ";y"


def test_a_fixed_number_of_rows_is_kept_to(deep: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot be run with x \[3, 6\]"):
        TfliteFile(deep).run({"x": X_NP})


@pytest.mark.parametrize(
    ("kind", "dtype"), [(TensorType.UINT8, np.uint8), (TensorType.INT8, np.int8)]
)
def test_a_quantized_input_says_what_its_levels_stand_for(
    tmp_path: Path, kind: int, dtype: type
) -> None:
    zero_point = 127 if dtype == np.uint8 else -1
    levels = (kind, 0.5, zero_point)
    path = save_tflite(tmp_path / "q.tflite", [WEIGHTS_PD.T], shape=[1, 6], levels=levels)
    model = TfliteFile(path)
    real = np.array([[-3.0, 0.0, 0.5, 1.1, 9.0, 1000.0]], dtype=np.float32)

    stored = model.input.quantized(real)
    found = model.run({"x": stored})

    assert stored.dtype == dtype
    assert (stored[0, :4] - np.int16(zero_point)).tolist() == [-6, 0, 1, 2]
    assert stored[0, 5] == np.iinfo(dtype).max  # clipped
    np.testing.assert_allclose(found, model.input.real(stored) @ WEIGHTS_PD, atol=1e-4)
    np.testing.assert_allclose(model.input.real(stored)[0, :3], real[0, :3])


def test_a_graph_that_remembers_forgets_between_two_passes(tmp_path: Path) -> None:
    model = TfliteFile(save_remembering(tmp_path / "svdf.tflite", 6))

    sums = [model.run({"x": np.full((1, 6), each, np.float32)}).item() for each in (1, 2, 3)]

    assert sums == [6, 12, 18]


def test_bytes_that_are_damaged_anywhere_are_refused_or_run_but_never_end_the_process(
    deep: Path,
) -> None:
    random = np.random.default_rng(0)
    whole = deep.read_bytes()
    num_refused = 0
    for _ in range(100):
        data = bytearray(whole)
        for at in random.integers(0, len(data), 8):
            data[at] = random.integers(0, 256)
        deep.write_bytes(bytes(data))
        try:
            TfliteFile(deep)
        except ValueError:
            num_refused += 1
    assert num_refused > 50


@pytest.mark.shared_data
def test_the_levels_of_a_real_quantized_file_come_back_as_real_numbers(shared_data: Path) -> None:
    path = shared_data / "encoders/tf2_mobilenet_v2_1.0_224_ptq.tflite"
    model = TfliteFile(path, output="172", num_threads=1)
    gray = np.full((1, 224, 224, 3), 127, np.uint8)

    found = model.run({model.input.name: gray})

    assert (model.input.dtype, model.input.zero_point) == (np.uint8, 127)
    assert found.shape == (1, 1, 1, 1280)
    assert found.min() >= 0  # behind a ReLU6
    assert found.max() <= 6
    # Whole numbers of the scale that the file states.
    np.testing.assert_allclose(found / 0.01907783, np.rint(found / 0.01907783), atol=1e-3)
