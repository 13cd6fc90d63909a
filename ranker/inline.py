"""Raw bytes of vectors in, checked embeddings out: what a request brings for its own items.

So an item can be ranked that was never published, or one as it will look after a change. Only the
vectors' directions count, as they do where items are published: every row is scaled to unit
length, and one of zeros, which has no direction, is a fault.

Shape legend: N items, D dimensions.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from embedders.vectors import Embeddings, Space, normalize

DTYPES: dict[str, np.dtype[np.floating]] = {"float32": np.dtype("<f4"), "float16": np.dtype("<f2")}
"""What may travel, by name: little-endian, whatever the machines at both ends are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InlineVectors:
    """Vectors that stand in the place of a generation's own, for the candidates of one request.

    The history is read with the generation's own vectors all the same.

    Raises:
        ValueError: two embeddings of one space, or of no modality.
    """

    embeddings: tuple[Embeddings, ...]
    """For each space those of some items, in unit length."""

    def __post_init__(self) -> None:
        spaces = [one.space.space_id for one in self.embeddings]
        if len(set(spaces)) < len(spaces):
            raise ValueError(f"expected one set of vectors for each space, got {spaces}")
        if fused := [one.space.space_id for one in self.embeddings if one.space.modality is None]:
            raise ValueError(f"vectors of {fused} are of no modality: nobody else can make them")

    @property
    def item_ids(self) -> frozenset[str]:
        """The items that have any vector here."""
        return frozenset(item_id for one in self.embeddings for item_id in one.item_ids)


class Raw(Protocol):
    """Vectors as they travel; the wire's message is one."""

    @property
    def item_ids(self) -> Sequence[str]: ...
    @property
    def dtype(self) -> str: ...
    @property
    def shape(self) -> Sequence[int]: ...
    @property
    def data(self) -> bytes: ...


def faults(raw: Raw, space: Space | None) -> Iterator[tuple[str, str]]:
    """What is wrong with them: (the field's name, what to mend); nothing where `read` will do.

    Args:
        raw: As they came.
        space: That they are said to be of; None where there is none of that name.
    """
    if len(raw.shape) != 2:
        yield "shape", f"{len(raw.shape)} numbers, [items, dimensions] is needed"
        return
    shape = tuple(raw.shape)
    if shape[0] != len(raw.item_ids):
        yield "shape", f"{shape[0]} rows for {len(raw.item_ids)} item_ids"
    if space is not None and shape[1] != space.dim:
        yield "shape", f"{shape[1]} dimensions, {space.space_id} has {space.dim}"
    if raw.dtype not in DTYPES:
        # The text is the caller's and may be long; what is allowed says enough.
        yield "dtype", f"expected one of {', '.join(DTYPES)}"
        return
    expected = shape[0] * shape[1] * DTYPES[raw.dtype].itemsize
    if len(raw.data) != expected:
        yield "data", f"{len(raw.data)} bytes, {list(shape)} of {raw.dtype} are {expected}"
        return
    vectors_ND = _matrix(raw)
    is_finite_N = np.isfinite(vectors_ND).all(axis=1)
    has_direction_N = vectors_ND.any(axis=1)
    if not is_finite_N.all():
        yield "data", f"row {int(np.argmin(is_finite_N))} is not finite"
    if not has_direction_N.all():
        yield "data", f"row {int(np.argmin(has_direction_N))} is all zeros, so it has no direction"


def read(raw: Raw, space: Space) -> Embeddings:
    """Faultless vectors, in float32 and unit length."""
    return Embeddings(space=space, item_ids=tuple(raw.item_ids), vectors_ND=normalize(_matrix(raw)))


def _matrix(raw: Raw) -> NDArray[np.float32]:
    """As float32, [N, D]; exact, for both types fit into it."""
    given_ND = np.frombuffer(raw.data, DTYPES[raw.dtype]).reshape(tuple(raw.shape))
    vectors_ND: NDArray[np.float32] = given_ND.astype(np.float32)
    return vectors_ND
