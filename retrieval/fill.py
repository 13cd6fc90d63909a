"""Item vectors in, an index of those that have any out, and how well it finds them.

Shape legend: Q queries, N items, D dimensions.
"""

import numpy as np
from numpy.typing import NDArray

from retrieval.base import Index
from retrieval.concatenated import ItemVectors
from retrieval.curve import DEPTH, CurvePoint, measured
from retrieval.order import largest_norm
from retrieval.policy import AUTO, Choice, choose
from retrieval.registry import create
from retrieval.scan import scan


def kind_for(
    item_vectors: ItemVectors, kind: str, *, memory_limit_gib: float | None = None
) -> Choice:
    """The kind of index for these items: the one that is named, or what `auto` comes to."""
    if kind != AUTO:
        return Choice(kind=kind, reasons=("the settings name it.",))
    num_items = len(_present(item_vectors))
    return choose(num_items, item_vectors.dim, memory_limit_gib=memory_limit_gib)


def filled(item_vectors: ItemVectors, *, kind: str) -> Index:
    """An index of all items that have a vector in any space.

    Raises:
        ValueError: no item has a vector, or no such kind.
    """
    rows = _present(item_vectors)
    if not len(rows):
        raise ValueError("no item has a vector in any space: run `sommelier embed` first")
    index = create(kind, dim=item_vectors.dim)
    if len(rows) == len(item_vectors):  # nothing has to be copied
        index.add(item_vectors.item_ids, item_vectors.vectors_ND)
    else:
        item_ids = [item_vectors.item_ids[row] for row in rows.tolist()]
        index.add(item_ids, item_vectors.vectors_ND[rows])
    return index


def curve_of(
    index: Index, item_vectors: ItemVectors, queries_QD: NDArray[np.float32], *, target: float
) -> tuple[CurvePoint, ...]:
    """The index against the true order; without any query, its greatest effort on trust."""
    if not len(queries_QD):
        effort = max(index.efforts, default=0)
        return (CurvePoint(effort=effort, recall=1.0, p50_ms=0.0, p99_ms=0.0),)
    true = scan(
        queries_QD,
        item_vectors.vectors_ND,
        item_vectors.item_ids,
        rows_R=_present(item_vectors),
        limit=DEPTH,
        norm=largest_norm(item_vectors.vectors_ND),
    )
    return measured(index, queries_QD, true, target=target)


def _present(item_vectors: ItemVectors) -> NDArray[np.int64]:
    return np.flatnonzero(item_vectors.is_present_NM.any(axis=1))
