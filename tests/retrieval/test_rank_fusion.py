"""Reciprocal rank fusion on lists whose answer is counted by hand."""

import numpy as np
import pytest

from embedders.items import Modality
from retrieval.candidates import Candidate
from retrieval.fusion import Listed
from retrieval.rank_fusion import DAMPING, ByRank, fuse


def ranked(*item_ids: str, modality: Modality = Modality.TEXT) -> list[Candidate]:
    return [
        Candidate(item_id=item_id, score=9.0, rank=rank, evidence={modality: 1 / rank})
        for rank, item_id in enumerate(item_ids, start=1)
    ]


def test_an_item_found_twice_outranks_one_found_once() -> None:
    fused = fuse([ranked("a", "b"), ranked("c", "b", modality=Modality.AUDIO)], limit=3)
    assert [one.item_id for one in fused] == ["b", "a", "c"]
    assert [one.rank for one in fused] == [1, 2, 3]
    assert fused[0].score == pytest.approx(2 / (DAMPING + 2))
    assert fused[0].evidence == {Modality.TEXT: 0.5, Modality.AUDIO: 0.5}


def test_ties_fall_by_item_id_and_the_limit_is_kept() -> None:
    assert [one.item_id for one in fuse([ranked("z"), ranked("y"), ranked("x")], limit=2)] == [
        "x",
        "y",
    ]


def test_the_larger_cosine_of_one_modality_stays() -> None:
    fused = fuse([ranked("a", "b"), ranked("b", "a")], limit=2)
    assert [one.evidence for one in fused] == [{Modality.TEXT: 1.0}] * 2


def test_no_list_gives_no_candidate() -> None:
    assert fuse([], limit=3) == []
    assert fuse([[], []], limit=3) == []


def test_an_item_twice_in_one_list_is_refused() -> None:
    with pytest.raises(ValueError, match=r"twice in one list: \['a'\]"):
        fuse([ranked("a", "b", "a")], limit=3)


def test_a_limit_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="limit must be at least 1"):
        fuse([], limit=0)


def test_as_a_fusion_of_block_lists_it_adds_what_fuse_adds() -> None:
    listed = Listed(
        blocks=("audio", "text"),
        ranks_KM=np.array([[1, 0], [2, 2], [0, 0]]),
        cosines_KM=np.zeros((3, 2)),
        is_present_KM=np.ones((3, 2), dtype=bool),
        scores_K=np.zeros(3),
    )
    expected = [1 / (DAMPING + 1), 2 / (DAMPING + 2), 0.0]
    np.testing.assert_allclose(ByRank().scores(listed), expected)
