"""Items in, their sounds' pooled log-Mel spectra as vectors out, without any weights.

ATFLRec's audio branch: 80 log-Mel filter banks over frames of 25 ms every 10 ms, pooled over time
by maximum and mean; the pooling by attention is learned and so belongs to the ranker.

Log energies of clips do not compare as they are: twice the distance to the microphone lowers all
of them alike, the numerical floor of digital silence lies anywhere, and the common offset makes
every cosine nearly 1. Hence, in nats:

1. frames are floored 60 dB below the clip's loudest value;
2. the clip's level, the mean over time and bands, is subtracted: loudness is gone, the spectrum's
   shape and its changes stay;
3. from the maxima the crest of steady noise is subtracted too, so that noise maps to about zero
   and the sign tells a burst (a bark) from an even sound (rain).

Shape legend: N items, D dimensions, T frames, M Mel bands.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from embedders import torchaudio_cpu
from embedders.base import Embedder
from embedders.items import Item, Modality
from embedders.media import file_digest
from embedders.vectors import Space, normalize
from embedders.waveform import LIMIT_S, read_waveform

torchaudio_cpu.load()

import torch  # noqa: E402
from torchaudio.compliance.kaldi import fbank  # noqa: E402

RATE = 16_000
FRAME_MS, SHIFT_MS = 25.0, 10.0
RANGE_DB = 60.0
NOISE_CREST = 3.0  # nats that the largest of some hundred frames of noise lies above their mean
POOLINGS = ("max", "mean")
NUM_MELS = range(8, 129)  # more bands than the 257 bins of a frame can fill would be empty


class FbankEmbedder(Embedder):
    """Sound vectors from filter banks: quick, fixed, and in need of no download."""

    rows_per_batch = 64  # a minute's spectrum is 2 MB

    def __init__(self, *, num_mels: int = 80, poolings: Sequence[str] = POOLINGS) -> None:
        """Fix the vector's parts.

        Args:
            num_mels: Mel bands between 20 Hz and 8 kHz.
            poolings: Parts of the vector in this order, each once: `max`, `mean`.

        Raises:
            ValueError: a number of bands or a pooling that is not allowed.
        """
        if num_mels not in NUM_MELS:
            raise ValueError(f"num_mels is {NUM_MELS[0]} to {NUM_MELS[-1]}, got {num_mels}")
        if not poolings or len(set(poolings)) != len(poolings) or not set(poolings) <= {*POOLINGS}:
            raise ValueError(f"poolings are some of {POOLINGS}, each once, got {tuple(poolings)}")
        self._num_mels = num_mels
        self._poolings = tuple(poolings)
        self.space = Space(
            modality=Modality.AUDIO,
            encoder="fbank",
            revision="1",
            dim=num_mels * len(self._poolings),
            preprocessing=(
                f"mono {RATE} Hz, the middle {LIMIT_S} s; {num_mels} log-Mel, frames "
                f"{FRAME_MS:g}/{SHIFT_MS:g} ms, floor {RANGE_DB:g} dB, level removed, "
                f"noise crest {NOISE_CREST:g}; {'+'.join(self._poolings)}"
            ),
        )

    def fingerprint(self, item: Item) -> str | None:
        """The sha256 of the sound's file."""
        return None if item.audio_path is None else file_digest(item.audio_path)

    def load(self, item: Item) -> NDArray[np.float32]:
        """The sound's log-Mel spectrum, [T, M]."""
        assert item.audio_path is not None, "load follows a fingerprint"
        samples = read_waveform(item.audio_path, rate=RATE, shortest_s=FRAME_MS / 1000)
        spectrum_TM = fbank(
            torch.from_numpy(samples).unsqueeze(0),
            sample_frequency=float(RATE),
            frame_length=FRAME_MS,
            frame_shift=SHIFT_MS,
            num_mel_bins=self._num_mels,
            dither=0.0,
        )
        return np.asarray(spectrum_TM.numpy(), dtype=np.float32)

    def encode(self, contents: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Spectra -> unit vectors [N, D], the poolings one after the other."""
        vectors_ND = np.zeros((len(contents), self.space.dim), dtype=np.float32)
        for row, spectrum_TM in enumerate(contents):
            vectors_ND[row] = self._pool(spectrum_TM)
        return normalize(vectors_ND)

    def _pool(self, spectrum_TM: NDArray[np.float32]) -> NDArray[np.float32]:
        floor = spectrum_TM.max() - RANGE_DB / 10 * math.log(10)
        floored_TM = np.maximum(spectrum_TM, floor)
        relative_TM = floored_TM - floored_TM.mean()
        parts = {"max": relative_TM.max(axis=0) - NOISE_CREST, "mean": relative_TM.mean(axis=0)}
        return np.concatenate([parts[pooling] for pooling in self._poolings])
