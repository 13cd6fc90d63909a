"""An index and held-out queries in, its recall and latency at rising efforts out.

The truth is what an exact index finds for the same queries. The effort that is served with is the
least that reaches the recall aimed at; latencies are told, and decide nothing, for they differ
from run to run.

Shape legend: Q queries, D dimensions.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrieval.base import Index

DEPTH = 100
"""Of so many true best, recall is the share that was found."""

Found = Sequence[Sequence[tuple[str, float]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """What one effort brings and costs."""

    effort: int
    """0 where search is exact."""
    recall: float
    """Of the true first hundred, in [0, 1]; the mean over the queries."""
    p50_ms: float
    """Of single queries, one after the other. Measured: another run measures otherwise."""
    p99_ms: float


def measured(
    index: Index,
    queries_QD: NDArray[np.float32],
    true: Found,
    *,
    target: float,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[CurvePoint, ...]:
    """The curve, from the least effort to one step beyond the first that reaches the target.

    Args:
        index: Its effort is left as it is.
        queries_QD: Queries that are no items.
        true: For each query what an exact index finds, at least `DEPTH` where there are so many.
        target: The recall aimed at.
        clock: Seconds; the benchmarks count the thread's own.

    Raises:
        ValueError: there is no query.
    """
    if not len(queries_QD):
        raise ValueError("a curve is measured on queries, but there are none")
    points: list[CurvePoint] = []
    for effort in index.efforts or (0,):
        is_last = bool(points) and points[-1].recall >= target
        points.append(_point(index, queries_QD, true, effort, clock))
        if is_last:
            break
    return tuple(points)


def chosen(points: Sequence[CurvePoint], *, target: float) -> CurvePoint:
    """The least effort that reaches the target; the one with the greatest recall if none does."""
    reaching = [point for point in points if point.recall >= target]
    if reaching:
        return min(reaching, key=lambda point: point.effort)
    return max(points, key=lambda point: (point.recall, -point.effort))


def _point(
    index: Index,
    queries_QD: NDArray[np.float32],
    true: Found,
    effort: int,
    clock: Callable[[], float],
) -> CurvePoint:
    index.search(queries_QD[:1], limit=DEPTH, effort=effort or None)  # the first one warms up
    shares, took_ms = [], []
    for row, best in enumerate(true):
        began = clock()
        (found,) = index.search(queries_QD[row : row + 1], limit=DEPTH, effort=effort or None)
        took_ms.append(1000 * (clock() - began))
        wanted = {item_id for item_id, _ in best[:DEPTH]}
        num_found = sum(item_id in wanted for item_id, _ in found)
        shares.append(num_found / len(wanted) if wanted else 1.0)
    p50, p99 = np.percentile(took_ms, [50, 99]).tolist()
    return CurvePoint(effort=effort, recall=float(np.mean(shares)), p50_ms=p50, p99_ms=p99)
