"""Encoded queries in, one ranked list for each block out; and these lists fused into one order.

Each list is a search of the one index with one block's weight alone. What a query hides takes no
rank. A block of weight 0 has no list.

Shape legend: Q queries, K items, M blocks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np

from retrieval.concatenated import ItemVectors
from retrieval.fusion import Fusion, Listed
from retrieval.planner import Searcher
from retrieval.scoring import Asked, Scored, weighted


def with_lists(
    asked: Sequence[Asked], searcher: Searcher, items: ItemVectors, *, depth: int
) -> list[Asked]:
    """Queries of one filter, each with its blocks' lists of at most `depth` items."""
    lists: list[dict[str, Mapping[str, int]]] = [{} for _ in asked]
    for name in items.names:
        having = [
            place
            for place, one in enumerate(asked)
            if name in one.encoded.vectors and one.weights[name] > 0
        ]
        if not having:
            continue
        queries_QD = np.stack(
            [
                weighted({name: asked[place].encoded.vectors[name]}, {name: 1.0}, items)
                for place in having
            ]
        )
        limit = depth + max(len(asked[place].hidden) for place in having)
        found = searcher.search(queries_QD, limit=limit, filter=asked[0].query.filters)
        for place, pairs in zip(having, found, strict=True):
            kept = (item_id for item_id, _ in pairs if item_id not in asked[place].hidden)
            ranked = enumerate(islice(kept, depth), start=1)
            lists[place][name] = {item_id: rank for rank, item_id in ranked}
    return [replace(one, lists=own) for one, own in zip(asked, lists, strict=True)]


def listed(asked: Asked, plain: Scored, items: ItemVectors) -> Listed:
    """What the query's lists say about scored items, in their order."""
    lists = asked.lists or {}
    shape = (len(plain.rows_K), len(lists))
    item_ids = [items.item_ids[row] for row in plain.rows_K.tolist()]
    ranks_KM = np.zeros(shape, dtype=np.int64)
    cosines_KM = np.zeros(shape)
    is_present_KM = np.zeros(shape, dtype=np.bool_)
    for place, (name, ranks) in enumerate(lists.items()):
        ranks_KM[:, place] = [ranks.get(item_id, 0) for item_id in item_ids]
        cosines_KM[:, place] = plain.cosines[name]
        is_present_KM[:, place] = items.is_present(name)[plain.rows_K]
    return Listed(
        blocks=tuple(lists),
        ranks_KM=ranks_KM,
        cosines_KM=cosines_KM,
        is_present_KM=is_present_KM,
        scores_K=plain.scores_K,
    )


def fused(asked: Asked, plain: Scored, items: ItemVectors, fusion: Fusion) -> Scored:
    """The same items by their fused score; equal ones fall by the weighted sum, then by item id."""
    scores_K = fusion.scores(listed(asked, plain, items))
    order_K = np.lexsort((plain.rows_K, -plain.scores_K, -scores_K))
    return Scored(
        rows_K=plain.rows_K[order_K],
        scores_K=scores_K[order_K],
        cosines={name: cosines_K[order_K] for name, cosines_K in plain.cosines.items()},
    )
