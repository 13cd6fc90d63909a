"""No row that belongs to a query's best is missed, and few others are kept."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedders.vectors import normalize
from retrieval import near
from retrieval.near import near_rows


@settings(deadline=None, max_examples=60)
@given(
    num_rows=st.integers(0, 300),
    limit=st.integers(1, 330),
    share=st.sampled_from([0.0, 0.05, 0.5, 1.0, None]),
    seed=st.integers(0, 9),
)
def test_exactly_the_rows_at_or_above_the_last_best_are_kept(
    num_rows: int, limit: int, share: float | None, seed: int
) -> None:
    random = np.random.default_rng(seed)
    vectors = random.integers(-2, 3, size=(num_rows, 3)).astype(np.float32)  # ties abound
    queries = random.integers(-2, 3, size=(5, 3)).astype(np.float32)
    allowed = None if share is None else random.random(num_rows) < share
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(near, "ITEM_BLOCK", 64)
        found = near_rows(
            vectors, queries, limit=limit, slack_Q=np.zeros(5, np.float32), allowed_N=allowed
        )
    counted = np.arange(num_rows) if allowed is None else np.flatnonzero(allowed)
    for rows, scores in zip(found, queries @ vectors.T, strict=True):
        scores = scores[counted]
        must = counted if len(counted) <= limit else counted[scores >= np.sort(scores)[-limit]]
        assert set(must.tolist()) <= set(rows.tolist()) <= set(counted.tolist())
        assert (np.diff(rows) > 0).all()


def test_hardly_more_rows_are_kept_than_are_sought() -> None:
    random = np.random.default_rng(0)
    vectors = normalize(random.normal(size=(40_000, 16)))
    queries = normalize(random.normal(size=(near.QUERY_BLOCK + 1, 16)))
    found = near_rows(vectors, queries, limit=100, slack_Q=np.full(len(queries), 1e-5, np.float32))
    assert np.mean([len(rows) for rows in found]) < 130
    assert min(len(rows) for rows in found) >= 100


def test_the_slack_keeps_what_may_have_been_rounded_down() -> None:
    vectors = np.array([[1.0], [0.999], [0.9]], dtype=np.float32)
    query = np.ones((1, 1), dtype=np.float32)
    for slack, expected in ((0.0, [0]), (0.01, [0, 1]), (0.2, [0, 1, 2])):
        found = near_rows(vectors, query, limit=1, slack_Q=np.full(1, slack, np.float32))
        assert found[0].tolist() == expected
