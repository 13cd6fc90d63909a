"""Weights in, tiny model files of known answers out: by ONNX's helper and TFLite's schema."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as tfl
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tests.embedders.tiny import save_words

Shape = Sequence[int | str]
FLOATS = TensorProto.FLOAT
TEXT_DIM = 6


def save_onnx(
    path: Path,
    nodes: Sequence[Any],
    *,
    inputs: dict[str, tuple[int, Shape]],
    outputs: dict[str, Shape],
    weights: dict[str, NDArray[Any]],
) -> Path:
    """A graph; inputs and outputs by name, axes that may have any length named by a word."""
    graph = helper.make_graph(
        list(nodes),
        "tiny",
        [helper.make_tensor_value_info(name, *of) for name, of in inputs.items()],
        [helper.make_tensor_value_info(name, FLOATS, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opset = helper.make_opsetid("", 17)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=9)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


def save_linear(
    path: Path,
    weights_PD: NDArray[np.float32],
    *,
    shape: Shape,
    kind: int = FLOATS,
    nodes: Sequence[Any] = (),
) -> Path:
    """y = x, flattened but for its first axis, times the weights: [N, ...] -> [N, D].

    `nodes` come between: they take `x` and leave `z`.
    """
    first = "z" if nodes else "x"
    cast = [helper.make_node("Cast", [first], ["f"], to=FLOATS)]
    flat = [helper.make_node("Flatten", ["f"], ["flat"])]
    last = [helper.make_node("MatMul", ["flat", "w"], ["y"])]
    return save_onnx(
        path,
        [*nodes, *cast, *flat, *last],
        inputs={"x": (kind, shape)},
        outputs={"y": ["n", weights_PD.shape[1]]},
        weights={"w": weights_PD.astype(np.float32)},
    )


def save_range_quantized(path: Path, weights_PD: NDArray[np.float32], *, shape: Shape) -> Path:
    """As `save_linear`, but x is rounded by the range that it has in the whole pass."""
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["z"]),
    ]
    return save_linear(path, weights_PD, shape=shape, nodes=nodes)


def token_table() -> NDArray[np.float32]:
    """A row for each token that any of the tokenizers here has."""
    return np.random.default_rng(12).standard_normal((64, TEXT_DIM)).astype(np.float32)


def save_text(
    folder: Path,
    *,
    inputs: Sequence[str] = ("input_ids", "attention_mask"),
    axes: Sequence[int | str] = ("n", "t"),
    outputs: Sequence[str] = ("tokens",),
    kind: int = TensorProto.INT64,
    quantized: bool = False,
) -> Path:
    """A model whose tokens' vectors are rows of a table, all other inputs added to them."""
    folder.mkdir(exist_ok=True)
    save_words(folder)
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["sum0"])]
    for n, name in enumerate(inputs[1:]):
        nodes += [
            helper.make_node("Cast", [name], [f"float{n}"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", [f"float{n}", "last"], [f"wide{n}"]),
            helper.make_node("Add", [f"sum{n}", f"wide{n}"], [f"sum{n + 1}"]),
        ]
    last = f"sum{len(inputs) - 1}"
    if quantized:
        nodes += [
            helper.make_node("DynamicQuantizeLinear", [last], ["q", "scale", "zero"]),
            helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["rounded"]),
        ]
        last = "rounded"
    nodes.append(helper.make_node("Identity", [last], ["tokens"]))
    if "pooled" in outputs:
        nodes.append(helper.make_node("ReduceMax", ["tokens"], ["pooled"], axes=[1], keepdims=0))
    shapes = {"tokens": [*axes, TEXT_DIM], "pooled": [axes[0], TEXT_DIM]}
    save_onnx(
        folder / "model.onnx",
        nodes,
        inputs={name: (kind, axes) for name in inputs},
        outputs={name: shapes[name] for name in outputs},
        weights={"table": token_table(), "last": np.array([2])},
    )
    return folder / "model.onnx"


def save_tflite(
    path: Path,
    layers: Sequence[NDArray[np.float32]],
    *,
    shape: Sequence[int],
    signature: Sequence[int] | None = None,
    levels: tuple[int, float, int] | None = None,
) -> Path:
    """Fully connected layers, one behind the other, of weights [out, in].

    Tensor 0 is the input `x`; then, for each layer, its weights and its output `y0`, `y1`, ...

    Args:
        path: The file.
        layers: The weights of each.
        shape: Of the input.
        signature: The same with -1 where any length is taken.
        levels: Type, scale and zero point of a quantized input.
    """
    graph = tfl.SubGraphT()
    model = _model(graph)
    graph.tensors.append(_tensor("x", shape, signature=signature))
    last = 0
    if levels:
        quantization = tfl.QuantizationParametersT()
        graph.tensors[0].type, scale, zero_point = levels
        quantization.scale, quantization.zeroPoint = [scale], [zero_point]
        graph.tensors[0].quantization = quantization
        graph.tensors.append(_tensor("real", shape))
        _operator(model, graph, tfl.BuiltinOperator.DEQUANTIZE, [0], 1)
        last = 1
    for n, weights in enumerate(layers):
        graph.tensors.append(_tensor(f"w{n}", weights.shape, buffer=_buffer(model, weights)))
        after = [-1, len(weights)] if signature else None
        graph.tensors.append(_tensor(f"y{n}", [1, len(weights)], signature=after))
        operator = _operator(
            model,
            graph,
            tfl.BuiltinOperator.FULLY_CONNECTED,
            [last, len(graph.tensors) - 2, -1],
            len(graph.tensors) - 1,
        )
        operator.builtinOptionsType = tfl.BuiltinOptions.FullyConnectedOptions
        operator.builtinOptions = tfl.FullyConnectedOptionsT()
        last = len(graph.tensors) - 1
    return _write(path, model, last)


def save_remembering(path: Path, length: int) -> Path:
    """A graph whose output is the sum of this pass's samples and of the pass's before it."""
    graph = tfl.SubGraphT()
    model = _model(graph)
    features = np.ones((1, length), np.float32)
    times = np.ones((1, 2), np.float32)
    graph.tensors = [
        _tensor("x", [1, length]),
        _tensor("features", features.shape, buffer=_buffer(model, features)),
        _tensor("times", times.shape, buffer=_buffer(model, times)),
        _tensor("state", [1, 2]),
        _tensor("y", [1, 1]),
    ]
    graph.tensors[3].isVariable = True
    operator = _operator(model, graph, tfl.BuiltinOperator.SVDF, [0, 1, 2, -1, 3], 4)
    operator.builtinOptionsType = tfl.BuiltinOptions.SVDFOptions
    operator.builtinOptions = tfl.SVDFOptionsT()
    operator.builtinOptions.rank = 1
    return _write(path, model, 4)


def _model(graph: Any) -> Any:
    model = tfl.ModelT()
    model.version = 3
    model.operatorCodes = []
    model.buffers = [tfl.BufferT()]
    model.subgraphs = [graph]
    graph.tensors, graph.operators, graph.inputs = [], [], [0]
    return model


def _tensor(
    name: str, shape: Sequence[int], *, buffer: int = 0, signature: Sequence[int] | None = None
) -> Any:
    tensor = tfl.TensorT()
    tensor.name, tensor.shape, tensor.buffer = name, list(shape), buffer
    tensor.type = tfl.TensorType.FLOAT32
    tensor.shapeSignature = list(signature) if signature else None
    return tensor


def _buffer(model: Any, array: NDArray[np.float32]) -> int:
    buffer = tfl.BufferT()
    buffer.data = np.frombuffer(array.astype(np.float32).tobytes(), np.uint8)
    model.buffers.append(buffer)
    return len(model.buffers) - 1


def _operator(model: Any, graph: Any, kind: int, inputs: list[int], output: int) -> Any:
    code = tfl.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = kind
    code.version = 1
    model.operatorCodes.append(code)
    operator = tfl.OperatorT()
    operator.opcodeIndex = len(model.operatorCodes) - 1
    operator.inputs, operator.outputs = inputs, [output]
    graph.operators.append(operator)
    return operator


def _write(path: Path, model: Any, output: int) -> Path:
    model.subgraphs[0].outputs = [output]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path
