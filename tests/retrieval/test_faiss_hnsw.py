"""The HNSW index keeps the contract."""

from tests.retrieval.index_contract import IndexContract


class TestFaissHnswIndex(IndexContract):
    kind = "hnsw"
    least_recall = 0.99
