"""A hub id or a folder in, a pinned checkpoint and its loaded encoder out.

A hub id needs the full commit: a branch or a tag can move, and vectors of two sets of weights
must never share a space. A folder is pinned by the digest of its files. Weights are read from
safetensors alone, since a pickle runs code, and code from the hub only where the caller says so.

The precision is part of a space, since it moves the vectors; the device is not. So is an adapter
that is put on top of a checkpoint: its digest stands behind the checkpoint's revision.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TypedDict, get_args

import numpy as np
from numpy.typing import NDArray

from embedders import torchaudio_cpu
from embedders.adapter import resolve as resolve_adapter
from embedders.items import Modality
from embedders.vectors import Space

torchaudio_cpu.load()

import torch  # noqa: E402
from transformers.utils import logging  # noqa: E402

Dtype = Literal["float32", "bfloat16", "float16"]
Prepared = dict[str, NDArray[Any]]  # one content as a model's inputs, without the batch's axis

HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
COMMIT = re.compile(r"[0-9a-f]{40}")
PINNED_SUFFIXES = {".safetensors", ".json", ".txt", ".model", ".jinja", ".py"}

# Weights that an encoder may lack: a pooling layer, which is then left unused, and the vector
# that stands for masked audio while training. All else would be filled with random numbers.
POOLER = "pooler."
OPTIONAL = ("pooler.", "masked_spec_embed")

DTYPES = {name: getattr(torch, name) for name in get_args(Dtype)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Weights that can no longer change under the vectors made with them."""

    source: str
    """The hub id, or the folder's path."""
    name: str
    """The last part of `source`, for the space's encoder."""
    revision: str
    """For the space: the hub's commit, or the digest of the folder's files."""
    is_local: bool
    until: datetime | None = None
    """The cut of the events that an adapter on top was tuned on."""

    @property
    def options(self) -> dict[str, Any]:
        """What every `from_pretrained` is to be told."""
        if self.is_local:
            return {"local_files_only": True}
        return {"revision": self.revision}


def resolve(model: str | Path, *, revision: str | None = None) -> Checkpoint:
    """Pin a model.

    Args:
        model: An existing folder in Hugging Face format, or a hub id such as `org/name`.
        revision: The hub's commit of 40 hex digits; none for a folder.

    Raises:
        ValueError: not a folder and not a hub id, a hub id without a commit, a folder with one,
            or a folder without safetensors.
    """
    folder = Path(model)
    if model != "" and folder.is_dir():  # an empty path would be the working folder
        if revision is not None:
            raise ValueError(
                f"{folder} is a folder, pinned by the digest of its files; leave out the revision"
                f" {revision!r}"
            )
        return Checkpoint(
            source=str(folder),
            name=folder.resolve().name,
            revision=_digest(folder),
            is_local=True,
        )
    if isinstance(model, Path) or not HUB_ID.fullmatch(model):
        raise ValueError(f"{str(model)!r} is neither an existing folder nor a hub id (org/name)")
    if revision is None or not COMMIT.fullmatch(revision):
        raise ValueError(
            f"pin a revision of {model!r}: the full commit (40 hex digits) from the model's page "
            f"on the hub; got {revision!r}, and a branch or a tag can move"
        )
    return Checkpoint(
        source=model, name=model.rpartition("/")[2], revision=revision, is_local=False
    )


def _digest(folder: Path) -> str:
    """The sha256 over names and digests of the files that make a model what it is."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix in PINNED_SUFFIXES)
    if not any(path.suffix == ".safetensors" for path in paths):
        raise ValueError(
            f"{folder} holds no *.safetensors; save the model again with save_pretrained "
            "(weights in pickle files are never read)"
        )
    total = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        total.update(f"{path.relative_to(folder).as_posix()} {digest}\n".encode())
    return total.hexdigest()


@contextmanager
def quiet() -> Iterator[None]:
    """Load without progress bars and without the table of weights that were left out."""
    had_bar, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if had_bar:
            logging.enable_progress_bar()


class CheckpointOptions(TypedDict, total=False):
    """What every encoder of a checkpoint can be told besides the model; all may be left out."""

    revision: str | None
    """The hub's commit; none for a folder."""
    trust_remote_code: bool
    """Run code that comes with a hub model; off."""
    dtype: Dtype
    """Of the weights and of what the model computes: float32. Vectors are float32 always."""
    device: str
    """Where to run, as torch names it; `auto` takes CUDA where there is any, else the CPU."""
    dim: int | None
    """How long the vectors must be; None takes what the model gives."""
    adapter: str | Path | None
    """A folder in peft's format, put on top of the weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedEncoder:
    """An encoder ready to run: in evaluation mode, on its device."""

    checkpoint: Checkpoint
    model: Any
    has_pooler: bool
    """The checkpoint holds trained weights for whatever pooling layer the class has."""
    device: str
    dtype: Dtype
    dim: int | None
    """As declared; `space` checks it."""
    trust_remote_code: bool

    def companion(self, auto_class: Any, **options: Any) -> Any:
        """What prepares the model's inputs, of the same checkpoint: tokenizer or processor."""
        with quiet():
            return auto_class.from_pretrained(
                self.checkpoint.source,
                trust_remote_code=self.trust_remote_code,
                **options,
                **self.checkpoint.options,
            )

    def inputs(self, batch: Sequence[Prepared]) -> dict[str, torch.Tensor]:
        """Contents side by side on the device, floats as the model wants them.

        Arrays shorter than the longest are filled up with zeros at their end.
        """
        tensors = {}
        for name in batch[0]:
            tensor = torch.from_numpy(_stacked([content[name] for content in batch]))
            floats = {"dtype": DTYPES[self.dtype]} if tensor.is_floating_point() else {}
            tensors[name] = tensor.to(self.device, **floats)
        return tensors

    def space(self, modality: Modality, *, dim: int, preprocessing: str) -> Space:
        """The space of vectors of `dim` dimensions; see `space_of`."""
        return space_of(
            self.checkpoint,
            modality,
            dims=(dim, self.dim),
            preprocessing=preprocessing + precision(self.dtype),
        )


