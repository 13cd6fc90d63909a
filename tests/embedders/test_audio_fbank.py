"""Sound vectors without weights keep the contract and follow the spectrum, not the loudness."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import torch

from embedders.audio_fbank import (
    FRAME,
    NUM_FFT,
    NUM_MELS,
    SHIFT,
    FbankEmbedder,
    attend,
    log_mel,
    mel_banks,
    stretches,
)
from embedders.items import Item
from tests.embedders import tiny
from tests.embedders.contract import EmbedderContract, Make, World, vectors

# isort: split
from torchaudio.compliance.kaldi import fbank

RATE = 16_000


class TestContract(EmbedderContract):
    @pytest.fixture
    def make(self) -> Make:
        return lambda _batch_size: FbankEmbedder()

    @pytest.fixture
    def world(self, tmp_path: Path) -> World:
        good = tiny.audio_items(tmp_path)
        assert good[0].audio_path is not None
        copy, silence, note = (tmp_path / name for name in ("copy.wav", "silence.wav", "note.ogg"))
        copy.write_bytes(good[0].audio_path.read_bytes())
        soundfile.write(silence, np.zeros(RATE), RATE)
        note.write_text("not a sound")
        return World(
            good=good,
            twin=Item(item_id="twin", title="", audio_path=copy),
            bare=Item(item_id="bare", title="no sound"),
            damaged=[
                Item(item_id=path.name, title="", audio_path=path)
                for path in (silence, note, tmp_path / "gone.wav")
            ],
        )


def written(folder: Path, name: str, samples: np.ndarray) -> Item:
    path = folder / f"{name}.wav"
    soundfile.write(path, samples, RATE, subtype="FLOAT")
    return Item(item_id=name, title="", audio_path=path)


def test_loudness_does_not_change_a_vector(tmp_path: Path) -> None:
    samples = tiny.sound(3, seconds=1)
    items = [written(tmp_path, str(gain), samples * gain) for gain in (1.0, 0.1, 0.02)]
    loud, quiet, faint = vectors(FbankEmbedder(), items)
    np.testing.assert_allclose(quiet, loud, atol=1e-3)
    np.testing.assert_allclose(faint, loud, atol=1e-2)


def test_digital_silence_between_sounds_counts_like_quiet_noise(tmp_path: Path) -> None:
    burst = np.concatenate([tiny.sound(3, seconds=0.5), np.zeros(RATE // 2, dtype=np.float32)])
    hiss = burst + 1e-5 * np.random.default_rng(0).standard_normal(len(burst)).astype(np.float32)
    first, second = vectors(
        FbankEmbedder(), [written(tmp_path, "digital", burst), written(tmp_path, "hiss", hiss)]
    )
    assert first @ second > 0.99


def test_pitch_and_time_course_set_sounds_apart(tmp_path: Path) -> None:
    time = np.arange(2 * RATE) / RATE
    random = np.random.default_rng(0)

    def noisy(samples: np.ndarray) -> np.ndarray:
        return 0.5 * samples + 0.003 * random.standard_normal(len(time))

    low, low_again, high = (
        noisy(np.sin(2 * np.pi * frequency * time)) for frequency in (300, 305, 3000)
    )
    bursts = low * (np.sin(2 * np.pi * 2 * time) > 0.9)
    items = [
        written(tmp_path, name, samples)
        for name, samples in {
            "low": low,
            "again": low_again,
            "high": high,
            "bursts": bursts,
        }.items()
    ]
    a, b, c, d = vectors(FbankEmbedder(), items)
    assert a @ b > max(a @ c, a @ d) + 0.1


def test_steady_noise_has_maxima_near_its_mean(tmp_path: Path) -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(5 * RATE)
    (item,) = [written(tmp_path, "noise", noise)]
    embedder = FbankEmbedder()
    maxima, means = np.split(embedder.load(item), 2)
    assert abs((maxima - means).mean()) < 1.5


@pytest.mark.parametrize(
    ("num_mels", "poolings", "dim"),
    [(80, ("max", "mean"), 160), (40, ("mean",), 40), (128, ("attention", "max", "mean"), 384)],
)
def test_the_parts_make_the_dimension_and_the_space(
    num_mels: int, poolings: tuple[str, ...], dim: int
) -> None:
    space = FbankEmbedder(num_mels=num_mels, poolings=poolings).space
    assert space.dim == dim
    assert f"{num_mels} log-Mel" in space.preprocessing
    assert space.preprocessing.endswith("+".join(poolings))


def test_the_poolings_stand_in_the_order_asked_for(tmp_path: Path) -> None:
    items = tiny.audio_items(tmp_path)[:2]
    forward = vectors(FbankEmbedder(poolings=("attention", "max", "mean")), items)
    backward = vectors(FbankEmbedder(poolings=("mean", "attention", "max")), items)
    np.testing.assert_allclose(forward, np.roll(backward, -80, axis=1), atol=1e-6)


@pytest.mark.parametrize("num_mels", [40, 80, 126])
def test_spectra_are_kaldis_as_torchaudio_computes_them(num_mels: int) -> None:
    samples = tiny.sound(5, seconds=1.3)
    expected = fbank(
        torch.from_numpy(samples)[None],
        sample_frequency=float(RATE),
        num_mel_bins=num_mels,
        dither=0.0,
    )
    found = log_mel(samples, mel_banks(num_mels, NUM_FFT))
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("num_mels", [40, 80, 128])
@pytest.mark.parametrize("poolings", [("max",), ("mean",), ("attention",)])
def test_each_pooling_gives_every_band_a_number_of_its_own(
    tmp_path: Path, num_mels: int, poolings: tuple[str, ...]
) -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(3 * RATE)
    content = FbankEmbedder(num_mels=num_mels, poolings=poolings).load(
        written(tmp_path, "noise", noise)
    )
    assert content.shape == (num_mels,)
    assert len(set(content.tolist())) == num_mels


def test_no_number_of_bands_leaves_one_deaf() -> None:
    noise = np.random.default_rng(0).standard_normal(RATE).astype(np.float32)
    assert np.ptp(log_mel(noise, mel_banks(128, NUM_FFT)), axis=0).min() == 0  # what is avoided
    for num_mels in NUM_MELS:
        spectrum_TM = log_mel(noise, FbankEmbedder(num_mels=num_mels)._banks_FM)
        assert spectrum_TM.std(axis=0).min() > 0.1


def test_attention_is_the_scaled_dot_product_with_the_mean_frame() -> None:
    frames_TM = np.random.default_rng(1).normal(size=(30, 8)).astype(np.float32)
    keys = torch.from_numpy(frames_TM / frames_TM.std())
    expected = torch.nn.functional.scaled_dot_product_attention(
        keys.mean(dim=0, keepdim=True), keys, torch.from_numpy(frames_TM)
    )
    np.testing.assert_allclose(attend(frames_TM), expected.numpy()[0], atol=1e-5)
    np.testing.assert_allclose(attend(np.full((5, 8), 2, dtype=np.float32)), 2)


def test_attention_heeds_a_pause_little_and_a_click_less_than_the_mean_does(tmp_path: Path) -> None:
    clean = np.tile(tiny.sound(2, seconds=0.3), 4)
    click = 0.2 * np.random.default_rng(1).standard_normal(len(clean) // 20)
    sounds = {
        "clean": clean,
        "paused": np.concatenate([clean, np.zeros_like(clean)]),
        "clicked": np.concatenate([clean[:1000], click, clean[1000 + len(click) :]]),
    }
    items = [written(tmp_path, name, samples) for name, samples in sounds.items()]
    by_mean = vectors(FbankEmbedder(poolings=("mean",)), items)
    by_attention = vectors(FbankEmbedder(poolings=("attention",)), items)
    assert by_attention[0] @ by_attention[1] > 0.999
    assert by_attention[0] @ by_attention[2] > by_mean[0] @ by_mean[2]


def test_of_a_long_sound_the_middle_counts_as_far_as_the_limit(tmp_path: Path) -> None:
    samples = np.concatenate([tiny.sound(seed, seconds=1) for seed in (1, 2, 3)])
    items = [
        written(tmp_path, "long", samples),
        written(tmp_path, "middle", samples[RATE : 2 * RATE]),
    ]
    embedder = FbankEmbedder(limit_s=1)
    np.testing.assert_array_equal(*vectors(embedder, items))
    assert "the middle 1 s" in embedder.space.preprocessing
    assert FbankEmbedder(limit_s=60.0).space == FbankEmbedder().space
    with pytest.raises(ValueError, match="limit_s is 1 to 600"):
        FbankEmbedder(limit_s=0)


@pytest.mark.parametrize("poolings", [(), ("max", "max"), ("median",)])
def test_an_unknown_or_repeated_pooling_is_refused(poolings: tuple[str, ...]) -> None:
    with pytest.raises(
        ValueError, match=r"poolings are some of \('max', 'mean', 'attention'\), each "
    ):
        FbankEmbedder(poolings=poolings)


def test_frames_are_means_over_stretches_of_the_sound_in_order(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).standard_normal(FRAME + 199 * SHIFT).astype(np.float32)
    noise[:RATE] *= 0.1
    embedder = FbankEmbedder(num_mels=40, num_frames=4)
    assert embedder.space.dim == 160
    assert embedder.space.preprocessing.endswith("level removed; means of 4 stretches")
    spectrum_TM = log_mel(noise, mel_banks(40, NUM_FFT))
    floored_TM = np.maximum(spectrum_TM, spectrum_TM.max() - 6 * np.log(10))
    expected = np.stack([part.mean(axis=0) for part in np.array_split(floored_TM, 4)])
    item = written(tmp_path, "noise", noise)
    found = embedder.load(item).reshape(4, 40)
    np.testing.assert_allclose(found, expected - floored_TM.mean(), atol=1e-3)
    whole = FbankEmbedder(num_mels=40, poolings=("mean",)).load(item)
    np.testing.assert_allclose(found.mean(axis=0), whole, atol=0.05)


@pytest.mark.parametrize(("num_frames", "num"), [(7, 3), (7, 7), (3, 7), (1, 4)])
def test_every_stretch_is_filled_and_no_frame_is_lost(num_frames: int, num: int) -> None:
    frames_TM = np.arange(num_frames, dtype=np.float32)[:, None]
    found = stretches(frames_TM, num)[:, 0]
    assert len(found) == num
    assert (np.diff(found) >= 0).all()
    assert set(found) == set(frames_TM[:, 0]) or num < num_frames
    parts = np.array_split(frames_TM[:, 0], num)
    if num_frames % num == 0:
        np.testing.assert_array_equal(found, [part.mean() for part in parts])


@pytest.mark.parametrize("num_frames", [0, 1, 1001])
def test_a_number_of_frames_that_is_none_is_refused(num_frames: int) -> None:
    with pytest.raises(ValueError, match=f"num_frames is 2 to 1000, got {num_frames}"):
        FbankEmbedder(num_frames=num_frames)


def test_a_vector_is_poolings_or_frames() -> None:
    with pytest.raises(ValueError, match="poolings or frames"):
        FbankEmbedder(poolings=("max",), num_frames=10)


@pytest.mark.parametrize("num_mels", [0, 7, 129])
def test_a_number_of_bands_beyond_what_a_frame_fills_is_refused(num_mels: int) -> None:
    with pytest.raises(ValueError, match=f"num_mels is 8 to 128, got {num_mels}"):
        FbankEmbedder(num_mels=num_mels)


@pytest.mark.shared_data
def test_real_sounds_of_one_kind_are_nearer_than_of_others(shared_data: Path) -> None:
    folder = shared_data / "esc10"
    rows = pq.read_table(folder / "items.parquet").to_pylist()
    wanted = {"Rain": 2, "Rooster": 2, "Sea waves": 1}
    chosen = [
        row
        for label, count in wanted.items()
        for row in [row for row in rows if row["label"] == label][:count]
    ]
    items = [
        Item(item_id=row["item_id"], title="", audio_path=folder / row["audio_path"])
        for row in chosen
    ]
    found = vectors(FbankEmbedder(), items)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    rain, more_rain, rooster, another_rooster, _ = found
    across = max(rain @ rooster, rain @ another_rooster)
    assert min(rain @ more_rain, rooster @ another_rooster) > across
