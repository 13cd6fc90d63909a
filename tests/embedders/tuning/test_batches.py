"""Batches hold what was chosen beside what was not, and depend on their number alone."""

import numpy as np
import pytest

from embedders.tuning.batches import Batches
from tests.embedders.tuning.planted import world


def test_triples_are_of_a_user_a_choice_and_an_item_unknown_to_them() -> None:
    choices = world().choices
    known = set(zip(choices.users_E.tolist(), choices.items_E.tolist(), strict=True))
    batches = Batches(choices, np.ones(80, dtype=bool), size=16, seed=0)
    for step in range(20):
        batch = batches.items(step)
        items = batch.items_K.tolist()
        assert items == sorted(set(items))
        assert len(items) <= 16
        users, chosen, unknown = batch.triples_3B.tolist()
        assert set(chosen) | set(unknown) <= set(items)
        assert set(zip(users, chosen, strict=True)) <= known
        assert not set(zip(users, unknown, strict=True)) & known
        users, chosen, unknown = batches.triples(step, size=64).tolist()
        assert set(zip(users, chosen, strict=True)) <= known
        assert not set(zip(users, unknown, strict=True)) & known


def test_items_without_content_are_never_drawn() -> None:
    choices = world().choices
    has_content = np.arange(80) % 3 > 0
    batches = Batches(choices, has_content, size=16, seed=0)
    drawn = np.unique(np.concatenate([batches.items(step).items_K.numpy() for step in range(40)]))
    assert has_content[drawn].all()
    assert len(drawn) == has_content.sum()


def test_a_batch_depends_on_its_seed_and_number_alone() -> None:
    choices = world().choices
    one = Batches(choices, np.ones(80, dtype=bool), size=16, seed=0)
    other = Batches(choices, np.ones(80, dtype=bool), size=16, seed=0)
    other.items(0)
    assert other.items(7).triples_3B.tolist() == one.items(7).triples_3B.tolist()
    assert one.items(8).items_K.tolist() != one.items(7).items_K.tolist()
    third = Batches(choices, np.ones(80, dtype=bool), size=16, seed=1)
    assert third.items(7).items_K.tolist() != one.items(7).items_K.tolist()


def test_nothing_to_read_is_said() -> None:
    choices = world().choices
    with pytest.raises(ValueError, match="0 items have content"):
        Batches(choices, np.zeros(80, dtype=bool), size=16, seed=0)
    only_cold = np.arange(80) >= 60
    with pytest.raises(ValueError, match="0 choices are of one of them"):
        Batches(choices, only_cold, size=16, seed=0)
