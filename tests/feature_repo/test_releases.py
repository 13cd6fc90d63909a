from pathlib import Path

import pytest

from feature_repo import releases
from feature_repo.base import StoreError


def test_releases_are_replaced_as_a_whole(tmp_path: Path) -> None:
    assert releases.read(tmp_path) == {}
    releases.replace(tmp_path, {"g-1": ["a"], "g-2": ["a", "b"]})
    releases.replace(tmp_path, {"g-2": ["a", "b"]})
    assert releases.read(tmp_path) == {"g-2": ("a", "b")}


def test_a_damaged_file_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / releases.FILE).write_text("[]")
    with pytest.raises(StoreError, match="delete it and publish again"):
        releases.read(tmp_path)
