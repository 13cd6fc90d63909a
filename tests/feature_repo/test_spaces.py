import json
from dataclasses import replace
from pathlib import Path

import pytest

from embedders.vectors import Space
from feature_repo import spaces
from feature_repo.base import Entity, StoreError


def test_a_space_is_read_as_it_was_added(tmp_path: Path, space: Space) -> None:
    fused = replace(space, modality=None)
    spaces.add(tmp_path, space, entity=Entity.ITEM)
    spaces.add(tmp_path, fused, entity=Entity.USER)
    spaces.add(tmp_path, space, entity=Entity.ITEM)
    assert spaces.read(tmp_path) == {
        (Entity.ITEM, space.space_id): space,
        (Entity.USER, fused.space_id): fused,
    }


def test_a_new_store_has_no_space(tmp_path: Path) -> None:
    assert spaces.read(tmp_path / "nowhere") == {}


def test_edited_facts_are_refused(tmp_path: Path, space: Space) -> None:
    spaces.add(tmp_path, space, entity=Entity.ITEM)
    path = tmp_path / "spaces.json"
    stored = json.loads(path.read_text())
    stored["item"][space.space_id]["revision"] = "2"
    path.write_text(json.dumps(stored))
    with pytest.raises(StoreError, match=f"gives {space.space_id} the facts of"):
        spaces.read(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", '{"item": {"x": {}}}', '{"cat": {}} x'])
def test_a_damaged_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "spaces.json").write_text(text)
    with pytest.raises((StoreError), match="damaged"):
        spaces.read(tmp_path)
