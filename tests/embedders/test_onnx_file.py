"""ONNX files: read whole, run as they are, and refused where weights lie elsewhere."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from embedders.model_file import Tensor
from embedders.onnx_file import OnnxFile
from tests.embedders.model_file_contract import WEIGHTS_PD, X_NP, ModelFileContract, Open, Save
from tests.embedders.tiny_files import save_linear, save_onnx


class TestContract(ModelFileContract):
    @pytest.fixture
    def open_file(self) -> Open:
        return OnnxFile

    @pytest.fixture
    def save(self) -> Save:
        def linear(path: Path, weights: NDArray[np.float32], shape: list[int | None]) -> Path:
            return save_linear(path, weights, shape=[each or "n" for each in shape])

        return linear


def save_two(path: Path) -> Path:
    """A file of two outputs: x itself, and its double."""
    return save_onnx(
        path,
        [
            helper.make_node("Identity", ["x"], ["same"]),
            helper.make_node("Add", ["x", "x"], ["double"]),
        ],
        inputs={"x": (TensorProto.FLOAT, ["n", 6])},
        outputs={"same": ["n", 6], "double": ["n", 6]},
        weights={},
    )


def test_of_several_outputs_one_is_to_be_chosen_by_name_or_number(tmp_path: Path) -> None:
    path = save_two(tmp_path / "two.onnx")

    for output in ("double", "1"):
        model = OnnxFile(path, output=output)
        assert model.output_number == 1
        np.testing.assert_array_equal(model.run({"x": X_NP}), 2 * X_NP)
    with pytest.raises(ValueError, match=r"has 2 outputs \(0: 'same' float32 \[any, 6\]; 1: 'do"):
        OnnxFile(path)


def test_weights_in_another_file_are_refused_even_where_they_are_there(tmp_path: Path) -> None:
    path = save_linear(tmp_path / "net.onnx", np.tile(WEIGHTS_PD, (1, 100)), shape=["n", 6])
    model = onnx.load(path)
    onnx.save_model(
        model, path, save_as_external_data=True, location="weights.bin", size_threshold=0
    )

    assert (tmp_path / "weights.bin").is_file()
    with pytest.raises(ValueError, match="keeps its weights in another file: save the model as on"):
        OnnxFile(path)


@pytest.mark.parametrize("location", ["../weights.bin", "{folder}/weights.bin"])
def test_weights_outside_of_the_folder_are_refused_too(tmp_path: Path, location: str) -> None:
    path = save_linear(tmp_path / "net.onnx", WEIGHTS_PD, shape=["n", 6])
    model = onnx.load(path)
    (weights,) = model.graph.initializer
    (tmp_path / "weights.bin").write_bytes(weights.raw_data)
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    entry = weights.external_data.add()
    entry.key, entry.value = "location", location.format(folder=tmp_path)
    path.write_bytes(model.SerializeToString())

    with pytest.raises(ValueError, match="keeps its weights in another file"):
        OnnxFile(path)


def test_a_text_as_input_is_refused(tmp_path: Path) -> None:
    path = save_onnx(
        tmp_path / "words.onnx",
        [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)],
        inputs={"x": (TensorProto.STRING, ["n"])},
        outputs={"y": ["n"]},
        weights={},
    )

    with pytest.raises(ValueError, match=r"'x' is a tensor\(string\), expected one of tensor\(flo"):
        OnnxFile(path)


def test_an_unknown_operator_is_refused(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Sing", ["x"], ["y"], domain="songs")],
        "odd",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("songs", 1)]
    path = tmp_path / "odd.onnx"
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    path.write_bytes(model.SerializeToString())

    with pytest.raises(ValueError, match=r"is no ONNX model that can be run.*Sing"):
        OnnxFile(path)


def test_a_whole_file_may_be_of_half_precision(tmp_path: Path) -> None:
    path = save_onnx(
        tmp_path / "half.onnx",
        [
            helper.make_node("Add", ["x", "x"], ["h"]),
            helper.make_node("Cast", ["h"], ["y"], to=TensorProto.FLOAT),
        ],
        inputs={"x": (TensorProto.FLOAT16, ["n", 6])},
        outputs={"y": ["n", 6]},
        weights={},
    )
    model = OnnxFile(path)

    assert model.input == Tensor(name="x", shape=(None, 6), dtype=np.float16)
    halves = X_NP.astype(np.float16)
    np.testing.assert_array_equal(model.run({"x": halves}), (halves + halves).astype(np.float32))
