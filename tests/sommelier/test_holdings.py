"""What a generation holds, against what the store holds since."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from embedders.items import Modality
from sommelier.holdings import holdings
from sommelier.settings_file import load
from sommelier.workspace import Workspace
from tests.sommelier.conftest import Run, bring_texts


def test_an_index_of_what_the_store_holds_has_nothing_stale(stored: Path) -> None:
    workspace = Workspace(load(stored))
    held = holdings(workspace, workspace.item_vectors)
    assert len(held.item_ids) == len(held.with_vector) == 60
    assert not held.stale


def test_items_whose_vectors_were_replaced_are_stale(run: Run, copy_of_stored: Path) -> None:
    before = Workspace(load(copy_of_stored)).item_vectors
    bring_texts(copy_of_stored.parent, seed=1)
    result = run("embed", "--settings", copy_of_stored, "--accept-changed")
    assert result.exit_code == 0, result.output + result.stderr
    held = holdings(Workspace(load(copy_of_stored)), before)
    assert held.stale == held.item_ids


def test_an_item_that_only_one_side_has_a_vector_of_is_stale(stored: Path) -> None:
    workspace = Workspace(load(stored))
    items = workspace.item_vectors
    row, columns = 7, items.columns_of[Modality.TEXT]
    vectors_ND, is_present_NM = items.vectors_ND.copy(), items.is_present_NM.copy()
    vectors_ND[row, columns] = 0
    is_present_NM[row, items.names.index(Modality.TEXT)] = False
    lacking = replace(items, vectors_ND=vectors_ND, is_present_NM=is_present_NM)
    assert holdings(workspace, lacking).stale == {items.item_ids[row]}


def test_vectors_of_a_foreign_space_are_stale_where_there_are_any(stored: Path) -> None:
    workspace = Workspace(load(stored))
    items = workspace.item_vectors
    place = items.names.index(Modality.TEXT)
    spaces = list(items.spaces)
    spaces[place] = replace(spaces[place], revision="of another encoder")
    is_present_NM = items.is_present_NM.copy()
    is_present_NM[:5, place] = False
    vectors_ND = items.vectors_ND.copy()
    vectors_ND[:5, items.columns_of[Modality.TEXT]] = np.float32(0)
    foreign = replace(
        items, spaces=tuple(spaces), is_present_NM=is_present_NM, vectors_ND=vectors_ND
    )
    assert holdings(workspace, foreign).stale == set(items.item_ids[5:])
