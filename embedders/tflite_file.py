"""A .tflite file in, arrays through it out, by LiteRT.

Any tensor of the graph may be read, by its number or name: the vector is often an inner one, just
before the classes. The file is verified before it is run, and operators that it does not define
itself are refused.
"""

import threading
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from embedders.model_file import Array, ModelFile, Tensor, all_cores, choose, read_model


class TfliteFile(ModelFile):
    """A model in TFLite format, on the CPU."""

    def __init__(
        self, path: Path, *, output: str | None = None, num_threads: int | None = None
    ) -> None:
        """Open the file.

        Args:
            path: The file.
            output: Name or number of the tensor that is read, an inner one too; None where the
                file has only one output.
            num_threads: On how many cores a pass runs; None takes all.

        Raises:
            ValueError: the file is missing, is no TFLite model, or has no such tensor.
        """
        data, self.revision = read_model(path)
        self.path = path
        num_threads = num_threads or all_cores()
        plain = _open(path, data, num_threads, keeps_inner=False)
        outputs = [each["index"] for each in plain.get_output_details()]
        tensors = {each["index"]: _tensor(each) for each in plain.get_tensor_details()}
        self.output_number = choose(path, tensors, output, outputs)
        self.output = tensors[self.output_number]
        is_inner = self.output_number not in outputs
        # Without it, an inner tensor's memory is another one's by the time that it is read.
        self._interpreter = _open(path, data, num_threads, keeps_inner=True) if is_inner else plain
        details = self._interpreter.get_input_details()
        self._numbers = {each["name"]: each["index"] for each in details}
        self.inputs = tuple(_tensor(each) for each in details)
        self._lock = threading.Lock()  # the interpreter holds one pass's tensors

    def run(self, feeds: Mapping[str, Array]) -> NDArray[np.float32]:
        """One pass: an array for each input, by name, -> the tensor that is read."""
        with self._lock:
            try:
                self._resize(feeds)
                # Some graphs remember: one sound would be heard in the next.
                self._interpreter.reset_all_variables()
                for name, array in feeds.items():
                    self._interpreter.set_tensor(self._numbers[name], array)
                self._interpreter.invoke()
                return self.output.real(self._interpreter.get_tensor(self.output_number))
            except (ValueError, RuntimeError) as error:
                shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in feeds.items())
                raise ValueError(f"{self.path} cannot be run with {shapes}: {error}") from error

    def _resize(self, feeds: Mapping[str, Array]) -> None:
        """Make room for arrays of other shapes than the last ones'."""
        shapes = {each["index"]: each["shape"] for each in self._interpreter.get_input_details()}
        changed = [
            (number, array.shape)
            for name, array in feeds.items()
            if tuple(shapes[number := self._numbers[name]]) != array.shape
        ]
        for number, shape in changed:
            self._interpreter.resize_tensor_input(number, shape, strict=True)
        if changed:
            self._interpreter.allocate_tensors()


def _open(path: Path, data: bytes, num_threads: int, *, keeps_inner: bool) -> Any:
    try:
        with warnings.catch_warnings():
            # That inner tensors take memory; they do, and are what is asked for.
            warnings.filterwarnings("ignore", message=".*experimental_preserve_all_tensors")
            interpreter = Interpreter(
                model_content=data,
                num_threads=num_threads,
                experimental_preserve_all_tensors=keeps_inner,
            )
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise ValueError(
            f"{path} is no TFLite model that can be run, or is damaged: convert it again ({error})"
        ) from error
    return interpreter


def _tensor(details: Mapping[str, Any]) -> Tensor:
    # A dimension that may be resized is -1 in the signature, and has some length in the shape.
    signature = details.get("shape_signature", details["shape"])
    scale, zero_point = details["quantization"]
    return Tensor(
        name=details["name"],
        shape=tuple(None if each < 0 else int(each) for each in signature),
        dtype=details["dtype"],
        scale=float(scale),
        zero_point=int(zero_point),
    )
