"""Every item has tokens made by the served adapter, and only changed ones are made again."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedders.items import Modality
from embedders.vectors import Embeddings, normalize
from ranker import tokens
from sommelier import index
from sommelier.index import content_hashes, fused_space, index_key
from sommelier.settings_file import load
from sommelier.training.train import trained
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


def rewrite_text(workspace: Workspace, item_id: str) -> None:
    """The item's text is another one from now on."""
    space = next(one for one in workspace.spaces() if one.modality is Modality.TEXT)
    vectors_ND = normalize(np.random.default_rng(1).normal(size=(1, space.dim)))
    workspace.store.write(
        Embeddings(space=space, item_ids=[item_id], vectors_ND=vectors_ND),
        content_hashes=["another text"],
        event_timestamps=[datetime.now(UTC)],
    )


def test_only_the_item_whose_vector_changed_is_fused_and_written(
    copy_of_built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fused: list[str] = []

    def watched(*given: Any, **words: Any) -> Iterator[Embeddings]:
        for block in tokens.blocks(*given, **words):
            fused.extend(block.item_ids)
            yield block

    monkeypatch.setattr(index, "blocks", watched)
    before = Workspace(load(copy_of_built))
    adapter, space = trained(before).adapter, fused_space(before)
    held = before.store.read(space)
    assert index._write_tokens(before, adapter, lambda *_: None) == 0
    assert fused == []
    # Of a new item: those known before the cut are what the others are centered by.
    changed = min(set(before.item_ids) - before.known_items)
    rewrite_text(before, changed)
    after = Workspace(load(copy_of_built))
    assert index._write_tokens(after, adapter, lambda *_: None) == 1
    assert fused == [changed]
    found = after.store.read(space)
    moved = [
        one
        for one, old, new in zip(held.item_ids, held.vectors_ND, found.vectors_ND, strict=True)
        if not np.array_equal(old, new)
    ]
    assert (found.item_ids, moved) == (held.item_ids, [changed])
    assert index._write_tokens(after, adapter, lambda *_: None) == 0


def test_another_kind_of_index_is_another_build(built: Path, workspace: Workspace) -> None:
    other = Workspace(load(built, overrides=["index.kind=exact"]))
    assert index_key(other, trained(other)) != index_key(workspace, trained(workspace))


def test_without_an_index_there_is_no_fused_space(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="run `sommelier index`"):
        fused_space(Workspace(load(None, overrides=[f"paths.workspace={str(tmp_path)!r}"])))
