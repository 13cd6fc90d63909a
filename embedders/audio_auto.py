"""Items in, their sounds' vectors by any Hugging Face audio model out.

CLAP answers by its audio features, which share a space with its text; others by their trained
pooling layer, else by the mean over time (of Whisper's encoder, without the padding).

A sound longer than the model's window is cut into equal windows whose unit vectors are averaged:
left to itself CLAP takes a random crop and AST drops the rest. Each window is prepared alone and
only windows of equal shape run together, since padding would change the answers of models that
normalize over time (Wav2Vec2). Those whose extractor says that they were trained with a mask are
padded: sorted by length, so that little is.

Shape legend: N items, W windows, T time steps, D dimensions.
"""

import math
from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from embedders import torchaudio_cpu
from embedders.auto_embedder import AutoEmbedder
from embedders.checkpoint import CheckpointOptions, Prepared
from embedders.items import Item, Modality
from embedders.media import file_digest
from embedders.vectors import normalize
from embedders.waveform import LIMIT_S, check_limit, read_waveform

torchaudio_cpu.load()

import torch  # noqa: E402
from transformers import AutoFeatureExtractor  # noqa: E402

SHORTEST_S = 0.1  # less than the receptive field of common models gives no output step
WINDOW_S = 30.0  # where the extractor states no limit of its own


class AutoAudioEmbedder(AutoEmbedder):
    """Sound vectors by `AutoModel`."""

    rows_per_batch = 32  # a minute's samples are 4 MB

    def __init__(
        self,
        *,
        model: str | Path,
        limit_s: float = LIMIT_S,
        batch_size: int = 8,
        **checkpoint: Unpack[CheckpointOptions],
    ) -> None:
        """Load the model and its feature extractor.

        Args:
            model: A folder or a hub id.
            limit_s: Of a longer sound the middle so many seconds count.
            batch_size: How many windows run at once; no matter for the result.
            checkpoint: Revision, precision, device and the like, as in `CheckpointOptions`.

        Raises:
            ValueError: the model is not pinned, lacks weights, or has not the length declared, or
                a limit that is not allowed.
        """
        self._limit_s = check_limit(limit_s)
        encoder = self._open(model, checkpoint)
        self._extractor = encoder.companion(AutoFeatureExtractor)
        self._batch_size = batch_size
        self._rate = int(self._extractor.sampling_rate)
        self._window = _window_samples(self._extractor, self._rate)
        self._is_padded = _takes_padding(self._extractor, encoder.model)
        self.space = encoder.space(
            Modality.AUDIO,
            dim=self._run(self.probe()).shape[1],
            preprocessing=(
                f"mono {self._rate} Hz, the middle {limit_s:.9g} s; "
                f"{type(self._extractor).__name__}; equal windows of at most {self._window} "
                "samples, unit vectors averaged"
            ),
        )

    def probe(self) -> list[Prepared]:
        """A window of a tone: of silence, an extractor that normalizes would divide by zero."""
        tone = np.sin(np.arange(self._rate, dtype=np.float32))
        return [self._prepare(tone[: self._window])]

    def fingerprint(self, item: Item) -> str | None:
        """The sha256 of the sound's file."""
        return None if item.audio_path is None else file_digest(item.audio_path)

    def load(self, item: Item) -> list[Prepared]:
        """The sound's windows as the model's inputs."""
        assert item.audio_path is not None, "load follows a fingerprint"
        samples = read_waveform(
            item.audio_path, rate=self._rate, shortest_s=SHORTEST_S, limit_s=self._limit_s
        )
        num_windows = math.ceil(len(samples) / self._window)
        length = len(samples) // num_windows
        return [
            self._prepare(samples[start * length : (start + 1) * length])
            for start in range(num_windows)
        ]

    def encode(self, contents: Sequence[list[Prepared]]) -> NDArray[np.float32]:
        """Windows of sounds -> unit vectors [N, D]."""
        vectors_ND = np.zeros((len(contents), self.space.dim), dtype=np.float32)
        for batch in self._batches(contents):
            window_vectors = self._run([contents[row][index] for row, index in batch])
            rows = [row for row, _ in batch]
            np.add.at(vectors_ND, rows, normalize(window_vectors))
        return normalize(vectors_ND)

    def forward(self, contents: Sequence[list[Prepared]]) -> torch.Tensor:
        """Windows of sounds -> unit vectors [N, D] with gradients."""
        batches = list(self._batches(contents))
        unit = [
            torch.nn.functional.normalize(
                self._pooled([contents[row][index] for row, index in batch]), dim=1
            )
            for batch in batches
        ]
        windows_WD = torch.cat(unit)
        rows_W = torch.tensor([row for batch in batches for row, _ in batch])
        sums_ND = windows_WD.new_zeros(len(contents), windows_WD.shape[1])
        sums_ND = sums_ND.index_add(0, rows_W.to(windows_WD.device), windows_WD)
        return torch.nn.functional.normalize(sums_ND, dim=1)

    def _batches(self, contents: Sequence[list[Prepared]]) -> Iterator[list[tuple[int, int]]]:
        """(item, window) of those that run together, the longest first where they are padded."""
        groups: defaultdict[Hashable, list[tuple[int, int]]] = defaultdict(list)
        for row, windows in enumerate(contents):
            for index, window in enumerate(windows):
                shapes = tuple(array.shape for array in window.values())
                groups[None if self._is_padded else shapes].append((row, index))
        for places in groups.values():
            if self._is_padded:
                places.sort(key=lambda place: -len(contents[place[0]][place[1]]["input_values"]))
            for start in range(0, len(places), self._batch_size):
                yield places[start : start + self._batch_size]

    def _prepare(self, samples: NDArray[np.float32]) -> Prepared:
        # Whisper pads to its window and tells where only when asked.
        options = {"return_attention_mask": True} if hasattr(self._extractor, "n_samples") else {}
        features = self._extractor(
            samples, sampling_rate=self._rate, return_tensors="np", **options
        )
        return {name: np.asarray(array)[0] for name, array in features.items()}

    def _pooled(self, batch: Sequence[Prepared]) -> torch.Tensor:
        inputs, model = self._encoder.inputs(batch), self._encoder.model
        if callable(features := getattr(model, "get_audio_features", None)):
            pooled_ND = features(**inputs).pooler_output
        else:
            output = model(**inputs)
            pooled_ND = output.get("pooler_output") if self._encoder.has_pooler else None
            if pooled_ND is None:
                hidden_NTD, mask = output.last_hidden_state, inputs.get("attention_mask")
                if self._is_padded:
                    mask = model._get_feature_vector_attention_mask(hidden_NTD.shape[1], mask)
                pooled_ND = mean_over_time(hidden_NTD.float(), mask)
        vectors_ND: torch.Tensor = pooled_ND.float()
        return vectors_ND


