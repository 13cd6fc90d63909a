"""Sounds through a model file: windows, hops, short sounds and shapes of known answers."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from numpy.typing import NDArray
from onnx import TensorProto, helper

from embedders.audio_file import AudioInput, FileAudioEmbedder
from embedders.items import Item
from embedders.onnx_file import OnnxFile
from embedders.tflite_file import TfliteFile
from tests.embedders.contract import EmbedderContract, Make, World
from tests.embedders.tiny import audio_items
from tests.embedders.tiny_files import Shape, save_linear, save_onnx, save_tflite

WINDOW = 1600
RATE = 16_000
MIXED = np.random.default_rng(8).standard_normal((WINDOW, 12)).astype(np.float32)
SUM_AND_FIRST = np.stack([np.ones(WINDOW), np.eye(WINDOW)[0]], axis=1).astype(np.float32)


def linear(folder: Path, weights: NDArray[np.float32], shape: Shape, **options: Any) -> OnnxFile:
    return OnnxFile(save_linear(folder / "ears.onnx", weights, shape=shape, **options))


def world_of(folder: Path) -> World:
    good = audio_items(folder)
    (folder / "twin.wav").write_bytes((folder / "sound0.wav").read_bytes())
    (folder / "noise.wav").write_bytes(b"no sound at all")
    return World(
        good=good,
        twin=Item(item_id="twin", title="", audio_path=folder / "twin.wav"),
        bare=Item(item_id="bare", title="T"),
        damaged=[
            Item(item_id="noise", title="", audio_path=folder / "noise.wav"),
            Item(item_id="gone", title="", audio_path=folder / "gone.wav"),
        ],
    )


class TestOnnx(EmbedderContract):
    @pytest.fixture
    def make(self, tmp_path: Path) -> Make:
        model = linear(tmp_path, MIXED, ["n", WINDOW])
        return lambda batch_size: FileAudioEmbedder(model, batch_size=batch_size)

    @pytest.fixture
    def world(self, tmp_path: Path) -> World:
        return world_of(tmp_path)


class TestTflite(EmbedderContract):
    @pytest.fixture
    def make(self, tmp_path: Path) -> Make:
        shape, signature = [1, WINDOW], [-1, WINDOW]
        path = save_tflite(tmp_path / "e.tflite", [MIXED.T], shape=shape, signature=signature)
        model = TfliteFile(path)
        takes = AudioInput(hop=700)
        return lambda batch_size: FileAudioEmbedder(model, takes=takes, batch_size=batch_size)

    @pytest.fixture
    def world(self, tmp_path: Path) -> World:
        return world_of(tmp_path)


def ramp(path: Path, num_samples: int) -> Item:
    """A sound that is written without loss, and whose every sample is another."""
    samples = np.linspace(0.1, 0.9, num_samples)
    soundfile.write(path, samples, RATE, subtype="FLOAT")
    return Item(item_id=path.stem, title="", audio_path=path)


def seen(embedder: FileAudioEmbedder, item: Item) -> NDArray[np.float32]:
    """The mean over the windows, before it is normalized; its length is of no matter."""
    return embedder.encode([embedder.load(item)])[0]


def unit(vector: Any) -> NDArray[np.float64]:
    return np.asarray(vector) / np.linalg.norm(vector)


@pytest.mark.parametrize("hop", [WINDOW, 500])
def test_windows_begin_every_hop_and_an_incomplete_last_one_is_dropped(
    tmp_path: Path, hop: int
) -> None:
    num_samples = 4 * WINDOW + WINDOW // 2
    model = linear(tmp_path, SUM_AND_FIRST, ["n", WINDOW])
    embedder = FileAudioEmbedder(model, takes=AudioInput(hop=hop))

    found = seen(embedder, ramp(tmp_path / "ramp.wav", num_samples))

    samples = np.linspace(0.1, 0.9, num_samples)
    starts = range(0, num_samples - WINDOW + 1, hop)
    windows = np.stack([samples[start : start + WINDOW] for start in starts])
    expected = [windows.sum(axis=1).mean(), windows[:, 0].mean()]
    np.testing.assert_allclose(found, unit(expected), rtol=1e-4)


def test_without_a_hop_windows_stand_end_to_end(tmp_path: Path) -> None:
    model = linear(tmp_path, SUM_AND_FIRST, [1, WINDOW])

    assert (
        FileAudioEmbedder(model).space
        == FileAudioEmbedder(model, takes=AudioInput(hop=WINDOW)).space
    )


def test_a_sound_shorter_than_a_window_is_filled_up_with_zeros(tmp_path: Path) -> None:
    long = 3 * WINDOW
    weights = np.stack([np.arange(long) < 2 * WINDOW, np.arange(long) >= 2 * WINDOW], axis=1)
    embedder = FileAudioEmbedder(linear(tmp_path, weights.astype(np.float32), [1, long]))

    found = seen(embedder, ramp(tmp_path / "short.wav", 2 * WINDOW))

    np.testing.assert_array_equal(found, [1, 0])


def test_a_sound_is_brought_to_the_rate_that_the_file_wants(tmp_path: Path) -> None:
    model = linear(tmp_path, SUM_AND_FIRST, [1, WINDOW])
    item = ramp(tmp_path / "ramp.wav", 4 * WINDOW)

    assert len(FileAudioEmbedder(model).load(item)) == 4 * WINDOW
    halved = FileAudioEmbedder(model, takes=AudioInput(rate=RATE // 2))
    assert len(halved.load(item)) == 2 * WINDOW


@pytest.mark.parametrize(
    "shape",
    [[WINDOW], [1, WINDOW], ["n", WINDOW], ["n", 1, WINDOW], [1, WINDOW, 1], ["n", "t"], ["t"]],
    ids=str,
)
def test_inputs_of_any_usual_shape_give_one_answer(tmp_path: Path, shape: Shape) -> None:
    flat = "x"
    nodes = [helper.make_node("Reshape", ["x", "to"], ["flat"])]
    nodes += [helper.make_node("MatMul", ["flat", "w"], ["y"])]
    path = save_onnx(
        tmp_path / "any.onnx",
        nodes,
        inputs={flat: (TensorProto.FLOAT, shape)},
        outputs={"y": ["k", MIXED.shape[1]]},
        weights={"w": MIXED, "to": np.array([-1, WINDOW])},
    )
    takes = AudioInput(window=WINDOW, hop=900)
    expected = FileAudioEmbedder(linear(tmp_path, MIXED, [1, WINDOW]), takes=takes)
    items = audio_items(tmp_path)

    found = FileAudioEmbedder(OnnxFile(path), takes=takes, batch_size=4)

    np.testing.assert_allclose(
        found.embed(items)[0].vectors_ND, expected.embed(items)[0].vectors_ND, atol=1e-5
    )


def test_the_steps_of_an_output_are_averaged(tmp_path: Path) -> None:
    """[1, steps, D], as networks over waveforms give it: here 8 steps of 200 samples."""
    path = save_onnx(
        tmp_path / "steps.onnx",
        [
            helper.make_node("Reshape", ["x", "to"], ["frames"]),
            helper.make_node("MatMul", ["frames", "w"], ["y"]),
        ],
        inputs={"x": (TensorProto.FLOAT, ["n", WINDOW])},
        outputs={"y": ["n", 8, 5]},
        weights={"w": MIXED[:200, :5], "to": np.array([-1, 8, 200])},
    )
    item = ramp(tmp_path / "ramp.wav", WINDOW)

    found = seen(FileAudioEmbedder(OnnxFile(path)), item)

    samples = np.linspace(0.1, 0.9, WINDOW).astype(np.float32)
    expected = (samples.reshape(8, 200) @ MIXED[:200, :5]).mean(axis=0)
    np.testing.assert_allclose(found, unit(expected), atol=1e-5)


def test_a_file_that_takes_any_number_of_samples_is_told_how_many(tmp_path: Path) -> None:
    model = linear(tmp_path, MIXED, ["n", "t"])

    with pytest.raises(ValueError, match="say by `window` how many samples it is to hear at once"):
        FileAudioEmbedder(model)
    assert FileAudioEmbedder(model, takes=AudioInput(window=WINDOW)).space.dim == 12


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ([1, 1, 40, 40], "expected samples as floats"),
        ([1, 40, 40], "expected one channel of samples, .*; spectra have to be made within"),
        ([2, 800], "expected one channel of samples"),
    ],
)
def test_an_input_that_holds_no_samples_is_refused(tmp_path: Path, shape: Shape, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        FileAudioEmbedder(linear(tmp_path, MIXED[: np.prod(shape[1:])], shape))


def test_whole_numbers_are_no_samples(tmp_path: Path) -> None:
    model = linear(tmp_path, MIXED, [1, WINDOW], kind=TensorProto.INT32)

    with pytest.raises(ValueError, match=r"takes 'x' int32 .*, expected samples as floats"):
        FileAudioEmbedder(model)


def test_a_window_that_contradicts_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not windows of 800 samples: leave `window` out"):
        FileAudioEmbedder(linear(tmp_path, MIXED, [1, WINDOW]), takes=AudioInput(window=800))


def test_the_space_names_the_file_and_all_that_was_done(tmp_path: Path) -> None:
    model = linear(tmp_path, MIXED, [1, WINDOW])
    spaces = [
        FileAudioEmbedder(model, takes=takes, dim=12).space
        for takes in (
            AudioInput(),
            AudioInput(rate=8000),
            AudioInput(hop=800),
            AudioInput(limit_s=10),
        )
    ]

    assert len({space.space_id for space in spaces}) == len(spaces)
    assert (spaces[0].encoder, spaces[0].revision, spaces[0].dim) == ("ears", model.revision, 12)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"rate": 0}, "rate is 1000 to 192000 Hz, got 0"),
        ({"hop": 0}, "hop is a number of samples from 1, got 0"),
        ({"window": -1}, "window is a number of samples from 1, got -1"),
        ({"limit_s": 0}, "limit_s is 1 to 600 seconds"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        AudioInput(**options)


@pytest.mark.slow
@pytest.mark.shared_data
def test_yamnet_tells_the_sounds_of_esc10_apart(shared_data: Path) -> None:
    """Each sound's nearest neighbor in the four other folds is of its kind: .9475 elsewhere."""
    rows = pq.read_table(shared_data / "esc10/items.parquet").to_pylist()
    items = [
        Item(item_id=row["item_id"], title="", audio_path=shared_data / "esc10" / row["audio_path"])
        for row in rows
    ]
    model = TfliteFile(shared_data / "encoders/yamnet.tflite", output="121", num_threads=1)
    embedder = FileAudioEmbedder(model, takes=AudioInput(hop=7_680), dim=1024)

    embeddings, rejects = embedder.embed(items)

    assert rejects == []
    cosines_NN = embeddings.vectors_ND @ embeddings.vectors_ND.T
    folds_N, labels_N = (np.array([row[name] for row in rows]) for name in ("fold", "label"))
    cosines_NN[folds_N[:, None] == folds_N] = -2
    assert (labels_N[cosines_NN.argmax(axis=1)] == labels_N).mean() >= 0.94
