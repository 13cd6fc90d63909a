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

LIMIT_S = 60  # what is read of a file where the caller says nothing else
LIMITS_S = (1, 600)  # samples wait in memory: ten minutes at 48 kHz are 230 MB while decoding
LIMIT_SAMPLES = 1 << 27  # of all channels while decoding, in float64: 1 GiB
SILENCE = 1e-4  # 80 dB below full scale: no more than the noise of 16-bit rounding
LIMIT_KERNEL = 20_000_000  # a rate without common factor would ask for gigabytes of filters


def check_limit(limit_s: float) -> float:
    """A number of seconds that `read_waveform` takes as its limit.

    Raises:
        ValueError: fewer or more than are allowed.
    """
    if not LIMITS_S[0] <= limit_s <= LIMITS_S[1]:
        raise ValueError(f"limit_s is {LIMITS_S[0]} to {LIMITS_S[1]} seconds, got {limit_s}")
    return limit_s


def read_waveform(
    path: Path, *, rate: int, shortest_s: float, limit_s: float = LIMIT_S
) -> NDArray[np.float32]:
    """Decode a sound file.

    Args:
        path: A file of any format that libsndfile reads: wav, flac, ogg, mp3, aiff.
        rate: The sampling rate wanted, in Hz.
        shortest_s: The shortest sound that the caller can use, in seconds.
        limit_s: Of a longer file the middle so many seconds are read.

    Returns:
        Samples in [-1, 1], at most `limit_s` seconds.

    Raises:
        BadContent: no sound file, damaged, too short, silent, or samples that are no numbers.
    """
    samples, found_rate = _decode(path, limit_s)
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


def _decode(path: Path, limit_s: float) -> tuple[NDArray[np.float64], int]:
    """The middle `limit_s` seconds as one channel, and the file's own rate."""
    try:
        with soundfile.SoundFile(path) as file:
            limit = round(limit_s * file.samplerate)
            wanted = min(limit, file.frames)
            if wanted * file.channels > LIMIT_SAMPLES:
                raise BadContent(
                    f"{path}: {wanted} samples on {file.channels} channels exceed the limit of "
                    f"{LIMIT_SAMPLES:,}; mix it down, or lower `limit_s`"
                )
            if file.frames > limit:
                file.seek((file.frames - limit) // 2)
            # At once: between two reads of an mp3 libsndfile loses its place.
            samples = file.read(frames=limit, dtype="float64", always_2d=True)
            return samples.mean(axis=1), file.samplerate
    except BadContent:
        raise
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
