"""Held-out lists are ranked whole, and measured as written by hand."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from embedders.items import Modality
from ranker.batches import Batches, Drawn
from ranker.config import Loss
from ranker.curriculum import Sees, plan
from ranker.survey import unmasked
from ranker.team import Team
from ranker.validation import (
    Answered,
    answer,
    calibrated,
    look,
    loss_of,
    ndcg_of,
    spread,
)
from tests.ranker import model_world
from tests.ranker.test_batches import ITEMS, batches_of, fresh

ALONE = Team()
# Of several lengths, so that lists of one pass have to be filled up.
HELD_OUT = [
    *model_world.examples(5, seed=4, limit=12),
    *model_world.examples(5, seed=5, limit=7),
]


def answered(scores: list[float], chosen: list[int]) -> Answered:
    return Answered(
        item_ids=tuple(f"item-{n}" for n in range(len(scores))),
        priors_N=np.array(scores, dtype=np.float32),
        logits_N=np.zeros(len(scores), dtype=np.float32),
        is_chosen_N=np.array([n in chosen for n in range(len(scores))]),
    )


def test_ndcg_is_as_written_by_hand_and_ties_fall_by_id() -> None:
    ideal = 1 + 1 / math.log2(3)
    assert ndcg_of(answered([3, 2, 1, 0], [0, 1])) == pytest.approx(1)
    assert ndcg_of(answered([3, 2, 1, 0], [1, 3])) == pytest.approx(
        (1 / math.log2(3) + 1 / math.log2(5)) / ideal
    )
    assert ndcg_of(answered([1, 1, 1], [1])) == pytest.approx(1 / math.log2(3))
    assert ndcg_of(answered([-n for n in range(20)], [10])) == 0, "the eleventh counts no more"


def test_losses_are_as_written_by_hand() -> None:
    one = answered([2.0, 0.0, -1.0, 1.0], [0, 3])
    rest = math.exp(0) + math.exp(-1)
    by_hand = [math.log(rest + math.exp(score)) - score for score in (2, 1)]
    assert loss_of(one, "listwise") == pytest.approx(np.mean(by_hand))
    softplus = [math.log(1 + math.exp(x)) for x in (-2, 0, -1, -1)]
    assert loss_of(one, "pointwise") == pytest.approx(np.mean(softplus))


@pytest.mark.parametrize("kind", ["answer", "sequence"])
def test_what_the_llm_says_is_looked_at_without_the_prior(kind: Loss) -> None:
    one = answered([2.0, 0.0, -1.0, 1.0], [0, 3])
    said = replace(one, logits_N=one.priors_N, priors_N=np.full(4, 9.0, dtype=np.float32))
    assert loss_of(said, kind) == pytest.approx(loss_of(one, "pointwise"))
    assert loss_of(one, kind) == pytest.approx(math.log(2)), "it has no opinion"


def test_a_choice_among_many_is_spread_from_first_to_last() -> None:
    assert spread([0] * 10, 4) == [0, 2, 5, 7]  # type: ignore[list-item]
    assert spread([0] * 3, 4) == [0, 1, 2]  # type: ignore[list-item]
    assert spread([], 4) == []


@pytest.mark.parametrize("sees", ["titles", "single", "all"])
def test_lists_together_are_answered_as_each_alone(sees: Sees, llm_folder: Path) -> None:
    model = fresh(llm_folder)
    batches = batches_of(model)
    found = dict(answer(batches, HELD_OUT, range(len(HELD_OUT)), sees=sees, team=ALONE))
    assert sorted(found) == list(range(len(HELD_OUT)))
    for number, example in enumerate(HELD_OUT):
        kept = model.modalities[number % 3]
        dropped = tuple(one for one in model.modalities if one is not kept)
        drawn = Drawn(
            sees=sees,
            dropped=dropped if sees == "single" else (),
            examples=(example,),
            picked=(unmasked(example),),
        )
        with torch.no_grad():
            priors, logits = batches.answers(drawn)
        np.testing.assert_allclose(found[number].priors_N, priors[0].numpy(), atol=1e-5)
        np.testing.assert_allclose(found[number].logits_N, logits[0].numpy(), atol=1e-5)
        assert found[number].item_ids == tuple(one.item_id for one in example.candidates)


def test_masked_candidates_are_neither_right_nor_wrong(llm_folder: Path) -> None:
    batches = batches_of(fresh(llm_folder))
    example = HELD_OUT[0]
    others = [one.item_id for one in example.candidates if one.item_id not in example.chosen]
    masked = replace(example, masked=frozenset(others[:2]))
    ((_, whole),) = answer(batches, [example], [0], sees="all", team=ALONE)
    ((_, found),) = answer(batches, [masked], [0], sees="all", team=ALONE)
    assert set(whole.item_ids) - set(found.item_ids) == masked.masked
    assert found.is_chosen_N.sum() == whole.is_chosen_N.sum()


def test_a_team_answers_every_list_once_and_as_one_process_does(llm_folder: Path) -> None:
    batches = batches_of(fresh(llm_folder))
    many = HELD_OUT * 8  # several passes
    places = range(len(many))
    alone = dict(answer(batches, many, places, sees="single", team=ALONE))
    shares = [
        dict(answer(batches, many, places, sees="single", team=Team(index=index, count=2)))
        for index in range(2)
    ]
    assert all(shares)
    assert sorted([*shares[0], *shares[1]]) == list(places)
    for number, one in (shares[0] | shares[1]).items():
        assert np.array_equal(one.scores, alone[number].scores)


def test_a_look_says_where_it_was_taken(llm_folder: Path) -> None:
    model = fresh(llm_folder)
    batches = batches_of(model)
    stage = plan(model.config)[-1]
    found = look(batches, HELD_OUT, stage=stage, step=7, kind="listwise", team=ALONE)
    assert (found.stage, found.step) == ("fusion", 7)
    every = dict(answer(batches, HELD_OUT, range(len(HELD_OUT)), sees="all", team=ALONE))
    assert found.loss == pytest.approx(np.mean([loss_of(e, "listwise") for e in every.values()]))
    assert found.ndcg == pytest.approx(np.mean([ndcg_of(e) for e in every.values()]))
    with pytest.raises(ValueError, match="no held-out moments"):
        look(batches, [], stage=stage, step=7, kind="listwise", team=ALONE)


def test_scores_are_calibrated_on_whole_lists_or_left_as_they_are(llm_folder: Path) -> None:
    batches = batches_of(fresh(llm_folder))
    assert calibrated(batches, HELD_OUT, limit=100, team=ALONE) is None, "ten lists are too few"
    assert calibrated(batches, [], limit=100, team=ALONE) is None
    fitted = calibrated(batches, HELD_OUT * 4, limit=25, team=ALONE)
    assert fitted is not None
    assert fitted.num_lists == 25


def test_modalities_take_turns_over_the_moments(llm_folder: Path) -> None:
    """A silent world answers differently only where sound has its turn."""
    model = fresh(llm_folder)
    silent = replace(ITEMS, is_present_NM=ITEMS.is_present_NM & [[False, True, True]])
    deaf = Batches(model, HELD_OUT, items=silent, titles=model_world.TITLES)
    heard = dict(answer(batches_of(model), HELD_OUT, range(10), sees="single", team=ALONE))
    unheard = dict(answer(deaf, HELD_OUT, range(10), sees="single", team=ALONE))
    audio = model.modalities.index(Modality.AUDIO)
    for number in range(10):
        is_equal = np.allclose(heard[number].scores, unheard[number].scores, atol=1e-5)
        assert is_equal == (number % 3 != audio), number
