"""Full ranking of what a user did not choose before, ties by item id."""

from dataclasses import replace

import numpy as np
import torch

from embedders.items import Modality
from embedders.tuning.config import TuningConfig
from embedders.tuning.features import Features
from embedders.tuning.stage_one import create
from embedders.tuning.validation import Validation, ranks, unknown_scores
from embedders.tuning.vbpr import Vbpr
from tests.embedders.tuning.planted import world


def constant() -> tuple[Vbpr, np.ndarray]:
    """A recommender to whom item n is worth -n for everybody, but items 4 and 5 the same."""
    ones = Features(
        vectors_ID=np.ones((80, 1), dtype=np.float32), is_present_I=np.ones(80, dtype=bool)
    )
    recommender = create(world().choices, {Modality.TEXT: ones}, TuningConfig(dim=1))
    assert isinstance(recommender, Vbpr)
    worth = -np.arange(80, dtype=np.float32)
    worth[5] = worth[4]
    with torch.no_grad():
        recommender.users.copy_(torch.tensor([[1.0, 0.0]]).expand(120, 2))
        recommender.items.copy_(torch.from_numpy(worth)[:, None])
    return recommender, worth


def test_a_rank_counts_unknown_items_ahead_and_equal_ones_of_a_lower_id() -> None:
    recommender, worth = constant()
    choices = world().choices
    users = np.arange(120)
    known = [set(choices.items_E[choices.users_E == user].tolist()) for user in users]
    for target in (4, 5, 6):
        asked = np.array([user for user in users if target not in known[user]])
        found = ranks(recommender, choices, asked, np.full(len(asked), target))
        expected = [
            sum(
                (worth[n], -n) > (worth[target], -target) for n in range(80) if n not in known[user]
            )
            for user in asked.tolist()
        ]
        assert found.tolist() == expected


def test_known_items_are_out_of_the_race_and_nothing_else_is() -> None:
    recommender, worth = constant()
    choices = world().choices
    scores = unknown_scores(recommender, choices, np.array([7, 3])).numpy()
    for row, user in enumerate((7, 3)):
        is_known = np.isin(np.arange(80), choices.items_E[choices.users_E == user])
        assert np.isneginf(scores[row][is_known]).all()
        np.testing.assert_array_equal(scores[row][~is_known], worth[~is_known])


def test_recall_is_the_share_of_last_choices_among_the_first_twenty() -> None:
    recommender, _ = constant()
    choices = world().choices
    expected = (ranks(recommender, choices, choices.users_V, choices.items_V) < 20).mean()
    assert 0 < expected < 1
    assert Validation(choices, seed=0).recall(recommender) == expected


def test_nobody_to_ask_is_no_recall() -> None:
    recommender, _ = constant()
    choices = world().choices
    nobody = replace(choices, users_V=choices.users_V[:0], items_V=choices.items_V[:0])
    assert Validation(nobody, seed=0).recall(recommender) == 0
