"""Items in, their sounds' vectors by a model file out.

A sound longer than the file's input is cut into windows, `hop` samples apart; an incomplete last
one is dropped, and a sound shorter than one window is filled up with zeros. The vector is the mean
over the windows, and over the steps of time that the output of each may have.

Shape legend: N sounds, W windows, T samples, D dimensions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedders.base import Embedder
from embedders.items import Item, Modality
from embedders.media import file_digest
from embedders.model_file import ModelFile, RowRunner
from embedders.vectors import Space, normalize
from embedders.waveform import LIMIT_S, check_limit, read_waveform

RATES = range(1_000, 192_001)
SHORTEST_S = 0.1  # of less sound the vector would be one of the zeros behind it


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioInput:
    """What a file wants to hear."""

    rate: int = 16_000
    """Samples a second, as the model was trained."""
    window: int | None = None
    """In samples, for a file that takes any number; None where the file says."""
    hop: int | None = None
    """Samples from the start of a window to the next one's; None sets them end to end."""
    limit_s: float = LIMIT_S
    """Of a longer sound the middle so many seconds count."""

    def __post_init__(self) -> None:
        if self.rate not in RATES:
            raise ValueError(f"rate is {RATES[0]} to {RATES[-1]} Hz, got {self.rate}")
        for name in ("window", "hop"):
            if (seen := getattr(self, name)) is not None and seen < 1:
                raise ValueError(f"{name} is a number of samples from 1, got {seen}")
        check_limit(self.limit_s)


class FileAudioEmbedder(Embedder):
    """Sound vectors by a model file."""

    rows_per_batch = 32  # a minute's samples are 4 MB

    def __init__(
        self,
        model: ModelFile,
        *,
        takes: AudioInput | None = None,
        batch_size: int = 8,
        dim: int | None = None,
    ) -> None:
        """Look at the file's input, and run it twice.

        Args:
            model: The opened file.
            takes: What it wants to hear.
            batch_size: How many windows run at once where the file takes any number.
            dim: The length that vectors must have; None takes what the file gives.

        Raises:
            ValueError: an input that holds no samples, no length of a window, or an output of
                another length.
        """
        takes = takes or AudioInput()
        self._takes = takes
        self._dtype = model.input.dtype
        self._shape = _window_shape(model, takes)
        self._window = int(np.prod(self._shape))
        self._hop = takes.hop or self._window
        time = np.arange(self._window) / takes.rate
        self._runner = RowRunner(
            model,
            probes=(self._row(np.sin(2000 * time)), self._row(np.sin(9000 * time) / 2)),
            pool=_mean_over_steps,
            batch_size=batch_size,
            dim=dim,
        )
        self.space = Space(
            modality=Modality.AUDIO,
            encoder=model.path.stem,
            revision=model.revision,
            dim=self._runner.dim,
            preprocessing=(
                f"mono {takes.rate} Hz, the middle {takes.limit_s:g} s; windows of "
                f"{self._window} samples every {self._hop}, a short sound filled up with zeros, "
                f"an incomplete last one dropped; mean of output {model.output_number}"
            ),
        )

    def fingerprint(self, item: Item) -> str | None:
        """The sha256 of the sound's file."""
        return None if item.audio_path is None else file_digest(item.audio_path)

    def load(self, item: Item) -> NDArray[np.float32]:
        """The sound's samples, [T], at least a window of them."""
        assert item.audio_path is not None, "load follows a fingerprint"
        samples = read_waveform(
            item.audio_path,
            rate=self._takes.rate,
            shortest_s=SHORTEST_S,
            limit_s=self._takes.limit_s,
        )
        return np.pad(samples, (0, max(0, self._window - len(samples))))

    def encode(self, contents: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Samples -> unit vectors [N, D], of the mean over their windows."""
        vectors_ND = np.zeros((len(contents), self.space.dim), dtype=np.float32)
        for row, samples in enumerate(contents):
            starts = range(0, len(samples) - self._window + 1, self._hop)
            windows = [self._row(samples[start : start + self._window]) for start in starts]
            vectors_ND[row] = self._runner.run(windows).mean(axis=0)
        return normalize(vectors_ND)

    def _row(self, samples: NDArray[np.floating]) -> NDArray[np.floating]:
        """A window as the input takes it."""
        return samples.astype(self._dtype).reshape(self._shape)


def _window_shape(model: ModelFile, takes: AudioInput) -> tuple[int, ...]:
    """The shape of one window: [T], [1, T], [1, 1, T] or [1, T, 1]."""
    tensor = model.input
    if not 1 <= len(tensor.shape) <= 3 or not np.issubdtype(tensor.dtype, np.floating):
        raise ValueError(
            f"{model.path} takes {tensor}, expected samples as floats: [samples], "
            "[1 or any, samples], or three axes of which one is a single channel"
        )
    # The last axis is time, but for a channel behind it; all others are of 1, or a free batch.
    time = len(tensor.shape) - 1
    if len(tensor.shape) == 3 and tensor.shape[2] == 1:
        time = 1
    others = [length for axis, length in enumerate(tensor.shape) if axis != time]
    batch, channels = others[:1], others[1:]
    if not {*batch} <= {None, 1} or not {*channels} <= {1}:
        raise ValueError(
            f"{model.path} takes {tensor}, expected one channel of samples, one window or any "
            "number of them at a time; spectra have to be made within the file"
        )
    length = tensor.shape[time] or takes.window
    if length is None:
        raise ValueError(
            f"{model.path} takes {tensor}: say by `window` how many samples it is to hear at once"
        )
    if takes.window not in (None, length):
        raise ValueError(
            f"{model.path} takes {tensor}, not windows of {takes.window} samples: leave `window` "
            "out"
        )
    return tuple(length if axis == time else 1 for axis in range(len(tensor.shape)))


def _mean_over_steps(output: NDArray[np.float32]) -> NDArray[np.float32]:
    """One window's output, whatever axes are before its last, as a vector [D]."""
    vector_D: NDArray[np.float32] = output.reshape(-1, output.shape[-1]).mean(axis=0)
    return vector_D
