"""Stage 1 finds the taste, stops by validation, and is the same twice."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from embedders.items import Modality
from embedders.tuning.choices import Choices
from embedders.tuning.config import TuningConfig
from embedders.tuning.features import Features
from embedders.tuning.stage_one import BASES, fit, go_on
from embedders.tuning.validation import Validation
from tests.embedders.tuning.planted import World, world

CONFIG = TuningConfig(dim=8, epochs=30, patience=4, base_batch_size=128, base_learning_rate=0.03)
every_base = pytest.mark.parametrize("base", sorted(BASES))


def told(own: World) -> dict[Modality, Features]:
    """Features that tell the kind plainly."""
    vectors = np.stack([own.numbers[item.item_id] for item in own.items])
    vectors[:, 0] *= 3
    return {Modality.TEXT: Features(vectors_ID=vectors, is_present_I=np.ones(80, dtype=bool))}


@pytest.mark.parametrize("base", ["lightgcn", "vbpr"])
def test_items_nobody_chose_are_ranked_by_what_they_show(base: str) -> None:
    own = world()
    fitted = fit(own.choices, told(own), replace(CONFIG, base=base))  # type: ignore[arg-type]
    scores = fitted.recommender.scores(torch.arange(120)).numpy()[:, -own.num_cold :]
    is_liked = own.tastes_U[:, None] == own.kinds_I[None, -own.num_cold :]
    assert scores[is_liked].mean() > scores[~is_liked].mean() + scores.std()


@every_base
def test_the_best_epoch_is_kept_and_measured(base: str) -> None:
    own = world()
    config = replace(CONFIG, base=base)  # type: ignore[arg-type]
    told_of: list[int] = []
    fitted = fit(
        own.choices, told(own), config, on_progress=lambda _, done, of, loss: told_of.append(done)
    )
    assert told_of == list(range(1, len(fitted.losses) + 1))
    assert len(fitted.losses) in (fitted.epochs + config.patience, config.epochs)
    assert Validation(own.choices, seed=0).recall(fitted.recommender) == fitted.recall
    assert fitted.losses[-1] < fitted.losses[0]


@every_base
def test_equal_seeds_give_equal_parameters_and_others_others(base: str) -> None:
    own = world()
    config = replace(CONFIG, base=base, epochs=3)  # type: ignore[arg-type]
    one, same = (fit(own.choices, told(own), config).recommender.state_dict() for _ in range(2))
    other = fit(own.choices, told(own), replace(config, seed=1)).recommender.state_dict()
    assert all((one[name] == same[name]).all() for name in one)
    assert any((one[name] != other[name]).any() for name in one)


def test_going_on_keeps_what_was_there_where_nothing_is_better() -> None:
    own = world()
    fitted = fit(own.choices, told(own), CONFIG)
    before = {name: one.clone() for name, one in fitted.recommender.state_dict().items()}
    again = go_on(
        fitted.recommender, own.choices, replace(CONFIG, base_learning_rate=50.0), epochs=2
    )
    assert (again.epochs, again.recall) == (0, fitted.recall)
    after = fitted.recommender.state_dict()
    assert all((before[name] == after[name]).all() for name in before)


def test_with_nobody_to_validate_by_the_last_epoch_stays() -> None:
    own = world()
    empty = own.choices.users_V[:0]
    fitted = fit(
        replace(own.choices, users_V=empty, items_V=empty), told(own), replace(CONFIG, epochs=3)
    )
    assert (fitted.epochs, len(fitted.losses)) == (3, 3)


def test_users_who_chose_everything_tell_nothing_apart() -> None:
    choices = Choices(
        user_ids=["a"],
        item_ids=["x", "y"],
        users_E=np.array([0, 0]),
        items_E=np.array([0, 1]),
        users_V=np.zeros(0, dtype=np.int64),
        items_V=np.zeros(0, dtype=np.int64),
    )
    ones = Features(vectors_ID=np.ones((2, 3), dtype=np.float32), is_present_I=np.ones(2, bool))
    with pytest.raises(ValueError, match="every user chose every item"):
        fit(choices, {Modality.TEXT: ones}, CONFIG)
