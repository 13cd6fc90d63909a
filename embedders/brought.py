"""A parquet file of vectors that the user brings in, the vectors of one space out.

The file holds `item_id` and `vector` (a list of numbers). It is read once, as a stream, and its
rows are kept in an unnamed temporary file, from which any of them is read when its item asks for
it: in memory remain some 40 bytes a row. A row of another length, with a value that is not
finite, or without direction is set aside when its item asks for it.

Shape legend: N rows of the file, G good ones, S of those that are looked at, D dimensions.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from embedders.base import BadContent, Embedder
from embedders.id_index import IdIndex
from embedders.items import Item, Modality
from embedders.row_file import RowFile
from embedders.vectors import Space

LIMIT = 3.0  # standard deviations
IQR_OF_A_NORMAL = 1.349  # in standard deviations
# Values from which quartiles are taken. A file with more of them (10,000 rows of 768) is sampled:
# quartiles need all values at hand, and they only set a unit, of which 2 % more or less is
# nothing.
SAMPLE_VALUES = 8_000_000
READ_ROWS = 1024
BUFFER_BYTES = 1 << 20  # without a buffer, Arrow reads a whole row group: all of it, often enough
ABSENT = -1  # the place of a row that is not kept


class BroughtEmbedder(Embedder):
    """Looks up vectors that were made elsewhere.

    The fingerprint is of the item's own row as brought, so an unchanged row is not written again.

    **Revision.** The space does not follow the file: rows may come and change under one revision,
    which the user raises when another encoder made them. With `center` or `scale` every vector
    depends on all rows, so there the file's digest is part of the revision, and a changed file is
    a new space. Where it is not, whoever embeds compares what the store knows beforehand
    (`embedders.changed`) and refuses when `looks_like_another_encoder`.
    """

    rows_per_batch = 4096  # nothing is lost that takes long, and a batch is a file
    is_looked_up = True

    def __init__(
        self,
        path: Path,
        *,
        modality: Modality,
        name: str,
        revision: str | None = None,
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
            revision: The encoder's revision, likewise; None is the first.
            dim: The length that vectors must have; None takes the file's most frequent one.
            center: Subtract the mean over the file's good rows, which many encoders need: their
                vectors share one large component, so that all cosines are close to 1.
            scale: First bring every dimension to one spread and clip it at 3 of its standard
                deviations; for hand-made features, whose dimensions have units of their own.
            is_normalized: Divide by the length at the end.
            until: The cut of the events that the vectors were trained on, if they were.

        Raises:
            ValueError: the file is missing, is no parquet, lacks a column, or has no good row; or
                the temporary folder has no room for its rows.
        """
        self.until = until
        self._path = path
        self._rows = _read(path, dim)
        self._preparation = _preparation(self._rows, center=center, scale=scale)
        steps = [f"scaled by median and IQR, clipped at {LIMIT:g}"] if scale else []
        steps += ["centered on the file's mean"] if center else []
        self.space = Space(
            modality=modality,
            encoder=name,
            revision=_revision(path, revision, depends_on_file=center or scale),
            dim=self._rows.vectors.dim,
            preprocessing="; ".join(steps),
            is_normalized=is_normalized,
        )

    def fingerprint(self, item: Item) -> str | None:
        """The sha256 of the row's values as brought; None where the file has no such item."""
        place = self._place(item)
        return None if place is None else self._rows.vectors.digest(place)

    def load(self, item: Item) -> NDArray[np.float64]:
        """The item's vector after centering and scaling."""
        place = self._place(item)
        assert place is not None, "load follows a fingerprint"
        vector_D = self._preparation.apply(self._rows.vectors.row(place))
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

    def _place(self, item: Item) -> int | None:
        """Where the item's vector is kept; None where the file has no such item."""
        rows = self._rows.index.places(item.item_id)
        if not len(rows):
            return None
        row = int(rows[0])
        length, dim = int(self._rows.lengths_N[row]), self._rows.vectors.dim
        if len(rows) > 1:
            fault = f"it has {len(rows)} vectors: keep one"
        elif length != dim:
            fault = f"its vector has {length} dimensions, expected {dim}"
        elif self._rows.places_N[row] == ABSENT:
            fault = "its vector holds a value that is missing or not finite"
        else:
            return int(self._rows.places_N[row])
        raise BadContent(f"item {item.item_id!r} in {self._path.name}: {fault}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Rows:
    """A file that was read: those of its rows that have an id."""

    index: IdIndex
    """Id -> row."""
    lengths_N: NDArray[np.int32]
    places_N: NDArray[np.int64]
    """Row -> its place in `vectors`; ABSENT where it has another length or is not finite."""
    vectors: RowFile

    def good(self) -> NDArray[np.bool_]:
        """For each place, whether its id has this vector alone."""
        is_kept_N = (self.places_N != ABSENT) & self.index.is_single()
        is_good = np.zeros(len(self.vectors), dtype=bool)
        is_good[self.places_N[is_kept_N]] = True
        return is_good

    def sample(self, num_rows: int) -> NDArray[np.float64]:
        """So many good vectors, or all, [S, D]: those whose ids have the smallest digests.

        They are spread evenly, and hardly change when rows are added or put in another order.
        """
        places = self.places_N[self.index.by_digest()]
        places = places[places != ABSENT]
        places = places[self.good()[places]][:num_rows]
        sample_SD = np.empty((len(places), self.vectors.dim))
        for n, place in enumerate(places):
            sample_SD[n] = self.vectors.row(int(place))
        return sample_SD


def _read(path: Path, dim: int | None) -> _Rows:
    try:
        with pq.ParquetFile(path, buffer_size=BUFFER_BYTES, pre_buffer=False) as file:
            lacking = {"item_id", "vector"} - set(file.schema_arrow.names)
            if lacking:
                raise KeyError(f"no column {' and none '.join(sorted(lacking))}")
            pa.array([], file.schema_arrow.field("vector").type).cast(pa.large_list(pa.float64()))
            guess = dim or _first_length(file)
            rows = _stream(file, guess)
            if dim is None and (length := _most_frequent(rows.lengths_N, path)) != guess:
                rows = _stream(file, length)
    except (OSError, KeyError, pa.ArrowException) as error:
        raise ValueError(
            f"{path}: expected a parquet file with the columns item_id and vector, a list of "
            f"numbers: {error}"
        ) from error
    if not rows.good().any():
        raise ValueError(
            f"{path} has no vector of {rows.vectors.dim} finite values; its lengths are "
            f"{sorted(set(rows.lengths_N.tolist()))}"
        )
    return rows


def _batches(file: pq.ParquetFile) -> Iterator[tuple[list[str], pa.LargeListArray]]:
    for batch in file.iter_batches(READ_ROWS, columns=["item_id", "vector"]):
        ids = [(each or "").strip() for each in batch["item_id"].cast(pa.string()).to_pylist()]
        yield ids, batch["vector"].cast(pa.large_list(pa.float64()))


def _first_length(file: pq.ParquetFile) -> int:
    """The length of the first vector that has one; 1 where none has."""
    for _, lists in _batches(file):
        lengths = pc.list_value_length(lists).fill_null(0).to_numpy()
        if lengths.any():
            return int(lengths[lengths > 0][0])
    return 1


def _stream(file: pq.ParquetFile, dim: int) -> _Rows:
    """Read all rows once, and keep those of the given length."""
    values = file.schema_arrow.field("vector").type.value_type
    is_narrow = pa.types.is_floating(values) and values.bit_width <= 32
    vectors = RowFile(dim, np.float32 if is_narrow else np.float64)
    all_lengths: list[NDArray[np.int32]] = [np.zeros(0, np.int32)]
    all_places: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]

    def read() -> Iterator[str]:
        for ids, lists in _batches(file):
            has_id = np.array([bool(each) for each in ids])
            lists = lists.filter(pa.array(has_id))
            lengths = pc.list_value_length(lists).fill_null(0).to_numpy().astype(np.int32)
            is_long = lengths == dim
            flat = lists.filter(pa.array(is_long)).flatten()
            long_ND = flat.to_numpy(zero_copy_only=False).astype(np.float64).reshape(-1, dim)
            is_kept = is_long.copy()
            is_kept[is_long] = np.isfinite(long_ND).all(axis=1)
            places = np.full(len(lengths), ABSENT, dtype=np.int64)
            places[is_kept] = len(vectors) + np.arange(is_kept.sum())
            vectors.append(long_ND[is_kept[is_long]])
            all_lengths.append(lengths)
            all_places.append(places)
            yield from (each for each in ids if each)

    index = IdIndex(read())
    return _Rows(
        index=index,
        lengths_N=np.concatenate(all_lengths),
        places_N=np.concatenate(all_places),
        vectors=vectors,
    )


