"""Items in, their pictures' vectors by a model file out.

The file says how large its pictures are, where their colors stand and what numbers it takes. Only
what the numbers mean it does not say: see `ImageInput`.

Shape legend: N pictures, H height, W width, C the three colors, D dimensions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from embedders.base import Embedder
from embedders.items import Item, Modality
from embedders.media import file_digest
from embedders.model_file import ModelFile, RowRunner, Tensor
from embedders.picture import read_picture
from embedders.vectors import Space, normalize

Layout = Literal["NHWC", "NCHW"]
Resize = Literal["stretch", "crop"]
COLORS = 3
SIDES_PX = range(8, 2049)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageInput:
    """What the numbers of a file's input mean; None where that follows from the file."""

    layout: Layout | None = None
    """Colors last, or first; None where the input's shape tells."""
    size: int | None = None
    """Height and width in pixels, for a file that takes any."""
    resize: Resize = "stretch"
    """`stretch` to the wanted shape, or `crop` the middle of it out; bilinear."""
    value_range: tuple[float, float] | None = None
    """What black and white become: 0 and 1 where the input is of floats. Where it is of whole
    numbers, the 256 levels are those of its type, unless a range says otherwise."""
    mean: tuple[float, float, float] | None = None
    """Of red, green and blue, subtracted after that."""
    std: tuple[float, float, float] | None = None
    """By which they are divided then."""

    def __post_init__(self) -> None:
        for name, kind in (("layout", Layout), ("resize", Resize)):
            if (seen := getattr(self, name)) is not None and seen not in get_args(kind):
                raise ValueError(f"{name} is one of {', '.join(get_args(kind))}, got {seen!r}")
        if self.size is not None and self.size not in SIDES_PX:
            raise ValueError(f"size is {SIDES_PX[0]} to {SIDES_PX[-1]} pixels, got {self.size}")
        if self.value_range is not None and self.value_range[0] == self.value_range[1]:
            raise ValueError(f"value_range needs two different values, got {self.value_range}")
        for name in ("mean", "std"):
            seen = getattr(self, name)
            if seen is not None and (len(seen) != COLORS or not np.isfinite(seen).all()):
                raise ValueError(f"{name} needs a number for each of three colors, got {seen}")
        if self.std is not None and not all(self.std):
            raise ValueError(f"std must not be 0, got {self.std}")


