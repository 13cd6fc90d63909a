"""The order that any machine repeats."""

import numpy as np

from retrieval.order import best_first, exact_scores, largest_norm, rounding


def test_equal_rows_score_equally_wherever_they_lie() -> None:
    random = np.random.default_rng(0)
    for dim in (1, 7, 64, 129, 600):
        rows = np.tile(random.normal(size=(1, dim)).astype(np.float32), (37, 1))
        query = random.normal(size=dim).astype(np.float32)
        scores = {*exact_scores(rows, query).tolist(), *exact_scores(rows[5:6], query).tolist()}
        assert len(scores) == 1


def test_two_roundings_of_one_product_differ_by_less_than_the_allowance() -> None:
    random = np.random.default_rng(1)
    rows = random.normal(size=(2000, 600)).astype(np.float32)
    query = random.normal(size=600).astype(np.float32)
    difference = np.abs(exact_scores(rows, query) - rows @ query).max()
    assert difference < rounding(query, largest_norm(rows)) / 4


def test_the_longest_of_no_vectors_is_nothing() -> None:
    assert largest_norm(np.zeros((0, 3), dtype=np.float32)) == 0


def test_ties_fall_by_item_id() -> None:
    scores = np.array([0.5, 1.0, 0.5], dtype=np.float32)
    assert best_first(["c", "b", "a"], scores, limit=2) == [("b", 1.0), ("a", 0.5)]
