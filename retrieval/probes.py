"""Held-out queries or simulated histories in, points of the concatenated space out.

What an index's recall is measured on must look like what it will be asked. Real queries that were
held out do; where there are none, histories are drawn at random from the items.

Shape legend: Q queries, D dimensions.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from embedders.items import Interaction
from retrieval.base import QueryEncoder
from retrieval.candidates import Query
from retrieval.concatenated import ItemVectors
from retrieval.scoring import weighted


def probes(
    item_vectors: ItemVectors,
    encoder: QueryEncoder,
    *,
    queries: Sequence[Query] = (),
    limit: int,
    length: int,
    seed: int,
) -> NDArray[np.float32]:
    """At most `limit` queries as the index is asked them, [Q, D]; none of which nothing is known.

    Args:
        item_vectors: What the index holds.
        encoder: Of the queries.
        queries: With their histories; a sample is taken where there are more.
        limit: How many at most.
        length: Items in a simulated history.
        seed: Of the sample and of the histories.
    """
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.choice(len(queries), min(limit, len(queries)), replace=False))
    found_QD = _encoded(item_vectors, encoder, [queries[row] for row in rows.tolist()])
    if len(found_QD):
        return found_QD
    return _encoded(item_vectors, encoder, _simulated(item_vectors, limit, length, rng))


def _simulated(
    item_vectors: ItemVectors, count: int, length: int, rng: np.random.Generator
) -> list[Query]:
    held = np.flatnonzero(item_vectors.is_present_NM.any(axis=1))
    histories = (
        rng.choice(held, min(length, len(held)), replace=False).tolist() for _ in range(count)
    )
    return [
        Query(
            history=tuple(
                Interaction(item_id=item_vectors.item_ids[row], behavior="") for row in rows
            )
        )
        for rows in histories
    ]


def _encoded(
    item_vectors: ItemVectors, encoder: QueryEncoder, queries: Sequence[Query]
) -> NDArray[np.float32]:
    """Those of which anything is known."""
    encoded = encoder.encode_many(queries) if queries else []
    queries_QD = np.zeros((len(encoded), item_vectors.dim), dtype=np.float32)
    for row, one in enumerate(encoded):
        queries_QD[row] = weighted(one.vectors, encoder.weights, item_vectors)
    return queries_QD[queries_QD.any(axis=1)]
