"""Vectors and the space they live in: rows of two spaces can never meet.

Shape legend: N items, D dimensions.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from embedders.items import Modality

NORM_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """What makes two vectors comparable: the same weights, the same preparation, the same length.

    Feast versions schemas, not weights, so a swapped model of equal dimension is invisible to it.
    The space's id therefore hashes every fact below, and is part of each view's name.
    """

    modality: Modality | None
    """None for vectors that fuse several modalities, such as the ranker's item tokens."""
    encoder: str
    """The encoder's name, e.g. `minilm` or `lightgcn`."""
    revision: str
    """Of the weights: a commit, a digest of the file, or of the training data and seed."""
    dim: int
    preprocessing: str = ""
    """Everything done before the encoder, in words that change when the result does."""
    is_normalized: bool = True
    """Every vector has unit length, so that the inner product is the cosine."""

    def __post_init__(self) -> None:
        if self.dim < 1:
            raise ValueError(f"a space needs at least one dimension, got {self.dim}")

    @property
    def space_id(self) -> str:
        """`<modality or fused>_<encoder>_<8 hex digits>`: fit for a file, view or column name."""
        facts = json.dumps(asdict(self), sort_keys=True)
        digest = hashlib.sha256(facts.encode()).hexdigest()[:8]
        slug = re.sub(r"[^a-z0-9]+", "_", self.encoder.lower()).strip("_")[:32]
        return f"{self.modality or 'fused'}_{slug}_{digest}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Embeddings:
    """Vectors of distinct items (or users) in one space, checked once, here.

    Raises:
        ValueError: a wrong shape, a value that is not finite, a repeated id, or a vector without
            unit length in a normalized space; the message names the first id at fault.
    """

    space: Space
    item_ids: Sequence[str]
    vectors_ND: NDArray[np.float32]

    def __post_init__(self) -> None:
        expected = (len(self.item_ids), self.space.dim)
        if self.vectors_ND.shape != expected:
            raise ValueError(
                f"{self.space.space_id}: expected vectors of shape {expected}, "
                f"got {self.vectors_ND.shape}"
            )
        if self.vectors_ND.dtype != np.float32:
            found = self.vectors_ND.dtype
            raise ValueError(f"{self.space.space_id}: expected float32, got {found}")
        if len(set(self.item_ids)) != len(self.item_ids):
            raise ValueError(f"{self.space.space_id}: an id occurs twice")
        is_bad_N = ~np.isfinite(self.vectors_ND).all(axis=1)
        if self.space.is_normalized and not is_bad_N.any():
            norms_N = np.linalg.norm(self.vectors_ND, axis=1)
            is_bad_N = np.abs(norms_N - 1) > NORM_TOLERANCE
        if is_bad_N.any():
            first = self.item_ids[int(np.argmax(is_bad_N))]
            raise ValueError(
                f"{self.space.space_id}: {int(is_bad_N.sum())} vectors are not finite or not of "
                f"unit length, the first belongs to {first!r}"
            )

    def __len__(self) -> int:
        return len(self.item_ids)


def normalize(vectors_ND: NDArray[np.floating]) -> NDArray[np.float32]:
    """Rows scaled to unit length, in float32. A row of zeros stays a row of zeros."""
    wide_ND = np.asarray(vectors_ND, dtype=np.float64)  # squares of large values overflow float32
    norms_N1 = np.linalg.norm(wide_ND, axis=1, keepdims=True)
    return (wide_ND / np.where(norms_N1 > 0, norms_N1, 1)).astype(np.float32)
