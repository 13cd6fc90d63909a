"""Rows and a query in, exact scores out, in an order that any machine repeats.

A matrix product may round equal vectors differently, depending on where they lie and on how many
queries share the call, so its scores only choose whom to look at. Whoever is near the top is
scored again here, each row by itself, and then ordered by score and item id.

Shape legend: K rows, D dimensions.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SLACK = 1e-5  # of the product of the norms: more than float32 rounds in some thousand dimensions
MARGIN = 8  # rows fetched beyond the limit at first, so that an ordinary search needs one pass


def exact_scores(rows_KD: NDArray[np.float32], query_D: NDArray[np.float32]) -> NDArray[np.float32]:
    """Inner products, [K]; equal rows get equal bits because each is summed alone."""
    scores_K: NDArray[np.float32] = np.vecdot(rows_KD, query_D)
    return scores_K


def rounding(queries_D: NDArray[np.float32], largest_norm: float) -> NDArray[np.float32]:
    """By how much two roundings of one inner product may differ, at most, for each query."""
    slack: NDArray[np.float32] = np.linalg.norm(queries_D, axis=-1) * np.float32(
        SLACK * largest_norm
    )
    return slack


def largest_norm(vectors_ND: NDArray[np.float32]) -> float:
    """The length of the longest vector; 0 where there is none."""
    return float(np.linalg.norm(vectors_ND, axis=1).max(initial=0.0))


def best_first(
    item_ids: Sequence[str], scores_K: NDArray[np.float32], *, limit: int
) -> list[tuple[str, float]]:
    """The `limit` best (item id, score) pairs; ties fall by item id."""
    order_K = np.argsort(-scores_K, kind="stable")
    sorted_K = scores_K[order_K[: limit + 1]]
    if (sorted_K[1:] == sorted_K[:-1]).any():  # ids decide, and comparing them takes longer
        pairs = zip(item_ids, scores_K.tolist(), strict=True)
        return sorted(pairs, key=lambda pair: (-pair[1], pair[0]))[:limit]
    best = order_K[:limit].tolist()
    return list(zip([item_ids[place] for place in best], sorted_K[:limit].tolist(), strict=True))


def check_added(
    item_ids: Sequence[str],
    vectors_ND: NDArray[np.float32],
    *,
    dim: int,
    held: frozenset[str] | set[str],
) -> NDArray[np.float32]:
    """The vectors as contiguous float32, fit to be added to an index that holds `held`.

    Raises:
        ValueError: a wrong shape, a value that is not finite, or an id that occurs twice.
    """
    vectors_ND = check_finite(vectors_ND, dim=dim)
    if len(vectors_ND) != len(item_ids):
        raise ValueError(f"{len(item_ids)} item ids came with {len(vectors_ND)} vectors")
    seen = set(held)
    for item_id in item_ids:
        if item_id in seen:
            raise ValueError(f"the index holds item {item_id!r} already; an item is added once")
        seen.add(item_id)
    return vectors_ND


def check_finite(vectors_ND: NDArray[np.float32], *, dim: int) -> NDArray[np.float32]:
    """The vectors as contiguous float32 of the right dimension.

    Raises:
        ValueError: a wrong shape or a value that is not finite.
    """
    if vectors_ND.ndim != 2 or vectors_ND.shape[1] != dim:
        raise ValueError(f"expected vectors of shape [N, {dim}], got {list(vectors_ND.shape)}")
    is_bad_N = ~np.isfinite(vectors_ND).all(axis=1)
    if is_bad_N.any():
        raise ValueError(
            f"{int(is_bad_N.sum())} of {len(vectors_ND)} vectors are not finite, the first at row "
            f"{int(np.argmax(is_bad_N))}; embed these items again"
        )
    return np.ascontiguousarray(vectors_ND, dtype=np.float32)


def check_limit(limit: int) -> None:
    """Refuse a limit that asks for nothing."""
    if limit < 1:
        raise ValueError(f"limit must be at least 1, got {limit}")


def check_effort(effort: int | None) -> None:
    """Refuse a search that does not look."""
    if effort is not None and effort < 1:
        raise ValueError(f"effort must be at least 1, got {effort}")


def check_allowed(
    allowed_N: NDArray[np.bool_] | None, *, num_items: int
) -> NDArray[np.bool_] | None:
    """The mask, fit for an index of so many items; None where all are allowed.

    Raises:
        ValueError: another shape, or values that are not booleans.
    """
    if allowed_N is None:
        return None
    if allowed_N.dtype != np.bool_ or allowed_N.shape != (num_items,):
        raise ValueError(
            f"expected {num_items} booleans that say which items are allowed, got "
            f"{allowed_N.dtype} of shape {list(allowed_N.shape)}"
        )
    return None if allowed_N.all() else np.ascontiguousarray(allowed_N)
