"""The exact index keeps the contract, and agrees with sums in double precision."""

import numpy as np

from retrieval import near
from retrieval.exact import ExactIndex
from tests.retrieval.index_contract import IndexContract


class TestExactIndex(IndexContract):
    kind = "exact"


def test_it_agrees_with_every_inner_product_in_double_precision() -> None:
    random = np.random.default_rng(0)
    vectors = random.normal(size=(200, 40)).astype(np.float32)
    queries = random.normal(size=(near.QUERY_BLOCK + 3, 40)).astype(np.float32)
    index = ExactIndex(dim=40)
    index.add([f"{row:03}" for row in range(200)], vectors)
    truth = queries.astype(np.float64) @ vectors.astype(np.float64).T
    for found, scores in zip(index.search(queries, limit=10), truth, strict=True):
        assert [int(item_id) for item_id, _ in found] == np.argsort(-scores)[:10].tolist()
        np.testing.assert_allclose([score for _, score in found], np.sort(scores)[::-1][:10], 1e-5)
