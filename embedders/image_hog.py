"""Items in, their pictures' shapes and colors as vectors out, without any weights.

Three parts of equal weight: histograms of oriented gradients (Dalal & Triggs, CVPR 2005) for
shape, a histogram over hue, saturation and value for color, and the mean color of a coarse grid
for layout. Each part is scaled to sum 1 and rooted, so that its inner product with another
picture's part is their Bhattacharyya coefficient: no part and no single bin dominates, as it
would where the raw values differ in scale.

Shape legend: N pictures, D dimensions, S side of the small picture, C channels.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.feature import hog

from embedders.base import Embedder
from embedders.items import Item, Modality
from embedders.media import file_digest
from embedders.picture import read_picture
from embedders.vectors import Space, normalize

SIDE = 64
CELL = 16  # 4x4 cells: fine enough for a poster's composition, coarse enough to forgive a shift
ORIENTATIONS = 9
BLOCK = 2
HUES, SATURATIONS, VALUES = 12, 4, 4
GRID = 4

BLOCKS = SIDE // CELL - BLOCK + 1
DIM = BLOCKS**2 * BLOCK**2 * ORIENTATIONS + HUES * SATURATIONS * VALUES + GRID**2 * 3


class HogEmbedder(Embedder):
    """Picture vectors from gradients and colors: quick, fixed, and in need of no download."""

    def __init__(self) -> None:
        self.space = Space(
            modality=Modality.IMAGE,
            encoder="hog",
            revision="1",
            dim=DIM,
            preprocessing=(
                f"upright RGB over white, squeezed to {SIDE}x{SIDE}; hog {ORIENTATIONS}x{CELL}px "
                f"blocks {BLOCK}, hsv {HUES}x{SATURATIONS}x{VALUES}, grid {GRID}x{GRID}; each part "
                "to sum 1, rooted"
            ),
        )

    def fingerprint(self, item: Item) -> str | None:
        """The sha256 of the picture's file."""
        return None if item.image_path is None else file_digest(item.image_path)

    def load(self, item: Item) -> NDArray[np.uint8]:
        """The picture squeezed to a small square, [S, S, 3]."""
        assert item.image_path is not None, "load follows a fingerprint"
        picture = read_picture(item.image_path, wanted_px=SIDE)
        return np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR))

    def encode(self, contents: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Small squares -> unit vectors [N, D]."""
        vectors_ND = np.zeros((len(contents), DIM), dtype=np.float32)
        for row, picture_SSC in enumerate(contents):
            parts = (_shape(picture_SSC), _colors(picture_SSC), _layout(picture_SSC))
            vectors_ND[row] = np.concatenate([_root(part) for part in parts])
        return normalize(vectors_ND)


def _shape(picture_SSC: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Oriented gradients of the gray picture; all zero for a picture of one color."""
    gray_SS = np.asarray(Image.fromarray(picture_SSC).convert("L"), dtype=np.float64) / 255
    gradients: NDArray[np.float64] = hog(
        gray_SS,
        orientations=ORIENTATIONS,
        pixels_per_cell=(CELL, CELL),
        cells_per_block=(BLOCK, BLOCK),
        block_norm="L2-Hys",
    )
    return gradients


def _colors(picture_SSC: NDArray[np.uint8]) -> NDArray[np.float64]:
    """How many pixels fall on each hue, saturation and value."""
    hsv_SSC = np.asarray(Image.fromarray(picture_SSC).convert("HSV"), dtype=np.int64)
    bins = hsv_SSC * (HUES, SATURATIONS, VALUES) // 256
    flat = (bins[..., 0] * SATURATIONS + bins[..., 1]) * VALUES + bins[..., 2]
    counts = np.bincount(flat.ravel(), minlength=HUES * SATURATIONS * VALUES)
    return counts.astype(np.float64)


def _layout(picture_SSC: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The mean color of each field of a coarse grid; all zero for a black picture."""
    step = SIDE // GRID
    fields = picture_SSC.reshape(GRID, step, GRID, step, 3).mean(axis=(1, 3))
    return np.asarray(fields, dtype=np.float64).ravel()


def _root(part: NDArray[np.float64]) -> NDArray[np.float64]:
    """A part scaled to sum 1 and rooted, hence of unit length; zeros stay zeros."""
    total = part.sum()
    return np.sqrt(part / total) if total > 0 else part