class FileImageEmbedder(Embedder):
    """Picture vectors by a model file."""

    rows_per_batch = 256  # a picture of 224x224 waits as 0.15 MB

    def __init__(
        self,
        model: ModelFile,
        *,
        takes: ImageInput | None = None,
        batch_size: int = 16,
        dim: int | None = None,
    ) -> None:
        """Look at the file's input, and run it twice.

        Args:
            model: The opened file.
            takes: What the input's numbers mean.
            batch_size: How many pictures run at once where the file takes any number.
            dim: The length that vectors must have; None takes what the file gives.

        Raises:
            ValueError: an input that holds no colored pictures, something that has to be said, or
                an output that is no vector or has another length.
        """
        self._takes = takes or ImageInput()
        self._model = model
        self._layout, self._size_hw = _picture_shape(model, self._takes)
        # Noise of two kinds: an output that does not change with them depends on nothing.
        random = np.random.default_rng(0)
        dark, bright = (
            random.integers(low, low + 128, (*self._size_hw, COLORS), dtype=np.uint8)
            for low in (0, 128)
        )
        self._runner = RowRunner(
            model,
            probes=(self._row(dark), self._row(bright)),
            pool=self._vector,
            batch_size=batch_size,
            dim=dim,
        )
        height, width = self._size_hw
        self.space = Space(
            modality=Modality.IMAGE,
            encoder=model.path.stem,
            revision=model.revision,
            dim=self._runner.dim,
            preprocessing=(
                f"upright RGB over white, {self._takes.resize} to {width}x{height} bilinear; "
                f"{_numbers(model.input, self._takes)}; {self._layout}; output "
                f"{model.output_number}"
            ),
        )

    def fingerprint(self, item: Item) -> str | None:
        """The sha256 of the picture's file."""
        return None if item.image_path is None else file_digest(item.image_path)

    def load(self, item: Item) -> NDArray[np.uint8]:
        """The picture in the wanted size, [H, W, C]."""
        assert item.image_path is not None, "load follows a fingerprint"
        height, width = self._size_hw
        picture = read_picture(item.image_path, wanted_px=max(height, width))
        if self._takes.resize == "crop":
            picture = ImageOps.fit(picture, (width, height), Image.Resampling.BILINEAR)
        else:
            picture = picture.resize((width, height), Image.Resampling.BILINEAR)
        return np.asarray(picture)

    def encode(self, contents: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Pictures as `load` gave them -> unit vectors [N, D]."""
        if not contents:
            return np.zeros((0, self.space.dim), dtype=np.float32)
        return normalize(self._runner.run([self._row(picture_HWC) for picture_HWC in contents]))

    def _row(self, picture_HWC: NDArray[np.uint8]) -> NDArray[Any]:
        """A picture as the input takes it, with a leading axis of 1."""
        tensor, takes = self._model.input, self._takes
        numbers: NDArray[Any]
        if _holds_levels(tensor, takes):
            lowest = -128 if tensor.dtype == np.int8 else 0
            numbers = (picture_HWC.astype(np.int16) + lowest).astype(tensor.dtype)
        else:
            low, high = takes.value_range or (0.0, 1.0)
            real_HWC = low + picture_HWC.astype(np.float32) * np.float32((high - low) / 255)
            if takes.mean is not None:
                real_HWC -= np.array(takes.mean, dtype=np.float32)
            if takes.std is not None:
                real_HWC /= np.array(takes.std, dtype=np.float32)
            numbers = tensor.quantized(real_HWC)
        return (numbers if self._layout == "NHWC" else numbers.transpose(2, 0, 1))[None]

    def _vector(self, output: NDArray[np.float32]) -> NDArray[np.float32]:
        """One picture's output, all of whose axes but one are of 1, as a vector [D]."""
        if sum(length > 1 for length in output.shape) > 1:
            raise ValueError(
                f"{self._model.path}: the output {self._model.output} is a map of shape "
                f"{list(output.shape)}; choose the pooled one by `output`"
            )
        return output.reshape(-1)


def _picture_shape(model: ModelFile, takes: ImageInput) -> tuple[Layout, tuple[int, int]]:
    """Where the colors stand, and height and width."""
    tensor = model.input
    if len(tensor.shape) != 4 or tensor.shape[0] not in (None, 1):
        raise ValueError(
            f"{model.path} takes {tensor}, expected pictures one by one or any number of them: "
            "[1 or any, height, width, 3] or [1 or any, 3, height, width]"
        )
    ends: dict[Layout, int | None] = {"NHWC": tensor.shape[3], "NCHW": tensor.shape[1]}
    fitting = [each for each, end in ends.items() if end in (None, COLORS)]
    # Three colors that are stated tell, where the other end may have any length.
    stated = [each for each in fitting if ends[each] == COLORS]
    found = [takes.layout] if takes.layout else stated or fitting
    if len(found) != 1 or found[0] not in fitting:
        raise ValueError(
            f"{model.path} takes {tensor}; its three colors can stand as "
            f"{' or '.join(fitting) or 'neither NHWC nor NCHW'}, and `layout` is "
            f"{takes.layout or 'not given'}: say by `layout` which it is"
        )
    layout = found[0]
    height, width = tensor.shape[1:3] if layout == "NHWC" else tensor.shape[2:]
    if takes.size is None and None in (height, width):
        raise ValueError(f"{model.path} takes {tensor}: say by `size` how many pixels a side has")
    if takes.size is not None and not {height, width} <= {None, takes.size}:
        raise ValueError(
            f"{model.path} takes {tensor}, not pictures of size {takes.size}: leave `size` out"
        )
    return layout, (height or takes.size or 0, width or takes.size or 0)


def _holds_levels(tensor: Tensor, takes: ImageInput) -> bool:
    """Whether the levels go in as they are, rather than as the numbers they stand for."""
    is_told = (takes.value_range, takes.mean, takes.std) != (None, None, None)
    return np.issubdtype(tensor.dtype, np.integer) and not is_told


def _numbers(tensor: Tensor, takes: ImageInput) -> str:
    name = str(np.dtype(tensor.dtype))
    if _holds_levels(tensor, takes):
        return f"levels as {name}"
    low, high = takes.value_range or (0.0, 1.0)
    words = f"{name} {low:g} to {high:g}"
    words += f", mean {takes.mean}" if takes.mean else ""
    return words + (f", std {takes.std}" if takes.std else "")
