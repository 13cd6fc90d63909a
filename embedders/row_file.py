"""Rows of numbers in, kept on the disk, any of them back out by its place.

The file has no name and is gone with the process. It lies where temporary files do (`TMPDIR`),
and takes 32 bytes more for each row than its numbers.

Shape legend: N rows, D dimensions.
"""

import hashlib
import os
import tempfile
import weakref
from collections.abc import Iterator

import numpy as np
from numpy.typing import DTypeLike, NDArray

DIGEST_BYTES = 32
BLOCK_VALUES = 1_000_000  # read at once where all rows are wanted: 8 MB of float64


class RowFile:
    """An append-only list of rows of one length. Any number of threads may read it."""

    def __init__(self, dim: int, dtype: DTypeLike) -> None:
        """An empty file.

        Args:
            dim: The length of every row.
            dtype: float32 or float64: what holds the values exactly.
        """
        self.dim = dim
        self._record = np.dtype([("digest", f"V{DIGEST_BYTES}"), ("row", dtype, (dim,))])
        self._num_rows = 0
        self._file = tempfile.TemporaryFile(prefix="sommelier-")  # noqa: SIM115
        weakref.finalize(self, self._file.close)

    def __len__(self) -> int:
        return self._num_rows

    def append(self, rows_ND: NDArray[np.float64]) -> None:
        """Add rows behind the others.

        Raises:
            ValueError: the disk is full.
        """
        records_N = np.empty(len(rows_ND), dtype=self._record)
        for n, row_D in enumerate(np.ascontiguousarray(rows_ND)):
            # Of the values in float64, whatever the width they come in or are kept in.
            records_N["digest"][n] = hashlib.sha256(row_D).digest()
        records_N["row"] = rows_ND
        try:
            self._file.write(records_N.tobytes())
            self._file.flush()
        except OSError as error:
            raise ValueError(
                f"{len(self) + len(rows_ND):,} rows of {self.dim} numbers do not fit into "
                f"{tempfile.gettempdir()} ({error.strerror}): make room there, or set TMPDIR"
            ) from error
        self._num_rows += len(rows_ND)

    def digest(self, place: int) -> str:
        """The sha256 of a row's values as float64, in hex."""
        return self._read(place * self._record.itemsize, DIGEST_BYTES).hex()

    def row(self, place: int) -> NDArray[np.float64]:
        """The row at a place, counted from 0."""
        size = self._record.itemsize
        record = np.frombuffer(self._read(place * size, size), dtype=self._record)
        return np.asarray(record["row"][0], dtype=np.float64)

    def blocks(self) -> Iterator[NDArray[np.float64]]:
        """All rows in order, [N, D], some at a time."""
        size = self._record.itemsize
        num_read = max(1, BLOCK_VALUES // self.dim)
        for start in range(0, len(self), num_read):
            num_rows = min(num_read, len(self) - start)
            data = self._read(start * size, num_rows * size)
            yield np.asarray(np.frombuffer(data, dtype=self._record)["row"], dtype=np.float64)

    def _read(self, start: int, num_bytes: int) -> bytes:
        data = os.pread(self._file.fileno(), num_bytes, start)
        assert len(data) == num_bytes, "a place beyond the last row"
        return data
