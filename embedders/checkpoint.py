"""A hub id or a folder in, a pinned checkpoint and its loaded encoder out.

A hub id needs the full commit: a branch or a tag can move, and vectors of two sets of weights
must never share a space. A folder is pinned by the digest of its files. Weights are read from
safetensors alone, since a pickle runs code, and code from the hub only where the caller says so.
"""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedders import torchaudio_cpu

torchaudio_cpu.load()

import torch  # noqa: E402
from transformers.utils import logging  # noqa: E402

HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
COMMIT = re.compile(r"[0-9a-f]{40}")
PINNED_SUFFIXES = {".safetensors", ".json", ".txt", ".model", ".jinja", ".py"}

# Weights that an encoder may lack: a pooling layer, which is then left unused, and the vector
# that stands for masked audio while training. All else would be filled with random numbers.
POOLER = "pooler."
OPTIONAL = ("pooler.", "masked_spec_embed")


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


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedEncoder:
    """An encoder ready to run: fp32, in evaluation mode, on its device."""

    model: Any
    has_pooler: bool
    """The checkpoint holds trained weights for whatever pooling layer the class has."""


def load_encoder(
    checkpoint: Checkpoint, auto_class: Any, *, device: str, trust_remote_code: bool
) -> LoadedEncoder:
    """Load a checkpoint; of an encoder-decoder only the encoder is kept.

    Raises:
        ValueError: the checkpoint lacks weights of the encoder, which would run on random numbers.
    """
    with quiet():
        model, report = auto_class.from_pretrained(
            checkpoint.source,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
            **checkpoint.options,
        )
    missing = sorted(report["missing_keys"])
    lacking = [key for key in missing if not any(part in key for part in OPTIONAL)]
    if lacking:
        raise ValueError(
            f"{checkpoint.source} lacks {len(lacking)} weights of {type(model).__name__}, the "
            f"first is {lacking[0]!r}; take a checkpoint of the whole encoder"
        )
    if getattr(model.config, "is_encoder_decoder", False):
        model = model.get_encoder()
    return LoadedEncoder(
        model=model.to(device).eval(),
        has_pooler=not any(POOLER in key for key in missing),
    )
