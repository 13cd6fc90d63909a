"""Items with vectors that one request brings in, the same items with these in place out.

For this request alone: an item's vector in the block of a space is exchanged, its other blocks stay
as they are, and an item that nobody holds has what was brought and nothing else. Vectors are
centered and scaled as published ones are, so that bringing an item's own changes no bit.

Shape legend: N items, K items named by the request, D dimensions.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from embedders.vectors import Embeddings, normalize
from retrieval.concatenated import ItemVectors, block_name
from retrieval.scoring import Asked, cosines_of


def exchanged(
    items: ItemVectors, item_ids: Collection[str], brought: Sequence[Embeddings]
) -> ItemVectors:
    """Those of the named items that are held or brought, with what was brought in place.

    Args:
        items: What is held.
        item_ids: The items that the request names; vectors of others are left out.
        brought: Of one space each.

    Raises:
        ValueError: vectors of a space that no block of the items is of.
    """
    given = {item_id for part in brought for item_id in part.item_ids}
    chosen = tuple(sorted(one for one in set(item_ids) if one in items.row_of or one in given))
    row_of = {item_id: row for row, item_id in enumerate(chosen)}
    held = [item_id for item_id in chosen if item_id in items.row_of]
    places = [row_of[item_id] for item_id in held]
    rows = [items.row_of[item_id] for item_id in held]
    vectors_KD = np.zeros((len(chosen), items.dim), dtype=np.float32)
    is_present_KM = np.zeros((len(chosen), len(items.names)), dtype=np.bool_)
    vectors_KD[places] = items.vectors_ND[rows]
    is_present_KM[places] = items.is_present_NM[rows]
    for part in brought:
        unit = replace(part, vectors_ND=normalize(part.vectors_ND))
        placed_ND, name = items.place(unit), block_name(part.space)
        known = [n for n, item_id in enumerate(part.item_ids) if item_id in row_of]
        places = [row_of[part.item_ids[n]] for n in known]
        vectors_KD[places, items.columns_of[name]] = placed_ND[known]
        is_present_KM[places, items.names.index(name)] = placed_ND[known].any(axis=1)
    return replace(items, item_ids=chosen, vectors_ND=vectors_KD, is_present_NM=is_present_KM)


def relisted(
    asked: Asked,
    items: ItemVectors,
    exchanged: ItemVectors,
    brought: Sequence[Embeddings],
    *,
    depth: int,
) -> Asked:
    """A query's lists as searches would find them, had they seen what was brought.

    Args:
        asked: With the lists of what is held.
        items: What is held.
        exchanged: The items that the request names, as `exchanged` gave them.
        brought: As above.
        depth: How long a list is at most.
    """
    lists = dict(asked.lists or {})
    given = {block_name(part.space): frozenset(part.item_ids) for part in brought}
    unheld = frozenset(one for one in exchanged.item_ids if one not in items.row_of)
    for name, ranks in lists.items():
        query = {name: asked.encoded.vectors[name]}
        # Who lacks a block stands in its list all the same, as the average item.
        is_new = given.get(name, frozenset()) | unheld
        old = [item_id for item_id in ranks if item_id not in is_new]
        old_N = np.array([items.row_of[item_id] for item_id in old], dtype=np.int64)
        rows = [row for row, item_id in enumerate(exchanged.item_ids) if item_id in is_new]
        new_K = np.array(rows, dtype=np.int64)
        cosines_N = np.concatenate(
            [cosines_of(query, items, old_N)[name], cosines_of(query, exchanged, new_K)[name]]
        )
        item_ids = [*old, *(exchanged.item_ids[row] for row in new_K.tolist())]
        order = sorted(range(len(item_ids)), key=lambda n: (-cosines_N[n], item_ids[n]))
        ranked = enumerate(order[:depth], start=1)
        lists[name] = {item_ids[n]: rank for rank, n in ranked}
    return replace(asked, lists=lists)
