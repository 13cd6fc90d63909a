"""Pictures of any common kind come out upright in RGB; the rest names what to mend."""

import contextlib
import io
import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from embedders import picture
from embedders.base import BadContent
from embedders.picture import read_picture
from tests.embedders import tiny


def corner(path: Path) -> tuple[float, ...]:
    pixel = read_picture(path).getpixel((0, 0))
    assert isinstance(pixel, tuple)
    return pixel


def test_the_cameras_orientation_is_applied(tmp_path: Path) -> None:
    path = tmp_path / "turned.jpg"
    image = Image.new("RGB", (40, 20), "blue")
    exif = image.getexif()
    exif[0x0112] = 6  # turn a quarter clockwise to see it upright
    image.save(path, exif=exif)
    assert read_picture(path).size == (20, 40)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_lies_over_white(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "clear.png"
    clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    clear.convert(mode).save(path, **({"transparency": 0} if mode == "P" else {}))
    assert corner(path) == (255, 255, 255)


def test_half_transparency_is_mixed_with_white(tmp_path: Path) -> None:
    path = tmp_path / "half.png"
    Image.new("RGBA", (8, 8), (0, 0, 0, 128)).save(path)
    assert corner(path) == (127, 127, 127)


def test_gray_of_16_bits_keeps_its_range(tmp_path: Path) -> None:
    path = tmp_path / "gray.png"
    Image.fromarray(np.full((8, 8), 32896, dtype=np.uint16)).save(path)
    assert corner(path) == (128, 128, 128)


@pytest.mark.parametrize("mode", ["1", "L", "CMYK", "YCbCr"])
def test_every_common_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "mode.tiff"
    Image.new("RGB", (8, 8), "white").convert(mode).save(path)
    read = read_picture(path)
    assert read.mode == "RGB"
    assert np.asarray(read).min() > 250


def test_samples_of_32_bits_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "float.tiff"
    Image.new("F", (8, 8), 0.5).save(path)
    with pytest.raises(BadContent, match=r"float\.tiff: 32-bit samples.*8-bit RGB"):
        read_picture(path)


def test_of_an_animation_the_first_frame_counts(tmp_path: Path) -> None:
    path = tmp_path / "moves.gif"
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert corner(path) == (255, 0, 0)


def test_a_large_jpeg_is_decoded_small_but_not_below_twice_the_wanted_side(tmp_path: Path) -> None:
    path = tmp_path / "large.jpg"
    tiny.picture(0, width=1024, height=768).save(path)
    assert read_picture(path).size == (1024, 768)
    assert read_picture(path, wanted_px=64).size == (256, 192)


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_picture_names_the_file_and_what_to_mend(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "poster.png"
    path.write_bytes(content)
    with pytest.raises(
        BadContent, match=r"poster\.png: not a whole picture .*replace it by a JPEG"
    ):
        read_picture(path)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp"])
def test_a_picture_that_is_cut_off_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"cut.{suffix}"
    tiny.picture(1, width=200, height=200).save(path)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(BadContent, match=f"cut.{suffix}"):
        read_picture(path)


def test_formats_that_run_other_programs_are_not_tried(tmp_path: Path) -> None:
    path = tmp_path / "drawing.eps"
    Image.new("RGB", (8, 8)).save(path)
    with pytest.raises(BadContent, match="not a whole picture"):
        read_picture(path)


def test_a_picture_of_no_size_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.png"
    path.write_bytes(png_header(0, 0))
    with pytest.raises(BadContent, match=r"empty\.png"):
        read_picture(path)


@pytest.mark.parametrize("side", [10_000, 20_000])  # above Pillow's warning, above its error
def test_a_picture_that_claims_too_many_pixels_is_refused_undecoded(
    tmp_path: Path, side: int
) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_header(side, side))
    with pytest.raises(BadContent, match=r"bomb\.png"):
        read_picture(path)


def test_the_limit_of_pixels_is_stated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture, "LIMIT_PIXELS", 100)
    path = tmp_path / "large.png"
    Image.new("RGB", (11, 10)).save(path)
    with pytest.raises(BadContent, match="11x10 pixels exceed the limit of 100; shrink"):
        read_picture(path)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "gif", "bmp", "tiff"])
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's on damaged metadata
def test_no_damage_raises_anything_but_bad_content(tmp_path: Path, suffix: str) -> None:
    buffer = io.BytesIO()
    tiny.picture(2).save(buffer, {"jpg": "JPEG"}.get(suffix, suffix.upper()))
    whole = buffer.getvalue()
    path = tmp_path / f"damaged.{suffix}"
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(random.randint(1, 8)):
            damaged[random.randrange(len(damaged))] = random.randrange(256)
        path.write_bytes(damaged[: random.randint(1, len(damaged))])
        with contextlib.suppress(BadContent):
            assert read_picture(path).mode == "RGB"


def png_header(width: int, height: int) -> bytes:
    """A PNG that states a size and holds no pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    end = b"\0\0\0\0IEND" + struct.pack(">I", zlib.crc32(b"IEND"))
    return b"\x89PNG\r\n\x1a\n" + chunk + end
