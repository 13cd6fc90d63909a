"""Items in, their sounds' pooled log-Mel spectra as vectors out, without any weights.

ATFLRec's audio branch: 80 log-Mel filter banks over frames of 25 ms every 10 ms, pooled over time
by maximum, mean and attention. There attention is learned inside the ranker: for that, frames
themselves are the vector (`num_frames`), each the mean of a stretch of time. Else nothing is
trained here, so we resolve attention thus: scaled dot-product attention whose one query is the
clip's mean frame and whose keys are its frames, both in units of the clip's deviation. It is a
mean in which frames like the clip as a whole weigh more, and pauses and chance noises less; its
own level is subtracted, since the frames that it prefers are the louder ones.

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
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from embedders import torchaudio_cpu
from embedders.base import Embedder
from embedders.items import Item, Modality
from embedders.media import file_digest
from embedders.vectors import Space, normalize
from embedders.waveform import LIMIT_S, check_limit, read_waveform

torchaudio_cpu.load()

import torch  # noqa: E402
from torch.nn.functional import pad  # noqa: E402
from torchaudio.compliance.kaldi import get_mel_banks  # noqa: E402

RATE = 16_000
FRAME_MS, SHIFT_MS = 25.0, 10.0
RANGE_DB = 60.0
NOISE_CREST = 3.0  # nats that the largest of some hundred frames of noise lies above their mean
FRAME, SHIFT = 400, 160  # the same in samples
LOWEST_HZ = 20.0
PREEMPHASIS = 0.97
POOLINGS = ("max", "mean", "attention")
NUM_MELS = range(8, 129)
NUM_FRAMES = range(2, 1001)
NUM_FFT = 512  # Kaldi's: the power of two that holds a frame
FULL_BANDS = 126  # with more, a band below 150 Hz falls between two of its bins and stays empty
FINE_FFT = 1024


class FbankEmbedder(Embedder):
    """Sound vectors from filter banks: quick, fixed, and in need of no download."""

    rows_per_batch = 256  # a pooled sound is 1 KB, and reading is what takes time

    def __init__(
        self,
        *,
        num_mels: int = 80,
        poolings: Sequence[str] | None = None,
        num_frames: int | None = None,
        limit_s: float = LIMIT_S,
    ) -> None:
        """Fix the vector's parts.

        Args:
            num_mels: Mel bands between 20 Hz and 8 kHz.
            poolings: Parts of the vector in this order, each once: `max`, `mean`, `attention`. None
                for `max` and `mean`.
            num_frames: Instead, the vector is so many frames in a row, the earliest first, for the
                ranker to pool (its `fusion.frames`): means over equal stretches of the sound, which
                of a short one overlap.
            limit_s: Of a longer sound the middle so many seconds count.

        Raises:
            ValueError: a number of bands or frames, a pooling or a limit that is not allowed, or
                both poolings and frames.
        """
        if num_mels not in NUM_MELS:
            raise ValueError(f"num_mels is {NUM_MELS[0]} to {NUM_MELS[-1]}, got {num_mels}")
        if num_frames is not None:
            if poolings is not None:
                raise ValueError("a vector is poolings or frames: give poolings or num_frames")
            if num_frames not in NUM_FRAMES:
                raise ValueError(
                    f"num_frames is {NUM_FRAMES[0]} to {NUM_FRAMES[-1]}, got {num_frames}"
                )
        poolings = ("max", "mean") if poolings is None else poolings
        if not poolings or len(set(poolings)) != len(poolings) or not set(poolings) <= {*POOLINGS}:
            raise ValueError(f"poolings are some of {POOLINGS}, each once, got {tuple(poolings)}")
        self._limit_s = check_limit(limit_s)
        self._poolings = tuple(poolings)
        self._num_frames = num_frames
        num_fft = NUM_FFT if num_mels <= FULL_BANDS else FINE_FFT
        self._banks_FM = mel_banks(num_mels, num_fft)
        frames = f"{FRAME_MS:g}/{SHIFT_MS:g} ms"
        if num_fft != NUM_FFT:
            frames += f" in {num_fft} points"
        self.space = Space(
            modality=Modality.AUDIO,
            encoder="fbank",
            revision="1",
            dim=num_mels * (num_frames or len(self._poolings)),
            preprocessing=(
                f"mono {RATE} Hz, the middle {limit_s:.9g} s; {num_mels} log-Mel, frames "
                f"{frames}, floor {RANGE_DB:g} dB, level removed"
                + (
                    f"; means of {num_frames} stretches"
                    if num_frames
                    else f", noise crest {NOISE_CREST:g}; {'+'.join(self._poolings)}"
                )
            ),
        )

    def fingerprint(self, item: Item) -> str | None:
        """The sha256 of the sound's file."""
        return None if item.audio_path is None else file_digest(item.audio_path)

    def load(self, item: Item) -> NDArray[np.float32]:
        """The sound's poolings, or its frames, one after the other, [D]."""
        assert item.audio_path is not None, "load follows a fingerprint"
        samples = read_waveform(
            item.audio_path, rate=RATE, shortest_s=FRAME_MS / 1000, limit_s=self._limit_s
        )
        return self._pool(log_mel(samples, self._banks_FM))

    def encode(self, contents: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Spectra as loaded -> unit vectors [N, D]."""
        return normalize(np.asarray(contents, dtype=np.float32).reshape(-1, self.space.dim))

    def _pool(self, spectrum_TM: NDArray[np.float32]) -> NDArray[np.float32]:
        floor = spectrum_TM.max() - RANGE_DB / 10 * math.log(10)
        floored_TM = np.maximum(spectrum_TM, floor)
        relative_TM = floored_TM - floored_TM.mean()
        if self._num_frames:
            return stretches(relative_TM, self._num_frames).ravel()
        parts: dict[str, Callable[[], NDArray[np.float32]]] = {
            "max": lambda: relative_TM.max(axis=0) - NOISE_CREST,
            "mean": lambda: relative_TM.mean(axis=0),
            "attention": lambda: (attended_M := attend(relative_TM)) - attended_M.mean(),
        }
        return np.concatenate([parts[pooling]() for pooling in self._poolings])


def mel_banks(num_mels: int, num_fft: int) -> torch.Tensor:
    """Kaldi's triangular bands from 20 Hz to 8 kHz over the bins of a Fourier transform, [F, M]."""
    banks_MF, _ = get_mel_banks(num_mels, num_fft, float(RATE), LOWEST_HZ, 0.0, 100.0, -500.0, 1.0)
    return pad(banks_MF, (0, 1)).T.contiguous()  # the last bin, of half the rate, is in no band


def log_mel(samples: NDArray[np.float32], banks_FM: torch.Tensor) -> NDArray[np.float32]:
    """Log-Mel energies of frames in nats, [T, M], as Kaldi computes them.

    Kaldi's own recipe (`torchaudio.compliance.kaldi.fbank` without dither) has no choice of the
    transform's length, and its bins are too few for 127 bands and more.

    Args:
        samples: One channel at `RATE`, at least one frame of 25 ms.
        banks_FM: As `mel_banks` gives them.
    """
    frames_TS = torch.from_numpy(samples).unfold(0, FRAME, SHIFT)
    frames_TS = frames_TS - frames_TS.mean(dim=1, keepdim=True)
    before_TS = torch.cat([frames_TS[:, :1], frames_TS[:, :-1]], dim=1)
    window_S = torch.hann_window(FRAME, periodic=False).pow(0.85)  # "povey"
    frames_TS = (frames_TS - PREEMPHASIS * before_TS) * window_S
    power_TF = torch.fft.rfft(frames_TS, n=2 * (len(banks_FM) - 1)).abs().square()
    energies_TM = (power_TF @ banks_FM).clamp(min=torch.finfo(torch.float32).eps)
    return np.asarray(energies_TM.log().numpy(), dtype=np.float32)


def attend(frames_TM: NDArray[np.float32]) -> NDArray[np.float32]:
    """The frames' mean weighted by their likeness to the plain mean, [M].

    weights = softmax over time of q k / sqrt(M); q the mean frame, k a frame, both divided by the
    deviation of all values (of a clip without any, all frames weigh alike).
    """
    deviation = float(frames_TM.std()) or 1.0
    keys_TM = frames_TM / deviation
    scores_T = keys_TM @ keys_TM.mean(axis=0) / math.sqrt(frames_TM.shape[1])
    weights_T = np.exp(scores_T - scores_T.max())
    return np.asarray(weights_T @ frames_TM / weights_T.sum(), dtype=np.float32)


def stretches(frames_TM: NDArray[np.float32], num: int) -> NDArray[np.float32]:
    """Means over equally long stretches of time, [num, M]; with fewer frames, some come again."""
    starts = np.arange(num) * len(frames_TM) // num
    sizes = np.maximum(1, np.diff(starts, append=len(frames_TM)))
    # Of equal starts, reduceat gives the first frame alone.
    sums_FM = np.add.reduceat(frames_TM, starts, axis=0)
    return np.asarray(sums_FM / sizes[:, None], dtype=np.float32)
