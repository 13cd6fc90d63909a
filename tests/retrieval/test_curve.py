"""The curve is measured against the truth, and the least sufficient effort is chosen."""

import itertools

import numpy as np
import pytest

from retrieval.curve import CurvePoint, chosen, measured
from retrieval.exact import ExactIndex
from retrieval.faiss_ivf import FaissIvfIndex
from tests.retrieval.index_contract import recall, world


def ivf() -> tuple[FaissIvfIndex, list[list[tuple[str, float]]]]:
    item_ids, vectors, queries = world()
    index, exact = FaissIvfIndex(dim=24), ExactIndex(dim=24)
    index.add(item_ids, vectors)
    exact.add(item_ids, vectors)
    return index, exact.search(queries, limit=100)


def test_each_point_has_the_recall_of_its_effort_up_to_one_beyond_the_target() -> None:
    index, true = ivf()
    _, _, queries = world()
    before = index.effort
    points = measured(index, queries, true, target=0.95)
    assert index.effort == before
    assert [point.effort for point in points] == list(index.efforts[: len(points)])
    assert [point.recall >= 0.95 for point in points] == [False] * (len(points) - 2) + [True] * 2
    for point in points:
        found = index.search(queries, limit=100, effort=point.effort)
        assert point.recall == pytest.approx(recall(found, true))


def test_latencies_are_percentiles_of_single_queries() -> None:
    _, _, queries = world()
    exact = ExactIndex(dim=24)
    exact.add(["a"], queries[:1])
    ticks = itertools.accumulate(range(2 * len(queries)))  # the n-th query takes 2 n + 1 seconds
    (point,) = measured(
        exact, queries, exact.search(queries, limit=1), target=1, clock=lambda: float(next(ticks))
    )
    took_ms = [1000 * (2 * number + 1) for number in range(len(queries))]
    assert (point.effort, point.recall) == (0, 1.0)
    assert (point.p50_ms, point.p99_ms) == tuple(np.percentile(took_ms, [50, 99]))


def test_without_a_query_nothing_can_be_measured() -> None:
    with pytest.raises(ValueError, match="there are none"):
        measured(ExactIndex(dim=3), np.zeros((0, 3), dtype=np.float32), [], target=0.99)


@pytest.mark.parametrize(
    ("recalls", "expected"),
    [
        ([0.9, 0.99, 0.995], 2),
        ([0.99, 0.98, 0.99], 1),
        ([0.5, 0.7, 0.8], 4),
        ([0.5, 0.8, 0.8], 2),
    ],
)
def test_the_least_effort_that_reaches_the_target_wins_else_the_greatest_recall(
    recalls: list[float], expected: int
) -> None:
    points = [
        CurvePoint(effort=effort, recall=found, p50_ms=1, p99_ms=1)
        for effort, found in zip((1, 2, 4), recalls, strict=True)
    ]
    assert chosen(points, target=0.99).effort == expected
