"""The loss and its gradients, held to torch's own."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from retrieval import sequence_loss
from retrieval.sequence_loss import softmax_loss

NUM_ITEMS, NUM_EVENTS, DIM = 30, 17, 5


def given() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Hidden states, items, what came next and what it counts."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(NUM_EVENTS, DIM, generator=generator).requires_grad_()
    items = torch.randn(NUM_ITEMS, DIM, generator=generator).requires_grad_()
    following = torch.randint(NUM_ITEMS, (NUM_EVENTS,), generator=generator)
    return hidden, items, following, torch.rand(NUM_EVENTS, generator=generator) + 0.1


def ours(drawn: torch.Tensor, correction: torch.Tensor) -> list[torch.Tensor]:
    """The loss, and its gradients."""
    hidden, items, following, weights = given()
    loss = softmax_loss(
        hidden,
        items[following],
        items[drawn],
        is_next_of=(following, drawn),
        correction_K=correction,
        weights_T=weights,
    )
    (3 * loss).backward()
    return [loss.detach(), hidden.grad, items.grad]


@pytest.mark.parametrize("scores", [1 << 20, 64, 1])
def test_over_all_items_it_is_the_cross_entropy(
    scores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sequence_loss, "SCORES", scores)
    hidden, items, following, weights = given()
    losses = cross_entropy(hidden @ items.T, following, reduction="none")
    loss = (weights * losses).sum() / weights.sum()
    (3 * loss).backward()
    found = ours(torch.arange(NUM_ITEMS), torch.zeros(NUM_ITEMS))
    for one, other in zip(found, [loss.detach(), hidden.grad, items.grad], strict=True):
        torch.testing.assert_close(one, other)


def test_over_drawn_items_it_estimates_the_sum_over_all() -> None:
    hidden, items, following, weights = given()
    losses = cross_entropy(hidden @ items.T, following, reduction="none")
    whole = (weights * losses).sum() / weights.sum()
    shares = torch.linspace(1, 10, NUM_ITEMS)
    shares /= shares.sum()
    drawn = torch.multinomial(
        shares, 20_000, replacement=True, generator=torch.Generator().manual_seed(0)
    )
    estimated = ours(drawn, torch.log(len(drawn) * shares)[drawn])[0]
    assert float(estimated) == pytest.approx(float(whole.detach()), abs=0.03)
    assert float(ours(drawn, torch.full((len(drawn),), 6.5))[0]) != pytest.approx(
        float(whole.detach()), abs=0.03
    )


def test_what_came_next_is_no_negative() -> None:
    _, _, following, _ = given()
    drawn = following[:1].repeat(9)
    hidden, items, _, weights = given()
    loss = softmax_loss(
        hidden[:1],
        items[following[:1]],
        items[drawn],
        is_next_of=(following[:1], drawn),
        correction_K=torch.zeros(9),
        weights_T=weights[:1],
    )
    assert float(loss.detach()) == 0
