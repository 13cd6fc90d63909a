"""Files that change, break and vanish while what they said is in use."""

import logging
from pathlib import Path

import pytest

from ranker.service.reloading import Reloading


def number_in(path: Path) -> int:
    return int(path.read_text())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "number"
    path.write_text("1")
    return path


def reloading(path: Path, *, look_every_s: float = 0) -> Reloading[int]:
    return Reloading([path], lambda: number_in(path), what="the number", look_every_s=look_every_s)


def test_a_change_is_read(path: Path) -> None:
    number = reloading(path)
    assert number.current() == 1
    path.write_text("2")
    assert number.current() == 2


def test_a_file_that_another_one_replaces_is_read(path: Path) -> None:
    number = reloading(path)
    fresh = path.with_name("fresh")
    fresh.write_text("3")
    fresh.replace(path)
    assert number.current() == 3


def test_what_did_not_change_is_not_read_again(path: Path) -> None:
    num_read = 0

    def read() -> int:
        nonlocal num_read
        num_read += 1
        return number_in(path)

    number = Reloading([path], read, what="the number", look_every_s=0)
    for _ in range(3):
        number.current()
    assert num_read == 1


def test_nobody_looks_more_often_than_told(path: Path) -> None:
    number = reloading(path, look_every_s=3600)
    path.write_text("2")
    assert number.current() == 1


def test_a_broken_file_changes_nothing_and_is_told_once(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    number = reloading(path)
    path.write_text("many")
    assert [number.current() for _ in range(3)] == [1, 1, 1]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "the number changed and cannot be used; the former stay" in caplog.text
    path.write_text("4")
    assert number.current() == 4


def test_a_file_that_is_gone_changes_nothing(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    number = reloading(path)
    path.unlink()
    assert number.current() == 1
    assert "No such file" in caplog.text
    path.write_text("5")
    assert number.current() == 5


def test_a_file_that_is_missing_from_the_start_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"the number: .*none: No such file or directory"):
        reloading(tmp_path / "none")


def test_a_file_that_is_broken_from_the_start_is_refused(path: Path) -> None:
    path.write_text("many")
    with pytest.raises(ValueError, match="invalid literal"):
        reloading(path)
