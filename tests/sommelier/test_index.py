"""Every item has tokens made by the served adapter, and only changed ones are made again."""

from pathlib import Path

import pytest

from sommelier.index import content_hashes, fused_space, index_key
from sommelier.settings_file import load
from sommelier.train import trained
from sommelier.workspace import Workspace


@pytest.fixture
def workspace(built: Path) -> Workspace:
    return Workspace(load(built))


def test_every_item_has_tokens_in_a_fused_space(workspace: Workspace) -> None:
    space = fused_space(workspace)
    assert space.modality is None
    tokens = workspace.store.read(space)
    assert set(tokens.item_ids) == set(workspace.item_ids)


def test_tokens_are_known_by_the_vectors_and_the_adapter(workspace: Workspace) -> None:
    items, adapter = workspace.item_vectors, trained(workspace).adapter.name
    hashes = content_hashes(items, items.item_ids, adapter=adapter)
    held = workspace.store.content_hashes(fused_space(workspace))
    assert dict(zip(items.item_ids, hashes, strict=True)) == held
    assert not set(hashes) & set(content_hashes(items, items.item_ids, adapter="another"))


def test_another_kind_of_index_is_another_build(built: Path, workspace: Workspace) -> None:
    other = Workspace(load(built, overrides=["index.kind=exact"]))
    assert index_key(other, trained(other)) != index_key(workspace, trained(workspace))


def test_without_an_index_there_is_no_fused_space(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="run `sommelier index`"):
        fused_space(Workspace(load(None, overrides=[f"paths.workspace={str(tmp_path)!r}"])))
