"""The FAISS index keeps the contract, and is congruent with the exact one."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from embedders.vectors import normalize
from retrieval.base import UnusableIndex
from retrieval.exact import ExactIndex
from retrieval.faiss_flat import FaissFlatIndex, faiss
from retrieval.faiss_gpu import has_gpu
from retrieval.tensor_file import write
from tests.retrieval.index_contract import IndexContract


class TestFaissFlatIndex(IndexContract):
    kind = "flat"


@pytest.mark.parametrize("num_queries", [1, 64])
@pytest.mark.parametrize("limit", [1, 10, 999, 2000])
def test_it_answers_bit_by_bit_as_the_exact_index(num_queries: int, limit: int) -> None:
    random = np.random.default_rng(limit)
    vectors = normalize(random.normal(size=(1000, 48)))
    vectors[500:] = vectors[:500]  # every score occurs twice
    queries = normalize(random.normal(size=(num_queries, 48)))
    item_ids = [str(number) for number in random.permutation(1000)]
    flat, exact = FaissFlatIndex(dim=48), ExactIndex(dim=48)
    flat.add(item_ids, vectors)
    exact.add(item_ids, vectors)
    assert flat.search(queries, limit=limit) == exact.search(queries, limit=limit)


def test_faiss_is_imported_safely_where_warnings_are_errors() -> None:
    command = [sys.executable, "-W", "error", "-c", "import retrieval.faiss_flat"]
    assert subprocess.run(command, check=False).returncode == 0


def test_a_faiss_index_of_another_size_or_type_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "index"
    stored = faiss.IndexFlatL2(4)
    write(path, item_ids=[], arrays={"faiss": faiss.serialize_index(stored)})
    with pytest.raises(UnusableIndex, match="IndexFlatL2 of 0 vectors for 0 ids"):
        FaissFlatIndex.load(path)
    stored = faiss.IndexFlatIP(4)
    write(path, item_ids=["a"], arrays={"faiss": faiss.serialize_index(stored)})
    with pytest.raises(UnusableIndex, match="0 vectors for 1 ids"):
        FaissFlatIndex.load(path)


@pytest.mark.gpu
def test_a_gpu_finds_what_the_processor_finds_and_follows_what_is_added() -> None:
    assert has_gpu(), "this test needs a build of FAISS for GPUs"
    random = np.random.default_rng(0)
    vectors = normalize(random.normal(size=(3000, 48)))
    queries = normalize(random.normal(size=(40, 48)))
    item_ids = [str(number) for number in random.permutation(3000)]
    flat, exact = FaissFlatIndex(dim=48), ExactIndex(dim=48)
    for index in (flat, exact):
        index.add(item_ids[:2000], vectors[:2000])
    for limit in (1, 100, 2500):
        assert flat.search(queries, limit=limit) == exact.search(queries, limit=limit)
    for index in (flat, exact):
        index.add(item_ids[2000:], vectors[2000:])
    assert flat.search(queries, limit=100) == exact.search(queries, limit=100)
    assert flat.search(queries[:1], limit=100) == exact.search(queries[:1], limit=100)
