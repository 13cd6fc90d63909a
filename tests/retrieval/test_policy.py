"""The kind of index by size and memory, with reasons that add up."""

import numpy as np
import pytest

from embedders.vectors import normalize
from retrieval.policy import FLAT_ITEMS, GIB, HNSW_ITEMS, choose, memory_of
from retrieval.registry import KINDS, create

ROOMY = 1000.0


@pytest.mark.parametrize(
    ("num_items", "kind"),
    [
        (1, "flat"),
        (FLAT_ITEMS, "flat"),
        (FLAT_ITEMS + 1, "hnsw"),
        (HNSW_ITEMS, "hnsw"),
        (HNSW_ITEMS + 1, "ivfpq"),
        (10**8, "ivfpq"),
    ],
)
def test_size_decides_where_memory_suffices(num_items: int, kind: str) -> None:
    assert choose(num_items, 384, memory_limit_gib=ROOMY).kind == kind


def test_what_does_not_fit_is_kept_as_codes() -> None:
    needed = memory_of("hnsw", num_items=40_000, dim=384) / GIB
    assert choose(40_000, 384, memory_limit_gib=1.01 * needed).kind == "hnsw"
    choice = choose(40_000, 384, memory_limit_gib=0.99 * needed)
    assert choice.kind == "ivfpq"
    assert [("exceed" in reason, "fit into" in reason) for reason in choice.reasons[1:]] == [
        (True, False),
        (False, True),
    ]


def test_without_a_limit_the_machines_memory_is_one() -> None:
    assert choose(100, 8).kind == "flat"
    assert choose(10**15, 384).reasons[-1].count("exceed") == 1


@pytest.mark.parametrize("limit", [0.0, -1.0, float("nan")])
def test_a_limit_that_is_not_positive_is_refused(limit: float) -> None:
    with pytest.raises(ValueError, match="memory_limit_gib must be positive"):
        choose(100, 8, memory_limit_gib=limit)


def test_memory_of_an_unknown_kind_is_not_guessed() -> None:
    with pytest.raises(ValueError, match="no index of kind 'annoy'"):
        memory_of("annoy", num_items=1, dim=1)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "exact"])
def test_what_is_reckoned_is_what_the_structure_holds(kind: str) -> None:
    vectors = normalize(np.random.default_rng(0).normal(size=(5000, 64)))
    index = create(kind, dim=64)
    index.add([str(row) for row in range(5000)], vectors)
    held = index._arrays()["faiss"].nbytes  # type: ignore[attr-defined]
    reckoned = memory_of(kind, num_items=5000, dim=64)
    assert 0.7 < reckoned / held < 1.3
