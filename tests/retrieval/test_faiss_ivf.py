"""The IVF index keeps the contract."""

from tests.retrieval.index_contract import IndexContract


class TestFaissIvfIndex(IndexContract):
    kind = "ivf"
