"""A parquet file of vectors that the user brings in, the vectors of one space out.

The file holds `item_id` and `vector` (a list of numbers), and is held in memory as a whole, since
centering needs the mean over the file and an item may ask for any row. A row of another length,
with a value that is not finite, or without direction is set aside when its item asks for it.

Shape legend: N rows of the file, G good ones, D dimensions.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from embedders.base import BadContent, Embedder
from embedders.items import Item, Modality
from embedders.vectors import Space

LIMIT = 3.0  # standard deviations
IQR_OF_A_NORMAL = 1.349  # in standard deviations


class BroughtEmbedder(Embedder):
    """Looks up vectors that were made elsewhere."""

    rows_per_batch = 4096  # nothing is lost that takes long, and a batch is a file
    is_looked_up = True

    def __init__(
        self,
        path: Path,
        *,
        modality: Modality,
        name: str,
        dim: int | None = None,
        center: bool = False,
        scale: bool = False,
        is_normalized: bool = True,
        until: datetime | None = None,
    ) -> None:
        """Read the file.

        Args:
            path: The parquet file.
            modality: What the vectors describe.
            name: The encoder's name, as it shall be part of the space.
            dim: The length that vectors must have; None takes the file's most frequent one.
            center: Subtract the mean over the file's good rows, which many encoders need: their
                vectors share one large component, so that all cosines are close to 1.
            scale: First bring every dimension to one spread and clip it at 3 of its standard
                deviations; for hand-made features, whose dimensions have units of their own.
            is_normalized: Divide by the length at the end.
            until: The cut of the events that the vectors were trained on, if they were.

        Raises:
            ValueError: the file is missing, is no parquet, lacks a column, or has no good row.
        """
        self.until = until
        self._path = path
        ids, lists = _read(path)
        lengths_N = np.asarray(pc.list_value_length(lists).fill_null(0), dtype=np.int64)
        dim = dim or _most_frequent(lengths_N, path)
        self._faults, rows, vectors_GD = _sift(ids, lists, lengths_N, dim)
        if not rows:
            raise ValueError(
                f"{path} has no vector of {dim} finite values; its lengths are "
                f"{sorted(Counter(lengths_N.tolist()))}"
            )
        self._rows = rows
        self._digests = [hashlib.sha256(row.tobytes()).hexdigest() for row in vectors_GD]
        self._vectors_GD = _prepare(vectors_GD, center=center, scale=scale)
        steps = [f"scaled by median and IQR, clipped at {LIMIT:g}"] if scale else []
        steps += ["centered on the file's mean"] if center else []
        with path.open("rb") as file:
            revision = hashlib.file_digest(file, "sha256").hexdigest()[:12]
        self.space = Space(
            modality=modality,
            encoder=name,
            revision=revision,
            dim=dim,
            preprocessing="; ".join(steps),
            is_normalized=is_normalized,
        )

    def fingerprint(self, item: Item) -> str | None:
        """The sha256 of the row's values as brought; None where the file has no such item."""
        if item.item_id in self._faults:
            raise BadContent(
                f"item {item.item_id!r} in {self._path.name}: {self._faults[item.item_id]}"
            )
        row = self._rows.get(item.item_id)
        return None if row is None else self._digests[row]

    def load(self, item: Item) -> NDArray[np.float64]:
        """The item's vector after centering and scaling."""
        self.fingerprint(item)
        vector_D: NDArray[np.float64] = self._vectors_GD[self._rows[item.item_id]]
        if not self.space.is_normalized:
            return vector_D
        # In float64: the square of 1e20 is beyond float32, and the length would be infinite.
        length = float(np.linalg.norm(vector_D))
        if length == 0:
            raise BadContent(
                f"item {item.item_id!r} in {self._path.name}: its vector is all zeros once "
                "prepared, so it has no direction"
            )
        return np.asarray(vector_D / length, dtype=np.float64)

    def encode(self, contents: Sequence[Any]) -> NDArray[np.float32]:
        """Vectors as `load` gave them, stacked: [N, D]."""
        return np.asarray(contents, dtype=np.float32).reshape(len(contents), self.space.dim)


def _read(path: Path) -> tuple[list[str], pa.ListArray]:
    try:
        table = pq.read_table(path, columns=["item_id", "vector"])
        ids = table["item_id"].cast(pa.string()).to_pylist()
        lists = table["vector"].cast(pa.large_list(pa.float64())).combine_chunks()
    except (OSError, KeyError, pa.ArrowException) as error:
        raise ValueError(
            f"{path}: expected a parquet file with the columns item_id and vector, a list of "
            f"numbers: {error}"
        ) from error
    return [(item_id or "").strip() for item_id in ids], lists


def _most_frequent(lengths_N: NDArray[np.int64], path: Path) -> int:
    counts: Counter[int] = Counter(lengths_N[lengths_N > 0].tolist())
    if not counts:
        raise ValueError(f"{path} has no vectors")
    return max(counts, key=lambda length: (counts[length], length))


def _sift(
    ids: list[str], lists: pa.ListArray, lengths_N: NDArray[np.int64], dim: int
) -> tuple[dict[str, str], dict[str, int], NDArray[np.float64]]:
    """Faults by item id, rows of the matrix by item id, and the matrix of good rows [G, D]."""
    is_long_N = lengths_N == dim
    flat = lists.filter(pa.array(is_long_N)).flatten()
    vectors = np.asarray(flat.to_numpy(zero_copy_only=False), dtype=np.float64).reshape(-1, dim)
    is_finite = np.isfinite(vectors).all(axis=1)
    is_finite_N = np.zeros(len(ids), dtype=bool)
    is_finite_N[is_long_N] = is_finite
    occurrences = Counter(ids)
    faults: dict[str, str] = {}
    rows: dict[str, int] = {}
    picked: list[int] = []
    places_N = np.cumsum(is_long_N) - 1
    for n, item_id in enumerate(ids):
        if not item_id:
            continue
        if occurrences[item_id] > 1:
            faults[item_id] = f"it has {occurrences[item_id]} vectors: keep one"
        elif not is_long_N[n]:
            faults[item_id] = f"its vector has {lengths_N[n]} dimensions, expected {dim}"
        elif not is_finite_N[n]:
            faults[item_id] = "its vector holds a value that is missing or not finite"
        else:
            rows[item_id] = len(picked)
            picked.append(int(places_N[n]))
    return faults, rows, vectors[picked]


def _prepare(vectors_GD: NDArray[np.float64], *, center: bool, scale: bool) -> NDArray[np.float64]:
    if scale:
        # By quartiles: one value of 1e13 among thousands below 1 would own mean and deviation,
        # and all the others would come out equal.
        low_D, middle_D, high_D = np.quantile(vectors_GD, [0.25, 0.5, 0.75], axis=0)
        spread_D = (high_D - low_D) / IQR_OF_A_NORMAL
        # A dimension that is mostly one value has no quartiles apart, yet may hold something.
        spread_D = np.where(spread_D > 0, spread_D, vectors_GD.std(axis=0))
        spread_D = np.where(spread_D > 0, spread_D, 1)
        vectors_GD = np.clip((vectors_GD - middle_D) / spread_D, -LIMIT, LIMIT)
    if center:
        vectors_GD = vectors_GD - vectors_GD.mean(axis=0)
    return vectors_GD
