"""Files of arrays appear whole or not at all."""

from pathlib import Path

import numpy as np
import pytest

from retrieval.base import UnusableIndex
from retrieval.tensor_file import read, read_mapped, write, write_bytes


def test_ids_and_arrays_come_back_as_they_were(tmp_path: Path) -> None:
    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3).T, "b": np.array([True, False])}
    write(tmp_path / "file", item_ids=["x", "ü", ""], arrays=arrays)
    item_ids, found = read(tmp_path / "file", names=["a", "b"])
    assert item_ids == ["x", "ü", ""]
    np.testing.assert_array_equal(found["a"], arrays["a"])
    np.testing.assert_array_equal(found["b"], arrays["b"])


def test_a_write_that_fails_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bytes(tmp_path / "file", b"old")

    def full(descriptor: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space left"):
        write_bytes(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_file_that_lacks_an_array_is_named_with_it(tmp_path: Path) -> None:
    write(tmp_path / "file", item_ids=[], arrays={"a": np.zeros(1)})
    with pytest.raises(UnusableIndex, match=r"it lacks \['b'\]"):
        read(tmp_path / "file", names=["a", "b"])


def test_a_missing_or_foreign_file_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(UnusableIndex, match="is missing: run `sommelier index`"):
        read(tmp_path / "file", names=[])
    (tmp_path / "file").write_bytes(b"not such a file at all")
    with pytest.raises(UnusableIndex, match=r"is damaged .*run `sommelier index`"):
        read(tmp_path / "file", names=[])


def test_a_mapped_file_holds_what_a_read_one_does(tmp_path: Path) -> None:
    arrays = {
        "wide": np.arange(6.0).reshape(2, 3),
        "narrow": np.array([True, False, True]),
        "empty": np.zeros((0, 4), dtype=np.float32),
    }
    write(tmp_path / "file", item_ids=["x", "ü"], arrays=arrays)
    item_ids, found = read_mapped(tmp_path / "file", names=list(arrays))
    assert item_ids == ["x", "ü"]
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
    with pytest.raises(ValueError, match="read-only"):
        found["wide"][0, 0] = 1


def test_a_damaged_or_missing_file_is_not_mapped(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with pytest.raises(UnusableIndex, match="is missing: run `sommelier index`"):
        read_mapped(path, names=[])
    write(path, item_ids=["x"], arrays={"a": np.arange(1000.0)})
    with pytest.raises(UnusableIndex, match=r"it lacks \['b'\]"):
        read_mapped(path, names=["b"])
    content = path.read_bytes()
    edited = content.replace(b'"shape": [1000]', b'"shape": [9000]')
    for damaged in (content[:4], content[:40], content[:-8], edited, b"\xff" * 64):
        path.write_bytes(damaged)
        with pytest.raises(UnusableIndex, match=r"is damaged .*run `sommelier index`"):
            read_mapped(path, names=["a"])
