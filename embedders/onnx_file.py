"""An .onnx file in, arrays through it out, by ONNX Runtime.

Outputs are named, or numbered from 0 in the file's order. Weights must lie within the file: those
in a second one would stand outside of the digest, and their paths come from the file.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import DTypeLike, NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as errors

from embedders.model_file import Array, ModelFile, Tensor, all_cores, choose, read_model

DTYPES: Mapping[str, DTypeLike] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
}
FAULTS = (
    errors.Fail,
    errors.InvalidArgument,
    errors.InvalidGraph,
    errors.InvalidProtobuf,
    errors.NotImplemented,
    errors.RuntimeException,
)
SILENT = 4  # what it would log it also raises


class OnnxFile(ModelFile):
    """A model in ONNX format, on the CPU."""

    def __init__(
        self, path: Path, *, output: str | None = None, num_threads: int | None = None
    ) -> None:
        """Open the file.

        Args:
            path: The file.
            output: Name or number of the output that is read; None where there is only one.
            num_threads: On how many cores a pass runs; None takes all.

        Raises:
            ValueError: the file is missing, is no ONNX model, keeps weights elsewhere, or has no
                such output.
        """
        data, self.revision = read_model(path)
        self.path = path
        options = onnxruntime.SessionOptions()
        # Stated, since its own default pins threads to cores that a container may not have.
        options.intra_op_num_threads = num_threads or all_cores()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = SILENT
        with tempfile.TemporaryDirectory(prefix="sommelier-") as empty:
            options.add_session_config_entry(
                "session.model_external_initializers_file_folder_path", empty
            )
            self._session = _open(path, data, options)
        self.inputs = tuple(_tensor(path, each) for each in self._session.get_inputs())
        named = dict(enumerate(_tensor(path, each) for each in self._session.get_outputs()))
        self.output_number = choose(path, named, output, tuple(named))
        self.output = named[self.output_number]

    def run(self, feeds: Mapping[str, Array]) -> NDArray[np.float32]:
        """One pass: an array for each input, by name, -> the output."""
        try:
            (found,) = self._session.run([self.output.name], dict(feeds))
        except FAULTS as error:
            shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in feeds.items())
            raise ValueError(f"{self.path} cannot be run with {shapes}: {error}") from error
        return self.output.real(np.asarray(found))


def _open(path: Path, data: bytes, options: Any) -> Any:
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except FAULTS as error:
        if "External data path" in str(error):
            raise ValueError(
                f"{path} keeps its weights in another file: save the model as one "
                "(onnx.save_model with save_as_external_data=False)"
            ) from error
        raise ValueError(
            f"{path} is no ONNX model that can be run, or is damaged: export it again ({error})"
        ) from error


def _tensor(path: Path, found: Any) -> Tensor:
    dtype = DTYPES.get(found.type)
    if dtype is None:
        raise ValueError(
            f"{path}: {found.name!r} is a {found.type}, expected one of {', '.join(DTYPES)}"
        )
    shape = tuple(each if isinstance(each, int) and each > 0 else None for each in found.shape)
    return Tensor(name=found.name, shape=shape, dtype=dtype)
