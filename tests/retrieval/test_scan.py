"""Comparing with some rows finds what comparing with all would, among them."""

import numpy as np
import pytest

from retrieval import scan as module
from retrieval.order import exact_scores
from retrieval.scan import scan


def world(seed: int = 0) -> tuple[np.ndarray, list[str], np.ndarray]:
    random = np.random.default_rng(seed)
    half = random.normal(size=(150, 9)).astype(np.float32)
    ids = [f"{row:03}" for row in range(300)]
    return np.concatenate([half, half]), ids, random.normal(size=(5, 9)).astype(np.float32)


@pytest.mark.parametrize("copied", [1, 10_000])
@pytest.mark.parametrize("limit", [1, 10, 299, 1000])
def test_the_best_rows_are_found_copied_or_where_they_lie(
    monkeypatch: pytest.MonkeyPatch, copied: int, limit: int
) -> None:
    monkeypatch.setattr(module, "COPIED_ROWS", copied)
    vectors, ids, queries = world()
    rows = np.random.default_rng(1).permutation(300)[:280]
    found = scan(queries, vectors, ids, rows_R=rows, limit=limit, norm=20)
    for query, pairs in zip(queries, found, strict=True):
        scores = exact_scores(vectors, query)
        best = sorted(rows.tolist(), key=lambda row: (-scores[row], ids[row]))[:limit]
        assert pairs == [(ids[row], float(scores[row])) for row in best]


def test_no_row_and_no_query_find_nothing() -> None:
    vectors, ids, queries = world()
    none = np.zeros(0, dtype=np.int64)
    assert scan(queries, vectors, ids, rows_R=none, limit=3, norm=20) == [[]] * 5
    assert scan(queries[:0], vectors, ids, rows_R=np.arange(300), limit=3, norm=20) == []
