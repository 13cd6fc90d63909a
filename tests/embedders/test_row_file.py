"""Rows on the disk: what went in comes out by its place, exactly, for any number of threads."""

import hashlib
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from embedders import row_file
from embedders.row_file import RowFile

ROWS_ND = np.random.default_rng(3).standard_normal((10, 4))


def filled(rows_ND: NDArray[np.float64] = ROWS_ND) -> RowFile:
    rows = RowFile(rows_ND.shape[1], np.float64)
    rows.append(rows_ND[:3])
    rows.append(rows_ND[3:])
    return rows


def test_any_row_comes_back_by_its_place() -> None:
    rows = filled()

    assert len(rows) == 10
    for place in (9, 0, 4):
        np.testing.assert_array_equal(rows.row(place), ROWS_ND[place])


def test_a_digest_is_of_the_values_whatever_width_they_are_kept_in() -> None:
    values = ROWS_ND.astype(np.float32).astype(np.float64)
    narrow = RowFile(4, np.float32)
    narrow.append(values)

    assert narrow.digest(7) == filled(values).digest(7)
    assert narrow.digest(7) == hashlib.sha256(values[7].tobytes()).hexdigest()
    np.testing.assert_array_equal(narrow.row(7), values[7])


def test_blocks_are_all_rows_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_file, "BLOCK_VALUES", 12)

    blocks = list(filled().blocks())

    assert [len(block) for block in blocks] == [3, 3, 3, 1]
    np.testing.assert_array_equal(np.concatenate(blocks), ROWS_ND)


def test_no_rows_are_no_blocks() -> None:
    rows = RowFile(4, np.float32)
    rows.append(ROWS_ND[:0])

    assert len(rows) == 0
    assert list(rows.blocks()) == []


def test_threads_read_at_once_without_disturbing_each_other() -> None:
    rows = filled()
    places = np.random.default_rng(1).integers(0, 10, 2000).tolist()

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(rows.row, places))

    np.testing.assert_array_equal(found, ROWS_ND[places])


def test_the_file_has_no_name_and_is_closed_with_its_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    rows = filled()
    descriptor = rows._file.fileno()

    assert os.fstat(descriptor).st_size == 10 * (32 + 4 * 8)
    assert list(tmp_path.iterdir()) == []
    del rows
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_a_full_disk_is_told_with_what_to_do() -> None:
    rows = RowFile(4, np.float64)
    rows._file.close()
    rows._file = open("/dev/full", "r+b", buffering=0)  # noqa: SIM115

    with pytest.raises(ValueError, match=r"10 rows of 4 numbers do not fit .* set TMPDIR"):
        rows.append(ROWS_ND)
    rows._file.close()
