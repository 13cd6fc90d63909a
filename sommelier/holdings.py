"""A served generation and the store in, what the generation holds and what of it is stale out."""

import numpy as np

from embedders.vectors import Embeddings, Space, normalize
from evaluation.ledger import Holdings
from retrieval.concatenated import ItemVectors, block_name
from sommelier.workspace import Workspace

SAME = 1e-3  # float32 vectors of unit length that differ by less are the same one


def holdings(workspace: Workspace, items: ItemVectors) -> Holdings:
    """What an index with these items can find, compared with what the store holds now.

    An item is stale where the store's vector in any modality's space, brought into the index, is
    not the one that the index holds, where only one of them has a vector, or where the last
    embedding spoke another space. The vectors are compared themselves: whatever changed them, a
    new text, a new encoder or a repair, shows.
    """
    current = set(workspace.spaces())
    stale: set[str] = set()
    for space in items.spaces:
        if space.modality is None:
            continue  # made from the others
        if space in current:
            stale.update(_changed(workspace.store.read(space), items, space))
        else:
            rows = np.flatnonzero(items.is_present(block_name(space)))
            stale.update(items.item_ids[row] for row in rows.tolist())
    with_vector = np.flatnonzero(items.is_present_NM.any(axis=1))
    return Holdings(
        item_ids=frozenset(items.item_ids),
        with_vector=frozenset(items.item_ids[row] for row in with_vector.tolist()),
        stale=frozenset(stale),
    )


def _changed(stored: Embeddings, items: ItemVectors, space: Space) -> list[str]:
    """Items whose vector of this space is not what the index holds."""
    held_ND = items.block(block_name(space))
    rows = [row for row, item_id in enumerate(stored.item_ids) if item_id in items.row_of]
    placed = Embeddings(
        space=space,
        item_ids=[stored.item_ids[row] for row in rows],
        vectors_ND=normalize(stored.vectors_ND[rows]),
    )
    now_ND = np.zeros_like(held_ND)
    now_ND[[items.row_of[item_id] for item_id in placed.item_ids]] = items.place(placed)
    differs_N = np.abs(now_ND - held_ND).max(axis=1, initial=0) > SAME
    return [items.item_ids[row] for row in np.flatnonzero(differs_N).tolist()]
