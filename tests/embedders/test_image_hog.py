"""Picture vectors without weights keep the contract and follow shape and color."""

from pathlib import Path
from time import process_time

import numpy as np
import pytest
from PIL import Image, ImageDraw

from embedders.image_hog import DIM, SIDE, HogEmbedder
from embedders.items import Item
from tests.embedders import tiny
from tests.embedders.contract import EmbedderContract, Make, World, vectors

POSTERS = 20


class TestContract(EmbedderContract):
    @pytest.fixture
    def make(self) -> Make:
        return lambda _batch_size: HogEmbedder()

    @pytest.fixture
    def world(self, tmp_path: Path) -> World:
        return image_world(tmp_path)


def image_world(folder: Path) -> World:
    """Shared in form with the other picture tests: good files, a copy, and ruined ones."""
    good = tiny.image_items(folder)
    assert good[0].image_path is not None
    copy, cut, note = folder / "copy.png", folder / "cut.png", folder / "note.jpg"
    copy.write_bytes(good[0].image_path.read_bytes())
    cut.write_bytes(good[0].image_path.read_bytes()[:80])
    note.write_text("not a picture")
    return World(
        good=good,
        twin=Item(item_id="twin", title="", image_path=copy),
        bare=Item(item_id="bare", title="no picture"),
        damaged=[
            Item(item_id=path.name, title="", image_path=path)
            for path in (cut, note, folder / "gone.png")
        ],
    )


def drawn(folder: Path, name: str, *, shape: str, color: str, shift: int = 0) -> Item:
    """One large shape on gray ground."""
    image = Image.new("RGB", (128, 128), (128, 128, 128))
    box = (24 + shift, 24, 104 + shift, 104)
    draw = ImageDraw.Draw(image)
    if shape == "disc":
        draw.ellipse(box, fill=color)
    else:
        for top in range(24, 104, 16):
            draw.rectangle((box[0], top, box[2], top + 7), fill=color)
    image.save(folder / f"{name}.png")
    return Item(item_id=name, title="", image_path=folder / f"{name}.png")


def test_shape_and_color_both_bring_pictures_together(tmp_path: Path) -> None:
    items = [
        drawn(tmp_path, "disc", shape="disc", color="red"),
        drawn(tmp_path, "moved", shape="disc", color="red", shift=3),
        drawn(tmp_path, "blue disc", shape="disc", color="blue"),
        drawn(tmp_path, "stripes", shape="stripes", color="red"),
        drawn(tmp_path, "blue stripes", shape="stripes", color="blue"),
    ]
    disc, moved, blue, stripes, neither = vectors(HogEmbedder(), items)
    assert disc @ moved > max(disc @ blue, disc @ stripes)
    assert min(disc @ blue, disc @ stripes) > disc @ neither


def test_each_part_carries_a_third_of_the_length(tmp_path: Path) -> None:
    (vector,) = vectors(HogEmbedder(), [drawn(tmp_path, "disc", shape="disc", color="red")])
    parts = np.split(vector, [DIM - 48 - 192, DIM - 48])
    np.testing.assert_allclose([part @ part for part in parts], 1 / 3, atol=1e-5)


@pytest.mark.parametrize("color", ["black", "white", "red"])
def test_a_picture_of_one_color_has_a_direction_too(tmp_path: Path, color: str) -> None:
    path = tmp_path / "flat.png"
    Image.new("RGB", (1, 1), color).save(path)
    vectors(HogEmbedder(), [Item(item_id="1", title="", image_path=path)])


def test_content_waits_in_memory_as_a_small_square(tmp_path: Path) -> None:
    (item,) = tiny.image_items(tmp_path)[:1]
    content = HogEmbedder().load(item)
    assert content.shape == (SIDE, SIDE, 3)
    assert content.dtype == np.uint8


def test_a_picture_of_128_pixels_takes_some_milliseconds(tmp_path: Path) -> None:
    embedder = HogEmbedder()
    items = [drawn(tmp_path, str(n), shape="disc", color="red", shift=n) for n in range(20)]
    vectors(embedder, items[:1])
    start = process_time()
    vectors(embedder, items)
    assert (process_time() - start) / len(items) < 0.03  # 3 ms when nothing else runs


@pytest.mark.shared_data
def test_real_posters_have_unit_vectors(shared_data: Path) -> None:
    paths = sorted((shared_data / "movielens" / "media" / "posters").glob("*.jpg"))[:POSTERS]
    items = [Item(item_id=path.stem, title="", image_path=path) for path in paths]
    found = vectors(HogEmbedder(), items)
    assert len(found) == POSTERS
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
