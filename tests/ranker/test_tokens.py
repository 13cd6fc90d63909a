"""Every item has tokens in a space that is the adapter's own."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from embedders.items import Modality
from ranker import tokens
from ranker.adapter_facts import FACTS, AdapterError
from ranker.model import WEIGHTS, RankerModel, tensors
from ranker.tokens import blocks, check_spaces, fuse, fuse_with, fused_space
from tests.ranker import model_world

ITEMS = model_world.items()


def test_every_item_is_fused_in_the_given_order(adapter: Path, model: RankerModel) -> None:
    fused = fuse(adapter, ITEMS)
    assert fused.item_ids == ITEMS.item_ids
    assert fused.vectors_ND.shape == (41, 2 * 32)
    with torch.inference_mode():
        expected = model.fuse(*tensors(ITEMS, slice(None))).flatten(1).numpy()
    np.testing.assert_array_equal(fused.vectors_ND, expected)
    np.testing.assert_array_equal(fuse(adapter, ITEMS).vectors_ND, fused.vectors_ND)


def test_an_item_without_any_vector_has_tokens_too(adapter: Path) -> None:
    bare = fuse(adapter, ITEMS).vectors_ND[ITEMS.row_of[model_world.BARE]]
    assert np.isfinite(bare).all()
    assert np.abs(bare).max() > 0


def test_blocks_make_no_difference(
    adapter: Path, model: RankerModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = fused_space(adapter)
    whole = fuse_with(model, ITEMS, space=space)
    monkeypatch.setattr(tokens, "BLOCK", 7)
    parts = fuse_with(model, ITEMS, space=space)
    np.testing.assert_allclose(parts.vectors_ND, whole.vectors_ND, atol=1e-6)


def test_no_item_has_no_tokens(adapter: Path, model: RankerModel) -> None:
    none = replace(
        ITEMS,
        item_ids=(),
        vectors_ND=ITEMS.vectors_ND[:0],
        is_present_NM=ITEMS.is_present_NM[:0],
    )
    assert fuse_with(model, none, space=fused_space(adapter)).vectors_ND.shape == (0, 64)


def test_the_space_is_the_adapters(adapter: Path, tmp_path: Path) -> None:
    space = fused_space(adapter)
    assert (space.modality, space.encoder, space.dim) == (None, "tokens", 64)
    assert space.preprocessing.split() == [one.space_id for one in ITEMS.spaces]
    assert not space.is_normalized
    copy = shutil.copytree(adapter, tmp_path / "copy")
    assert fused_space(copy) == space, "where an adapter lies does not matter"
    weights = bytearray((copy / WEIGHTS).read_bytes())
    weights[-1] ^= 1
    (copy / WEIGHTS).write_bytes(weights)
    assert fused_space(copy).space_id != space.space_id


def test_without_an_adapter_there_is_no_space(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="run `sommelier train`"):
        fused_space(tmp_path)


def test_facts_without_a_width_are_no_adapter(adapter: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(adapter, tmp_path / "copy")
    facts = (copy / FACTS).read_text().replace('"hidden_size": 32', '"hidden": 32')
    (copy / FACTS).write_text(facts)
    with pytest.raises(AdapterError, match=r"hidden_size.*run `sommelier train`"):
        fused_space(copy)


def test_vectors_of_other_spaces_are_refused(adapter: Path, model: RankerModel) -> None:
    text = ITEMS.space(Modality.TEXT)
    newer = replace(ITEMS, spaces=(*ITEMS.spaces[:2], replace(text, revision="2")))
    with pytest.raises(AdapterError, match=r"was trained on .*, but the vectors are of .*: run"):
        check_spaces(model, newer)
    with pytest.raises(AdapterError, match="run `sommelier train`"):
        fuse(adapter, newer)
    check_spaces(model, ITEMS)


def test_only_the_rows_that_are_asked_for_are_fused(adapter: Path) -> None:
    whole = fuse(adapter, ITEMS)
    rows = [40, 3, 7]
    some = fuse(adapter, ITEMS, rows=rows)
    assert list(some.item_ids) == ["item-40", "item-03", "item-07"]
    np.testing.assert_allclose(some.vectors_ND, whole.vectors_ND[rows], atol=1e-6)
    assert list(blocks(adapter, ITEMS, rows=[])) == []
    assert fuse(adapter, ITEMS, rows=[]).vectors_ND.shape == (0, 64)


def test_tokens_come_in_blocks_of_bounded_memory(
    adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fuse(adapter, ITEMS)
    monkeypatch.setattr(tokens, "BLOCK_BYTES", 5 * 64 * 4 + 3)
    parts = list(blocks(adapter, ITEMS))
    assert [len(part) for part in parts] == [5] * 8 + [1]
    assert [one for part in parts for one in part.item_ids] == list(ITEMS.item_ids)
    found = np.concatenate([part.vectors_ND for part in parts])
    np.testing.assert_allclose(found, whole.vectors_ND, atol=1e-6)
    monkeypatch.setattr(tokens, "BLOCK_BYTES", 1)
    assert len(next(iter(blocks(adapter, ITEMS)))) == 1, "one at least"


def test_items_are_fused_without_the_llm(adapter: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(adapter, tmp_path / "copy")
    facts = json.loads((copy / FACTS).read_text())
    facts["llm"] = str(tmp_path / "gone")
    (copy / FACTS).write_text(json.dumps(facts))
    found, expected = fuse(copy, ITEMS), fuse(adapter, ITEMS)
    np.testing.assert_array_equal(found.vectors_ND, expected.vectors_ND)


@pytest.mark.parametrize("damage", ["cut", "scale", "fusion.norm.weight"])
def test_damaged_weights_fuse_nothing(damage: str, adapter: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(adapter, tmp_path / "copy")
    if damage == "cut":
        (copy / WEIGHTS).write_bytes((copy / WEIGHTS).read_bytes()[:1000])
    else:
        weights = load_file(copy / WEIGHTS)
        del weights[damage]
        save_file(weights, copy / WEIGHTS)
    with pytest.raises(AdapterError, match=r"(?s)is damaged .*run `sommelier train`"):
        fuse(copy, ITEMS)
