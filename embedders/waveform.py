"""A sound file in, one channel of finite samples at the wanted rate out.

Channels are averaged. Of a long file the middle counts, for the start of a track or a film clip
often says the least. Samples beyond full scale (floating-point files may hold any number) are
scaled back to it; quieter files keep their level.
"""

import math
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from embedders import torchaudio_cpu
from embedders.base import BadContent

torchaudio_cpu.load()

import torch  # noqa: E402
import torchaudio  # noqa: E402

LIMIT_S = 60
SILENCE = 1e-4  # 80 dB below full scale: no more than the noise of 16-bit rounding
LIMIT_KERNEL = 20_000_000  # a rate without common factor would ask for gigabytes of filters


def read_waveform(path: Path, *, rate: int, shortest_s: float) -> NDArray[np.float32]:
    """Decode a sound file.

    Args:
        path: A file of any format that libsndfile reads: wav, flac, ogg, mp3, aiff.
        rate: The sampling rate wanted, in Hz.
        shortest_s: The shortest sound that the caller can use, in seconds.

    Returns:
        Samples in [-1, 1], at most `LIMIT_S` seconds.

    Raises:
        BadContent: no sound file, damaged, too short, silent, or samples that are no numbers.
    """
    samples, found_rate = _decode(path)
    if len(samples) < math.ceil(shortest_s * found_rate) or not len(samples):
        raise BadContent(
            f"{path}: {len(samples)} samples at {found_rate} Hz, shorter than {shortest_s} s; "
            "record it again or leave the item's audio path empty"
        )
    if not np.isfinite(samples).all():
        raise BadContent(f"{path}: holds samples that are not finite; export the sound again")
    if np.abs(samples - samples.mean()).max() < SILENCE:
        raise BadContent(f"{path}: silent throughout; replace it or leave the audio path empty")
    samples /= max(1.0, float(np.abs(samples).max()))
    return _resample(samples.astype(np.float32), found_rate, rate, path)


def _decode(path: Path) -> tuple[NDArray[np.float64], int]:
    """The middle `LIMIT_S` seconds as one channel, and the file's own rate."""
    try:
        with soundfile.SoundFile(path) as file:
            limit = LIMIT_S * file.samplerate
            if file.frames > limit:
                file.seek((file.frames - limit) // 2)
            samples = file.read(frames=limit, dtype="float64", always_2d=True)
            return samples.mean(axis=1), file.samplerate
    except (OSError, RuntimeError) as error:  # libsndfile's error is a RuntimeError
        raise BadContent(
            f"{path}: not a sound file that can be decoded ({error}); convert it to wav or flac"
        ) from error


def _resample(
    samples: NDArray[np.float32], found: int, rate: int, path: Path
) -> NDArray[np.float32]:
    shared = math.gcd(found, rate)
    if (found // shared) * (rate // shared) > LIMIT_KERNEL:
        raise BadContent(
            f"{path}: a sampling rate of {found} Hz cannot be brought to {rate} Hz; resample it "
            "to a common rate such as 44100 Hz"
        )
    resampled = torchaudio.functional.resample(torch.from_numpy(samples), found, rate)
    return np.asarray(resampled.clamp(-1, 1).numpy(), dtype=np.float32)
