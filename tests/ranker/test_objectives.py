"""Losses computed by hand, and what they do to scores."""

import math
from typing import get_args

import pytest
import torch
from torch import Tensor

from ranker.objectives import Ranked, loss, preference_loss

LOGITS = torch.tensor([[2.0, 0.5, -1.0], [0.0, 1.0, 3.0], [-2.0, -2.0, 0.25], [4.0, 1.0, 1.0]])
REFERENCE = torch.tensor([[1.0, 0.0, -1.0], [0.5, 0.5, 0.5], [-2.0, 1.0, 0.0], [3.0, 1.5, 2.0]])


def test_listwise_is_the_surprise_at_the_first_branch() -> None:
    first, second, third = 2.0, 0.5, -1.0
    total = math.exp(first) + math.exp(second) + math.exp(third)
    assert loss(LOGITS[:1], "listwise").item() == pytest.approx(math.log(total) - first)


def test_pointwise_asks_yes_of_the_first_branch_and_no_of_the_others() -> None:
    expected = [math.log1p(math.exp(-2.0)), math.log1p(math.exp(0.5)), math.log1p(math.exp(-1.0))]
    assert loss(LOGITS[:1], "pointwise").item() == pytest.approx(sum(expected) / 3)


def test_pointwise_moves_when_all_scores_rise_and_listwise_does_not() -> None:
    torch.testing.assert_close(loss(LOGITS + 3, "listwise"), loss(LOGITS, "listwise"))
    assert loss(LOGITS + 3, "pointwise") > loss(LOGITS, "pointwise") + 0.5


def test_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="'listwise' or 'pointwise', got 'pairs'"):
        loss(LOGITS, "pairs")  # type: ignore[arg-type]


def test_of_one_negative_it_is_dpo_as_published() -> None:
    pairs, reference = LOGITS[:, :2], REFERENCE[:, :2]
    # The paper's form: log-probabilities of both answers, under both models.
    ours, theirs = pairs.log_softmax(dim=1), reference.log_softmax(dim=1)
    margins = 0.3 * (ours[:, 0] - theirs[:, 0]) - 0.3 * (ours[:, 1] - theirs[:, 1])
    expected = -torch.nn.functional.logsigmoid(margins).mean()
    torch.testing.assert_close(preference_loss(pairs, reference, beta=0.3), expected)


def test_of_several_negatives_it_is_s_dpo_as_published() -> None:
    ratios = 0.3 * (LOGITS.log_softmax(dim=1) - REFERENCE.log_softmax(dim=1))
    worse = torch.logsumexp(ratios[:, 1:] - ratios[:, :1], dim=1)
    expected = -torch.nn.functional.logsigmoid(-worse).mean()
    torch.testing.assert_close(preference_loss(LOGITS, REFERENCE, beta=0.3), expected)


def test_what_both_models_add_to_every_branch_says_nothing() -> None:
    priors = torch.tensor([[1.0, -4.0, 2.0]])
    torch.testing.assert_close(
        preference_loss(LOGITS + priors, REFERENCE + priors, beta=0.5),
        preference_loss(LOGITS, REFERENCE, beta=0.5),
    )


def test_tuning_starts_without_a_preference_and_lifts_the_chosen_one() -> None:
    logits = REFERENCE.clone().requires_grad_()
    value = preference_loss(logits, REFERENCE, beta=0.1)
    assert value.item() == pytest.approx(math.log(3))
    (slopes,) = torch.autograd.grad(value, logits)
    assert (slopes[:, 0] < 0).all()
    assert (slopes[:, 1:] > 0).all()


def test_a_smaller_beta_asks_for_a_wider_gap_before_it_rests() -> None:
    def pull(beta: float) -> float:
        """How steep the loss is, of its start, after the gap has grown by 5."""
        logits = (REFERENCE + torch.tensor([5.0, 0.0, 0.0])).requires_grad_()
        (late,) = torch.autograd.grad(preference_loss(logits, REFERENCE, beta=beta), logits)
        return float(late[0, 0].abs() / (beta * 2 / 3 / len(logits)))

    assert pull(0.1) > 2 * pull(1.0)


def test_no_gradient_goes_through_the_reference() -> None:
    reference = REFERENCE.clone().requires_grad_()
    value = preference_loss(LOGITS.clone().requires_grad_(), reference, beta=0.1)
    value.backward()
    assert reference.grad is None


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("kind", [*get_args(Ranked), "preference"])
def test_a_batch_is_the_weighted_mean_of_its_slices(size: int, kind: str) -> None:
    def value(part: slice) -> Tensor:
        if kind == "preference":
            return preference_loss(LOGITS[part], REFERENCE[part], beta=0.2)
        return loss(LOGITS[part], kind)  # type: ignore[arg-type]

    slices = [slice(first, first + size) for first in range(0, len(LOGITS), size)]
    summed = sum(value(part) * len(LOGITS[part]) for part in slices)
    torch.testing.assert_close(summed / len(LOGITS), value(slice(None)))


def test_scores_of_other_branches_are_no_reference() -> None:
    with pytest.raises(ValueError, match=r"same branches, \(4, 3\), got \(4, 2\)"):
        preference_loss(LOGITS, REFERENCE[:, :2], beta=0.1)


@pytest.mark.parametrize("beta", [0.0, -1.0])
def test_a_beta_that_holds_nothing_is_refused(beta: float) -> None:
    with pytest.raises(ValueError, match="beta must be above 0"):
        preference_loss(LOGITS, REFERENCE, beta=beta)
