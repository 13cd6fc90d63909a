"""Packed lists read as the lists that went in."""

import pytest

from evaluation.packed import PackedRankings, RunPacker


def test_what_goes_in_comes_out_user_by_user():
    packer = RunPacker("one")
    packer.add("u1", ["b", "a"], [0.5, -1.25])
    packer.add("u2", [], [])
    packer.add("u0", ["a", "c"], [3.0, 2.0])
    run = packer.run()
    assert dict(run.rankings) == {"u1": ["b", "a"], "u2": [], "u0": ["a", "c"]}
    assert dict(run.scores) == {"u1": [0.5, -1.25], "u2": [], "u0": [3.0, 2.0]}
    assert list(run.rankings) == ["u1", "u2", "u0"]


def test_a_user_is_ranked_once():
    rankings = PackedRankings()
    rankings.add("u1", ["a"])
    with pytest.raises(ValueError, match="'u1' is ranked twice"):
        rankings.add("u1", ["b"])


def test_an_unknown_user_is_no_user():
    with pytest.raises(KeyError):
        PackedRankings()["u1"]


def test_packed_lists_equal_plain_ones():
    rankings = PackedRankings()
    rankings.add("u1", ["a", "b"])
    assert rankings == {"u1": ["a", "b"]}
    assert rankings != {"u1": ["b", "a"]}
