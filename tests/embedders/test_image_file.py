"""Pictures through a model file: shapes, levels, ranges and layouts of known answers."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from ai_edge_litert.schema_py_generated import TensorType
from numpy.typing import NDArray
from onnx import TensorProto
from PIL import Image

from embedders.image_file import FileImageEmbedder, ImageInput
from embedders.items import Item
from embedders.onnx_file import OnnxFile
from embedders.tflite_file import TfliteFile
from tests.embedders.contract import EmbedderContract, Make, World
from tests.embedders.tiny import image_items
from tests.embedders.tiny_files import Shape, save_linear, save_tflite

SIDE = 8
EVERY = 16  # th poster of 3,973
NUM_VALUES = SIDE * SIDE * 3
MIXED = np.random.default_rng(9).standard_normal((NUM_VALUES, 10)).astype(np.float32)
EACH = np.eye(NUM_VALUES, dtype=np.float32)  # the vector is the input itself


def linear(folder: Path, weights: NDArray[np.float32], shape: Shape, **options: Any) -> OnnxFile:
    return OnnxFile(save_linear(folder / "eyes.onnx", weights, shape=shape, **options))


def picture_item(path: Path, pixels: NDArray[np.uint8]) -> Item:
    Image.fromarray(pixels).save(path)
    return Item(item_id=path.stem, title="", image_path=path)


def seen(embedder: FileImageEmbedder, item: Item) -> NDArray[np.float32]:
    """The vector before it is normalized."""
    return embedder._runner.run([embedder._row(embedder.load(item))])[0]


@pytest.fixture
def world(tmp_path: Path) -> World:
    good = image_items(tmp_path)
    (tmp_path / "twin.png").write_bytes((tmp_path / "picture0.png").read_bytes())
    (tmp_path / "torn.jpg").write_bytes((tmp_path / "picture1.jpg").read_bytes()[:200])
    return World(
        good=good,
        twin=Item(item_id="twin", title="", image_path=tmp_path / "twin.png"),
        bare=Item(item_id="bare", title="T"),
        damaged=[
            Item(item_id="torn", title="", image_path=tmp_path / "torn.jpg"),
            Item(item_id="gone", title="", image_path=tmp_path / "gone.jpg"),
        ],
    )


class TestOnnx(EmbedderContract):
    @pytest.fixture
    def make(self, tmp_path: Path) -> Make:
        model = linear(tmp_path, MIXED, ["n", 3, SIDE, SIDE])
        return lambda batch_size: FileImageEmbedder(model, batch_size=batch_size)

    @pytest.fixture
    def world(self, world: World) -> World:
        return world


class TestTflite(EmbedderContract):
    @pytest.fixture
    def make(self, tmp_path: Path) -> Make:
        shape = [1, SIDE, SIDE, 3]
        levels = (TensorType.UINT8, 1 / 128, 128)
        path = save_tflite(tmp_path / "e.tflite", [MIXED.T], shape=shape, levels=levels)
        model = TfliteFile(path)
        return lambda batch_size: FileImageEmbedder(model, batch_size=batch_size)

    @pytest.fixture
    def world(self, world: World) -> World:
        return world


@pytest.fixture
def pixels() -> NDArray[np.uint8]:
    """As large as the input, so that nothing is resized."""
    return np.random.default_rng(4).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("shape", "layout"), [([1, SIDE, SIDE, 3], "NHWC"), ([1, 3, SIDE, SIDE], "NCHW")]
)
def test_the_layout_is_read_off_the_shape(
    tmp_path: Path, pixels: NDArray[np.uint8], shape: Shape, layout: str
) -> None:
    embedder = FileImageEmbedder(linear(tmp_path, EACH, shape))

    found = seen(embedder, picture_item(tmp_path / "p.png", pixels))

    expected = pixels if layout == "NHWC" else pixels.transpose(2, 0, 1)
    np.testing.assert_allclose(found, expected.ravel() / 255, atol=1e-6)
    assert f"; {layout}; " in embedder.space.preprocessing


def test_range_mean_and_deviation_are_applied_in_this_order(
    tmp_path: Path, pixels: NDArray[np.uint8]
) -> None:
    takes = ImageInput(value_range=(-1, 1), mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 2.0))
    embedder = FileImageEmbedder(linear(tmp_path, EACH, [1, SIDE, SIDE, 3]), takes=takes)

    found = seen(embedder, picture_item(tmp_path / "p.png", pixels))

    expected = (pixels / 127.5 - 1 - (0.1, 0.2, 0.3)) / (0.5, 0.25, 2.0)
    np.testing.assert_allclose(found, expected.ravel(), atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "lowest"), [(TensorProto.UINT8, 0), (TensorProto.INT8, -128), (TensorProto.INT32, 0)]
)
def test_whole_numbers_are_the_256_levels_of_their_type(
    tmp_path: Path, pixels: NDArray[np.uint8], kind: int, lowest: int
) -> None:
    embedder = FileImageEmbedder(linear(tmp_path, EACH, [1, SIDE, SIDE, 3], kind=kind))

    found = seen(embedder, picture_item(tmp_path / "p.png", pixels))

    np.testing.assert_array_equal(found, pixels.ravel() + float(lowest))
    assert "; levels as " in embedder.space.preprocessing


def test_a_range_that_is_given_goes_through_the_files_own_scale(
    tmp_path: Path, pixels: NDArray[np.uint8]
) -> None:
    levels = (TensorType.INT8, 1 / 50, -10)
    path = save_tflite(tmp_path / "q.tflite", [EACH], shape=[1, SIDE, SIDE, 3], levels=levels)
    takes = ImageInput(value_range=(0, 2))
    embedder = FileImageEmbedder(TfliteFile(path), takes=takes)

    found = seen(embedder, picture_item(tmp_path / "p.png", pixels))

    np.testing.assert_allclose(found, pixels.ravel() / 127.5, atol=0.011)


def test_a_picture_is_stretched_or_its_middle_is_cropped_out(tmp_path: Path) -> None:
    wide = np.zeros((SIDE, 3 * SIDE, 3), dtype=np.uint8)
    wide[:, SIDE : 2 * SIDE, 0] = 255  # red in the middle
    item = picture_item(tmp_path / "wide.png", wide)
    model = linear(tmp_path, EACH, [1, SIDE, SIDE, 3])

    stretched = FileImageEmbedder(model)
    cropped = FileImageEmbedder(model, takes=ImageInput(resize="crop"))

    assert 0.3 < seen(stretched, item).reshape(-1, 3)[:, 0].mean() < 0.37
    assert seen(cropped, item).reshape(-1, 3)[:, 0].min() == 1
    assert stretched.space != cropped.space


def test_a_file_that_takes_any_size_is_told_one(tmp_path: Path, pixels: NDArray[np.uint8]) -> None:
    model = linear(tmp_path, EACH, ["n", "h", "w", 3])

    with pytest.raises(ValueError, match="say by `size` how many pixels a side has"):
        FileImageEmbedder(model)
    embedder = FileImageEmbedder(model, takes=ImageInput(size=SIDE))

    found = seen(embedder, picture_item(tmp_path / "p.png", pixels))
    np.testing.assert_allclose(found, pixels.ravel() / 255, atol=1e-6)


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_where_the_shape_does_not_tell_the_layout_is_asked_for(tmp_path: Path, layout: Any) -> None:
    model = linear(tmp_path, EACH, ["n", "a", "b", "c"])

    with pytest.raises(ValueError, match=r"as NHWC or NCHW, and `layout` is not given: say by `l"):
        FileImageEmbedder(model, takes=ImageInput(size=SIDE))
    embedder = FileImageEmbedder(model, takes=ImageInput(size=SIDE, layout=layout))
    assert f"; {layout}; " in embedder.space.preprocessing


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ([1, 192], r"expected pictures one by one or any number"),
        ([8, SIDE, SIDE, 3], r"expected pictures one by one or any number"),
        ([1, SIDE, SIDE, 1], r"neither NHWC nor NCHW"),
    ],
)
def test_an_input_that_holds_no_colored_pictures_is_refused(
    tmp_path: Path, shape: Shape, says: str
) -> None:
    weights = np.ones((int(np.prod([int(each) for each in shape[1:]])), 2), np.float32)

    with pytest.raises(ValueError, match=says):
        FileImageEmbedder(linear(tmp_path, weights, shape))


def test_a_layout_or_size_that_contradicts_the_file_is_refused(tmp_path: Path) -> None:
    model = linear(tmp_path, EACH, [1, SIDE, SIDE, 3])

    with pytest.raises(ValueError, match="can stand as NHWC, and `layout` is NCHW"):
        FileImageEmbedder(model, takes=ImageInput(layout="NCHW"))
    with pytest.raises(ValueError, match="not pictures of size 16: leave `size` out"):
        FileImageEmbedder(model, takes=ImageInput(size=16))


def test_a_map_of_features_is_no_vector(tmp_path: Path) -> None:
    path = save_tflite(tmp_path / "m.tflite", [MIXED.T], shape=[1, SIDE, SIDE, 3])

    with pytest.raises(ValueError, match=r"is a map of shape \[1, 8, 8, 3\]; choose the pooled"):
        FileImageEmbedder(TfliteFile(path, output="0"))


def test_the_space_names_the_file_and_all_that_was_done(tmp_path: Path) -> None:
    model = linear(tmp_path, MIXED, ["n", 3, SIDE, SIDE])
    spaces = [
        FileImageEmbedder(model, takes=takes, dim=10).space
        for takes in (
            ImageInput(),
            ImageInput(resize="crop"),
            ImageInput(value_range=(-1, 1)),
            ImageInput(mean=(0.5, 0.5, 0.5)),
            ImageInput(std=(0.5, 0.5, 0.5)),
        )
    ]
    other = FileImageEmbedder(linear(tmp_path, 2 * MIXED, ["n", 3, SIDE, SIDE])).space

    assert len({space.space_id for space in spaces}) == len(spaces)
    assert (spaces[0].encoder, spaces[0].revision, spaces[0].dim) == ("eyes", model.revision, 10)
    assert other.revision != spaces[0].revision


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"layout": "HWC"}, "layout is one of NHWC, NCHW, got 'HWC'"),
        ({"resize": "pad"}, "resize is one of stretch, crop, got 'pad'"),
        ({"size": 0}, "size is 8 to 2048 pixels, got 0"),
        ({"value_range": (1, 1)}, "value_range needs two different values"),
        ({"mean": (0.5,)}, "mean needs a number for each of three colors"),
        ({"std": (1.0, float("nan"), 1.0)}, "std needs a number for each of three colors"),
        ({"std": (1.0, 0.0, 1.0)}, "std must not be 0"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        ImageInput(**options)


@pytest.mark.shared_data
def test_mobilenet_makes_the_vectors_of_real_posters_that_it_made_elsewhere(
    shared_data: Path,
) -> None:
    folder = shared_data / "movielens"
    table = pq.read_table(folder / "vectors/image_mobilenetv2.parquet").sort_by("item_id")
    table = table.take(list(range(0, table.num_rows, EVERY)))
    model = TfliteFile(
        shared_data / "encoders/tf2_mobilenet_v2_1.0_224_ptq.tflite", output="172", num_threads=1
    )
    embedder = FileImageEmbedder(model, dim=1280)
    posters = [
        Item(item_id=item_id, title="", image_path=folder / f"media/posters/{item_id}.jpg")
        for item_id in table["item_id"].to_pylist()
    ]

    embeddings, rejects = embedder.embed(posters)

    assert rejects == []
    theirs_ND = np.array(table["vector"].to_pylist())
    theirs_ND /= np.linalg.norm(theirs_ND, axis=1, keepdims=True)
    assert len(posters) > 200
    assert (embeddings.vectors_ND * theirs_ND).sum(axis=1).min() >= 0.999
