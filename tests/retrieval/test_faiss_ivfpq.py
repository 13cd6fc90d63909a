"""The IVF-PQ index keeps the contract."""

from tests.retrieval.index_contract import IndexContract


class TestFaissIvfPqIndex(IndexContract):
    kind = "ivfpq"
    least_recall = 0.99
