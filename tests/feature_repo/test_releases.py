from pathlib import Path

import pytest

from embedders.vectors import Space
from feature_repo import releases
from feature_repo.base import Entity, StoreError
from tests.feature_repo.texts import SUMMARY


def test_releases_are_replaced_as_a_whole(tmp_path: Path) -> None:
    assert releases.read(tmp_path) == {}
    releases.replace(tmp_path, {"g-1": ["a"], "g-2": ["a", "b"]})
    releases.replace(tmp_path, {"g-2": ["a", "b"]})
    assert releases.read(tmp_path) == {"g-2": ("a", "b")}


def test_a_release_of_an_unknown_space_is_refused_and_nothing_changes(
    tmp_path: Path, space: Space
) -> None:
    known = {(Entity.ITEM, space.space_id): space}
    releases.replace_checked(tmp_path, {"g-1": [space]}, spaces=known, sources={})
    with pytest.raises(StoreError, match=rf"release g-2 reads {space.space_id}, .* embed them"):
        releases.replace_checked(tmp_path, {"g-2": [space]}, spaces={}, sources={})
    assert releases.read(tmp_path) == {"g-1": (space.space_id,)}


def test_a_release_may_read_text_sources_of_which_the_store_has_texts(
    tmp_path: Path, space: Space
) -> None:
    spaces, sources = {(Entity.ITEM, space.space_id): space}, {SUMMARY.source_id: SUMMARY}
    wanted = {"g-1": [space, SUMMARY]}
    releases.replace_checked(tmp_path, wanted, spaces=spaces, sources=sources)
    assert releases.read(tmp_path) == {"g-1": (space.space_id, SUMMARY.source_id)}
    with pytest.raises(StoreError, match=f"release g-1 reads {SUMMARY.source_id}, of which"):
        releases.replace_checked(tmp_path, wanted, spaces=spaces, sources={})


def test_a_damaged_file_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / releases.FILE).write_text("[]")
    with pytest.raises(StoreError, match="delete it and publish again"):
        releases.read(tmp_path)
