"""A picture file in, one upright 8-bit RGB picture out.

The camera's orientation is applied, transparency lies over white, and of an animation the first
frame counts. Files come from outside: only common formats are tried, and a size limit is checked
before a pixel is decoded.
"""

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from embedders.base import BadContent

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
LIMIT_PIXELS = 50_000_000

# What Pillow's decoders raise on damaged files; the warning, where warnings are errors.
DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    TypeError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


def read_picture(path: Path, *, wanted_px: int | None = None) -> Image.Image:
    """Decode a picture.

    Args:
        path: The file.
        wanted_px: The side that the caller will shrink to; a JPEG much larger is then decoded at
            a half, a quarter or an eighth of its size, never below twice this side.

    Returns:
        A picture in mode RGB.

    Raises:
        BadContent: no picture, damaged, cut off, empty, too large, or of 32-bit samples.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            width, height = image.size
            if width * height > LIMIT_PIXELS:
                raise BadContent(
                    f"{path}: {width}x{height} pixels exceed the limit of {LIMIT_PIXELS:,}; "
                    "shrink the picture"
                )
            if wanted_px is not None:
                image.draft("RGB", (2 * wanted_px, 2 * wanted_px))
            image.load()
            return _flatten(ImageOps.exif_transpose(image), path)
    except BadContent:
        raise
    except DAMAGE as error:
        raise BadContent(
            f"{path}: not a whole picture ({type(error).__name__}: {error}); replace it by a "
            f"{', '.join(FORMATS)} file"
        ) from error


def _flatten(image: Image.Image, path: Path) -> Image.Image:
    """Any mode -> RGB, transparency over white."""
    if image.mode.startswith("I;16"):
        # convert() would clip 16-bit gray at 255 and return a white picture.
        return Image.fromarray((np.asarray(image) // 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise BadContent(f"{path}: 32-bit samples have no known range; save it as 8-bit RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")