def load_encoder(
    model: str | Path,
    auto_class: Any,
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
    dtype: Dtype = "float32",
    device: str = "auto",
    dim: int | None = None,
    adapter: str | Path | None = None,
) -> LoadedEncoder:
    """Load a checkpoint; of an encoder-decoder only the encoder is kept.

    Args:
        model: A folder or a hub id.
        auto_class: The class of transformers that loads it.
        revision: These and the others: as in `CheckpointOptions`.

    Raises:
        ValueError: the model is not pinned, an unknown dtype or device, the checkpoint lacks
            weights of the encoder, which would run on random numbers, or the adapter does not fit.
    """
    checkpoint = resolve(model, revision=revision)
    place = device_of(device)
    with quiet():
        loaded, report = auto_class.from_pretrained(
            checkpoint.source,
            dtype=torch_dtype(dtype),
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
            **checkpoint.options,
        )
    missing = sorted(report["missing_keys"])
    lacking = [key for key in missing if not any(part in key for part in OPTIONAL)]
    if lacking:
        raise ValueError(
            f"{checkpoint.source} lacks {len(lacking)} weights of {type(loaded).__name__}, the "
            f"first is {lacking[0]!r}; take a checkpoint of the whole encoder"
        )
    if getattr(loaded.config, "is_encoder_decoder", False):
        loaded = loaded.get_encoder()
    network, checkpoint = adapt(loaded, checkpoint, adapter)
    return LoadedEncoder(
        checkpoint=checkpoint,
        model=network.to(place).eval(),
        has_pooler=not any(POOLER in key for key in missing),
        device=place,
        dtype=dtype,
        dim=dim,
        trust_remote_code=trust_remote_code,
    )


def adapt(
    network: Any, checkpoint: Checkpoint, adapter: str | Path | None
) -> tuple[Any, Checkpoint]:
    """A network and its checkpoint with an adapter on top; None leaves both as they are.

    Raises:
        ValueError: the adapter is missing, damaged or made for other weights.
    """
    if adapter is None:
        return network, checkpoint
    name = checkpoint.name if checkpoint.is_local else checkpoint.source
    found = resolve_adapter(Path(adapter), name=name, revision=checkpoint.revision)
    # Here, since peft takes seconds to import, and most encoders need none of it.
    from embedders.adapted import put

    revision = f"{checkpoint.revision}+{found.revision}"
    return put(network, found), replace(checkpoint, revision=revision, until=found.until)


def device_of(name: str) -> str:
    """`auto` is CUDA where torch sees one, else the CPU; any other name stands for itself.

    Raises:
        ValueError: torch knows no such device.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"no device {name!r}: auto, cpu, cuda or cuda:<number>") from error
    return name


def torch_dtype(name: str) -> torch.dtype:
    """A precision by its name.

    Raises:
        ValueError: a name that is not allowed.
    """
    if name not in DTYPES:
        raise ValueError(f"dtype is one of {get_args(Dtype)}, got {name!r}")
    dtype: torch.dtype = DTYPES[name]
    return dtype


def precision(dtype: Dtype) -> str:
    """What a space says of the precision: of float32 nothing, so that its spaces stay."""
    return "" if dtype == "float32" else f"; in {dtype}"


def space_of(
    checkpoint: Checkpoint, modality: Modality, *, dims: tuple[int, int | None], preprocessing: str
) -> Space:
    """The space of a checkpoint's vectors.

    Args:
        checkpoint: Gives name and revision.
        modality: Of the contents.
        dims: The vectors' length as the model gives it, and as declared (None: not at all).
        preprocessing: All that is done to a content, the precision included.

    Raises:
        ValueError: the declared length is another.
    """
    dim, declared = dims
    if declared not in (None, dim):
        raise ValueError(
            f"{checkpoint.source} gives vectors of {dim} dimensions, declared are {declared}; "
            "correct `dim` or leave it out"
        )
    return Space(
        modality=modality,
        encoder=checkpoint.name,
        revision=checkpoint.revision,
        dim=dim,
        preprocessing=preprocessing,
    )


def _stacked(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    shape = np.max([array.shape for array in arrays], axis=0)
    if all(array.shape == tuple(shape) for array in arrays):
        return np.stack(arrays)
    filled = np.zeros((len(arrays), *shape), dtype=arrays[0].dtype)
    for row, array in zip(filled, arrays, strict=True):
        row[tuple(slice(size) for size in array.shape)] = array
    return filled
