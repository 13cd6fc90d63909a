"""A model file in, a runtime that runs arrays through it out: the contract.

What a picture or a sound has to do with the file's input is not known here, nor is any runtime's
library. A file is data: it is read once as bytes, its digest is of exactly those bytes, and no
code comes with it.

Shape legend: N rows, D dimensions.
"""

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

LIMIT_BYTES = 2**31 - 1  # neither format can hold more in one file
ALIKE = 1e-4  # of the largest value: float32 sums in another order stay far below it
NAME_CHARS = 80
NUM_NAMED = 8  # outputs that a message lists

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """One input or output of a file."""

    name: str
    shape: tuple[int | None, ...]
    """None where any length is taken."""
    dtype: DTypeLike
    scale: float = 0.0
    """0 where the values are not quantized; else value = (stored - zero_point) * scale."""
    zero_point: int = 0

    def __str__(self) -> str:
        lengths = ", ".join("any" if length is None else str(length) for length in self.shape)
        # Converters name a tensor after all that was merged into it.
        name = self.name if len(self.name) <= NAME_CHARS else f"{self.name[:NAME_CHARS]}..."
        return f"{name!r} {np.dtype(self.dtype)} [{lengths}]"

    def quantized(self, values: Array) -> Array:
        """Real values as the tensor holds them; those beyond its range are clipped."""
        if not np.issubdtype(self.dtype, np.integer):
            return values.astype(self.dtype)
        limits = np.iinfo(np.dtype(self.dtype))
        scaled = values / self.scale + self.zero_point if self.scale else values
        return np.clip(np.rint(scaled), limits.min, limits.max).astype(self.dtype)

    def real(self, stored: Array) -> NDArray[np.float32]:
        """What the tensor holds as real values, in an array of its own."""
        values = stored.astype(np.float32)
        return (values - self.zero_point) * np.float32(self.scale) if self.scale else values


class ModelFile(ABC):
    """An opened model file, and the one of its tensors that is read."""

    path: Path
    revision: str
    """The sha256 of the file."""
    inputs: tuple[Tensor, ...]
    output: Tensor
    output_number: int
    """Of the output among the file's tensors: with the revision, it says which one is read."""

    @abstractmethod
    def run(self, feeds: Mapping[str, Array]) -> NDArray[np.float32]:
        """One pass: an array for each input, by name, -> the output, dequantized.

        The same feeds give the same output, whatever ran before. Any number of threads may call.

        Raises:
            ValueError: the file cannot be run with such arrays.
        """

    @property
    def input(self) -> Tensor:
        """The only input.

        Raises:
            ValueError: the file takes several.
        """
        if len(self.inputs) != 1:
            listed = ", ".join(map(str, self.inputs))
            raise ValueError(
                f"{self.path} takes {len(self.inputs)} inputs ({listed}), expected one: export "
                "the encoder alone"
            )
        return self.inputs[0]

    def check_dim(self, found: int, declared: int | None) -> int:
        """The length of the vectors that the output gave.

        Raises:
            ValueError: the declared length is another.
        """
        if declared not in (None, found):
            raise ValueError(
                f"{self.path}: the output {self.output} gives vectors of {found} dimensions, "
                f"declared are {declared}; correct `dim`, or choose another `output`"
            )
        return found


def read_model(path: Path) -> tuple[bytes, str]:
    """A file's bytes and their sha256.

    Raises:
        ValueError: there is no such file, or it is larger than the formats allow.
    """
    try:
        size = path.stat().st_size
        if size > LIMIT_BYTES:
            raise ValueError(f"{path} has {size:,} bytes; a model file has at most {LIMIT_BYTES:,}")
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}): correct `model`") from error
    return data, hashlib.sha256(data).hexdigest()


def choose(
    path: Path, named: Mapping[int, Tensor], output: str | None, among: Sequence[int]
) -> int:
    """The number of the tensor that is to be read.

    Args:
        path: The file, for the message.
        named: All tensors that could be read, by number.
        output: The user's choice: a number, a name, or one of the names that a converter joined
            by semicolons; None takes the only one of `among`.
        among: The numbers of the file's outputs.

    Raises:
        ValueError: no such tensor, several of the name, or several outputs and no choice.
    """
    if output is None:
        found = list(among)
    elif output.isdecimal():
        found = [number for number in named if number == int(output)]
    else:
        found = [n for n, tensor in named.items() if tensor.name == output]
        found = found or [n for n, tensor in named.items() if output in tensor.name.split(";")]
    if len(found) == 1:
        return found[0]
    listed = "; ".join(f"{number}: {named[number]}" for number in (found or among)[:NUM_NAMED])
    if output is None:
        raise ValueError(
            f"{path} has {len(found)} outputs ({listed}): say which one holds the vector by "
            "`output`, a name or a number"
        )
    raise ValueError(
        f"{path} has {len(found) or 'no'} tensors {output!r}: `output` is the name or the number "
        f"of one, such as {listed}"
    )


def is_alike(together_ND: NDArray[np.float32], alone_ND: NDArray[np.float32]) -> bool:
    """Whether rows that ran together came out as they do alone.

    Where activations are quantized by the range that a pass happens to see, they do not, and
    which rows ran together would decide about a vector.
    """
    tolerance = ALIKE * float(np.abs(alone_ND).max())
    return bool(np.abs(together_ND - alone_ND).max() <= tolerance)


def all_cores() -> int:
    """How many cores this process may use; a container often has fewer than the machine."""
    return len(os.sched_getaffinity(0))


class RowRunner:
    """Runs a file of one input over many rows, each of which becomes one vector."""

    def __init__(
        self,
        model: ModelFile,
        *,
        probes: tuple[Array, Array],
        pool: Callable[[NDArray[np.float32]], NDArray[np.float32]],
        batch_size: int,
        dim: int | None,
    ) -> None:
        """Run the probes, to learn what the file gives.

        Args:
            model: The file.
            probes: Two different rows as the input takes them, its batch axis (if any) of 1.
            pool: One row's output -> its vector [D].
            batch_size: How many rows run at once where the file takes any number.
            dim: The length that vectors must have; None takes what the file gives.

        Raises:
            ValueError: vectors of another length, or an output that no input changes.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self._model = model
        self._pool = pool
        self._batch_size = 1
        vectors_2D = self.run(probes)
        self.dim = model.check_dim(vectors_2D.shape[1], dim)
        if np.array_equal(*vectors_2D):
            raise ValueError(
                f"{model.path}: the output {model.output} is the same whatever goes in, so it is "
                "a weight or holds nothing; choose another `output`"
            )
        if len(model.input.shape) > 1 and model.input.shape[0] is None:
            together = self._stacked(probes)
            # An inner tensor may know of no batch although the input does.
            if len(together) == 2 and is_alike(
                np.stack([pool(together[:1]), pool(together[1:])]), vectors_2D
            ):
                self._batch_size = batch_size

    def run(self, rows: Sequence[Array]) -> NDArray[np.float32]:
        """Rows of equal shape -> their vectors, [N, D], at least one."""
        vectors = []
        for start in range(0, len(rows), self._batch_size):
            batch = rows[start : start + self._batch_size]
            outputs = self._stacked(batch)
            if len(batch) == 1:
                vectors.append(self._pool(outputs))
            else:
                vectors += [self._pool(outputs[n : n + 1]) for n in range(len(batch))]
        return np.stack(vectors)

    def _stacked(self, rows: Sequence[Array]) -> NDArray[np.float32]:
        whole = rows[0] if len(rows) == 1 else np.concatenate(rows)
        return self._model.run({self._model.input.name: whole})
