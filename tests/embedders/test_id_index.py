"""Ids looked up in two sorted columns: as a dictionary of lists would answer."""

from collections import defaultdict

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from embedders import id_index
from embedders.id_index import IdIndex


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=3)))
def test_it_answers_as_a_dictionary_would(ids: list[str]) -> None:
    expected: defaultdict[str, list[int]] = defaultdict(list)
    for place, each in enumerate(ids):
        expected[each].append(place)

    index = IdIndex(ids)

    for each in {*ids, "stranger"}:
        assert index.places(each).tolist() == expected[each]
    assert index.is_single().tolist() == [len(expected[each]) == 1 for each in ids]
    assert sorted(index.by_digest().tolist()) == list(range(len(ids)))


def test_ids_that_share_half_of_their_key_are_told_apart(monkeypatch) -> None:
    halves = {"a": (7, 1), "b": (7, 2), "c": (7, 3), "d": (5, 2)}
    monkeypatch.setattr(
        id_index, "_key", lambda each: np.array(halves[each], dtype="<u8").tobytes()
    )

    index = IdIndex(["b", "a", "d", "b"])

    assert {each: index.places(each).tolist() for each in halves} == {
        "a": [1],
        "b": [0, 3],
        "c": [],
        "d": [2],
    }
    assert index.is_single().tolist() == [False, True, True, False]


def test_the_order_by_digest_does_not_depend_on_the_ids_order() -> None:
    ids = [f"item-{n}" for n in range(50)]

    forward = [ids[place] for place in IdIndex(ids).by_digest()]
    backward = [ids[::-1][place] for place in IdIndex(ids[::-1]).by_digest()]

    assert forward == backward
    assert forward != ids


def test_half_of_a_surrogate_pair_is_never_found() -> None:
    assert IdIndex(["a"]).places("\ud800").tolist() == []