def mean_over_time(hidden_NTD: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """The mean of the steps that saw sound, [N, D].

    Args:
        hidden_NTD: The encoder's output.
        mask: 1 where the input is sound, 0 at padding; at the input's rate, a multiple of the
            output's. None where nothing was padded.
    """
    if mask is None:
        return hidden_NTD.mean(dim=1)
    num_steps = hidden_NTD.shape[1]
    weights_NT1 = mask[:, :: mask.shape[1] // num_steps][:, :num_steps, None].to(hidden_NTD.dtype)
    return (hidden_NTD * weights_NT1).sum(dim=1) / weights_NT1.sum(dim=1)


def _takes_padding(extractor: Any, model: Any) -> bool:
    """Whether samples of unequal length can run together without changing each other's answers.

    The extractor's own mark: models that normalize each step for itself return a mask, those that
    normalize over time (wav2vec2-base) do not. The model must tell which of its steps the mask
    leaves, which wav2vec2 and its kin do.
    """
    return (
        bool(getattr(extractor, "return_attention_mask", False))
        and list(extractor.model_input_names)[:1] == ["input_values"]
        and hasattr(model, "_get_feature_vector_attention_mask")
    )


def _window_samples(extractor: Any, rate: int) -> int:
    """The longest sound that an extractor takes whole, in samples."""
    for name in ("nb_max_samples", "n_samples"):  # CLAP, Whisper
        if (limit := getattr(extractor, name, None)) is not None:
            return int(limit)
    num_frames = getattr(extractor, "max_length", None)
    if num_frames is not None and hasattr(extractor, "num_mel_bins"):  # AST: frames of 10 ms
        return int(num_frames) * rate // 100
    return int(WINDOW_S * rate)
