"""Sounds of any kind come out as one clean channel; the rest names what to mend."""

import contextlib
import random
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from embedders import waveform
from embedders.base import BadContent
from embedders.waveform import check_limit, read_waveform
from tests.embedders import tiny

RATE = 16_000


def read(path: Path, *, rate: int = RATE) -> NDArray[np.float32]:
    return read_waveform(path, rate=rate, shortest_s=0.025)


def tone(*, seconds: float, rate: int, frequency: float = 440) -> NDArray[np.float64]:
    return 0.5 * np.sin(2 * np.pi * frequency * np.arange(int(seconds * rate)) / rate)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3", "aiff"])
@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_a_tone_is_the_same_tone_at_the_wanted_rate(tmp_path: Path, suffix: str, rate: int) -> None:
    path = tmp_path / f"tone.{suffix}"
    soundfile.write(path, tone(seconds=1, rate=rate), rate)
    samples = read(path)
    assert samples.dtype == np.float32
    assert abs(len(samples) - RATE) <= 0.1 * RATE  # mp3 adds a little silence
    spectrum = np.abs(np.fft.rfft(samples))
    assert abs(spectrum.argmax() * RATE / len(samples) - 440) < 2


def test_channels_are_averaged(tmp_path: Path) -> None:
    path = tmp_path / "stereo.wav"
    left = tone(seconds=0.2, rate=RATE)
    soundfile.write(path, np.stack([left, 0 * left], axis=1), RATE, subtype="FLOAT")
    np.testing.assert_allclose(read(path), left / 2, atol=1e-6)


def test_of_a_long_file_the_middle_counts(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    samples = tone(seconds=3, rate=RATE) * np.linspace(0.1, 1, 3 * RATE)
    soundfile.write(path, samples, RATE, subtype="FLOAT")
    middle = read_waveform(path, rate=RATE, shortest_s=0.025, limit_s=1)
    np.testing.assert_allclose(middle, samples[RATE : 2 * RATE], atol=1e-6)


@pytest.mark.parametrize("limit_s", [0, 0.5, 601, float("nan")])
def test_a_limit_out_of_range_is_refused(limit_s: float) -> None:
    with pytest.raises(ValueError, match="limit_s is 1 to 600 seconds, got"):
        check_limit(limit_s)


def test_more_samples_than_memory_should_hold_are_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "choir.wav"
    soundfile.write(path, np.full((RATE, 8), 0.5), RATE)
    monkeypatch.setattr(waveform, "LIMIT_SAMPLES", 8 * RATE - 1)
    with pytest.raises(BadContent, match=r"16000 samples on 8 channels exceed .*mix it down"):
        read(path)


def test_samples_beyond_full_scale_are_scaled_back_and_quiet_ones_kept(tmp_path: Path) -> None:
    path = tmp_path / "loud.wav"
    samples = tone(seconds=0.2, rate=RATE)
    soundfile.write(path, samples * 1e6, RATE, subtype="FLOAT")
    np.testing.assert_allclose(read(path), samples / np.abs(samples).max(), atol=1e-6)
    soundfile.write(path, samples * 0.01, RATE, subtype="FLOAT")
    np.testing.assert_allclose(read(path), samples * 0.01, atol=1e-6)


@pytest.mark.parametrize("num_samples", [0, 1, 399])
def test_a_sound_shorter_than_a_frame_is_refused(tmp_path: Path, num_samples: int) -> None:
    path = tmp_path / "short.wav"
    soundfile.write(path, tone(seconds=1, rate=RATE)[:num_samples], RATE)
    with pytest.raises(BadContent, match=rf"short\.wav: {num_samples} samples.*record it again"):
        read(path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_no_numbers_are_refused(tmp_path: Path, value: float) -> None:
    path = tmp_path / "broken.wav"
    samples = tone(seconds=0.2, rate=RATE)
    samples[7] = value
    soundfile.write(path, samples, RATE, subtype="FLOAT")
    with pytest.raises(BadContent, match=r"broken\.wav: holds samples that are not finite"):
        read(path)


@pytest.mark.parametrize("level", [0.0, 0.3])
def test_silence_is_refused_even_with_an_offset(tmp_path: Path, level: float) -> None:
    path = tmp_path / "silence.wav"
    soundfile.write(path, np.full(RATE, level), RATE)
    with pytest.raises(BadContent, match=r"silence\.wav: silent throughout; replace it"):
        read(path)


@pytest.mark.parametrize("content", [b"", b"not a sound", b"RIFF\0\0\0\0WAVE"])
def test_what_is_no_sound_names_the_file_and_what_to_mend(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "song.wav"
    path.write_bytes(content)
    with pytest.raises(
        BadContent, match=r"song\.wav: not a sound file .*convert it to wav or flac"
    ):
        read(path)


def test_a_missing_file_is_bad_content(tmp_path: Path) -> None:
    with pytest.raises(BadContent, match=r"gone\.wav"):
        read(tmp_path / "gone.wav")


def test_a_rate_without_common_factor_is_refused_before_memory_runs_out(tmp_path: Path) -> None:
    path = tmp_path / "odd.wav"
    soundfile.write(path, tone(seconds=0.2, rate=44_101), 44_101)
    with pytest.raises(BadContent, match=r"44101 Hz cannot be brought to 16000 Hz; resample"):
        read(path)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_no_damage_raises_anything_but_bad_content(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"damaged.{suffix}"
    soundfile.write(path, tiny.sound(1, seconds=0.3), RATE)
    whole = path.read_bytes()
    for _ in range(40):
        damaged = bytearray(whole)
        for _ in range(random.randint(1, 8)):
            damaged[random.randrange(min(len(damaged), 400))] = random.randrange(256)
        path.write_bytes(damaged[: random.randint(1, len(damaged))])
        with contextlib.suppress(BadContent):
            samples = read(path)
            assert np.isfinite(samples).all()
            assert np.abs(samples).max() <= 1
