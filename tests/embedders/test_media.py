"""A file's digest is that of its bytes; a missing file says what to mend."""

import hashlib
from pathlib import Path

import pytest

from embedders.base import BadContent
from embedders.media import file_digest


def test_the_digest_is_the_sha256_of_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"feast" * 100_000)
    assert file_digest(path) == hashlib.sha256(b"feast" * 100_000).hexdigest()


def test_a_missing_file_is_bad_content(tmp_path: Path) -> None:
    with pytest.raises(BadContent, match=r"gone\.png: no such file; put it there"):
        file_digest(tmp_path / "gone.png")


def test_a_folder_in_a_files_place_is_bad_content(tmp_path: Path) -> None:
    with pytest.raises(BadContent, match="cannot be read"):
        file_digest(tmp_path)
