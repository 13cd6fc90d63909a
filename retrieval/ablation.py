"""The parts of retrieval in, the same parts as if one block had never been there out.

Leaving a modality out of the search alone would not do: the network over histories reads it too. So
the network's items are made anew without it, and searched exactly, whatever the index was.
"""

from dataclasses import replace

import numpy as np

from embedders.items import Modality
from retrieval.build import Retrieval
from retrieval.concatenated import SEQUENCE
from retrieval.exact import ExactIndex


def without(retrieval: Retrieval, name: str) -> Retrieval:
    """The parts without a modality's block, or without the network's.

    Raises:
        ValueError: there is no such block, or no other one.
    """
    retrieval.item_vectors.space(name)
    kept = [one for one in retrieval.item_vectors.names if one not in (name, SEQUENCE)]
    items, sequence = retrieval.item_vectors.only(kept), retrieval.sequence
    if name == SEQUENCE:
        sequence = None
    if sequence is not None:
        items = items.joined(sequence.items(items))
    index = ExactIndex(dim=items.dim)
    rows = np.flatnonzero(items.is_present_NM.any(axis=1))
    index.add([items.item_ids[row] for row in rows], items.vectors_ND[rows])
    return replace(
        retrieval,
        index=index,
        item_vectors=items,
        user_vectors=None if name == Modality.GRAPH else retrieval.user_vectors,
        sequence=sequence,
    )