def _most_frequent(lengths_N: NDArray[np.int32], path: Path) -> int:
    counts: Counter[int] = Counter(lengths_N[lengths_N > 0].tolist())
    if not counts:
        raise ValueError(f"{path} has no vectors")
    return max(counts, key=lambda length: (counts[length], length))


def _revision(path: Path, given: str | None, *, depends_on_file: bool) -> str:
    if not depends_on_file:
        return given or "1"
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:12]
    return f"{given}-{digest}" if given else digest


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Preparation:
    """What is done to every row; None where it is not wanted."""

    middle_D: NDArray[np.float64] | None = None
    spread_D: NDArray[np.float64] | None = None
    mean_D: NDArray[np.float64] | None = None

    def apply(self, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        """Rows as brought, [..., D] -> prepared."""
        if self.middle_D is not None and self.spread_D is not None:
            vectors = np.clip((vectors - self.middle_D) / self.spread_D, -LIMIT, LIMIT)
        return vectors if self.mean_D is None else vectors - self.mean_D


def _preparation(rows: _Rows, *, center: bool, scale: bool) -> _Preparation:
    preparation = _scaling(rows) if scale else _Preparation()
    if not center:
        return preparation
    is_good = rows.good()
    total_D, start = np.zeros(rows.vectors.dim), 0
    for block_ND in rows.vectors.blocks():
        good_GD = block_ND[is_good[start : start + len(block_ND)]]
        total_D += preparation.apply(good_GD).sum(axis=0)
        start += len(block_ND)
    return _Preparation(
        middle_D=preparation.middle_D,
        spread_D=preparation.spread_D,
        mean_D=total_D / is_good.sum(),
    )


def _scaling(rows: _Rows) -> _Preparation:
    # By quartiles: one value of 1e13 among thousands below 1 would own mean and deviation, and
    # all the others would come out equal.
    sample_SD = rows.sample(max(1, SAMPLE_VALUES // rows.vectors.dim))
    low_D, middle_D, high_D = np.quantile(sample_SD, [0.25, 0.5, 0.75], axis=0)
    spread_D = (high_D - low_D) / IQR_OF_A_NORMAL
    # A dimension that is mostly one value has no quartiles apart, yet may hold something.
    spread_D = np.where(spread_D > 0, spread_D, sample_SD.std(axis=0))
    return _Preparation(middle_D=middle_D, spread_D=np.where(spread_D > 0, spread_D, 1))
