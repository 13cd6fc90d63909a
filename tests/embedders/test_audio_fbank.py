"""Sound vectors without weights keep the contract and follow the spectrum, not the loudness."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile

from embedders.audio_fbank import FbankEmbedder
from embedders.items import Item
from tests.embedders import tiny
from tests.embedders.contract import EmbedderContract, Make, World, vectors

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
    maxima, means = np.split(embedder._pool(embedder.load(item)), 2)
    assert abs((maxima - means).mean()) < 1.5


@pytest.mark.parametrize(
    ("num_mels", "poolings", "dim"), [(80, ("max", "mean"), 160), (40, ("mean",), 40)]
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
    forward = vectors(FbankEmbedder(poolings=("max", "mean")), items)
    backward = vectors(FbankEmbedder(poolings=("mean", "max")), items)
    np.testing.assert_allclose(forward, np.roll(backward, 80, axis=1), atol=1e-6)


@pytest.mark.parametrize("poolings", [(), ("max", "max"), ("median",)])
def test_an_unknown_or_repeated_pooling_is_refused(poolings: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"poolings are some of \('max', 'mean'\), each once"):
        FbankEmbedder(poolings=poolings)


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
