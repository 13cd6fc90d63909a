"""The divergence is what a hand computes, moves neighbors together, and reaches only its second."""

import math

import pytest
import torch

from embedders.tuning.transfer import transfer_loss


def test_the_loss_is_the_mean_divergence_of_the_neighbors_by_hand() -> None:
    known = torch.tensor([[2.0, 0.0], [0.0, 3.0], [1.0, 1.0]])
    shown = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    half = math.sqrt(0.5)
    # Cosines of the others, row by row; an item is not its own neighbor.
    known_rows = [(0.0, half), (0.0, half), (half, half)]
    shown_rows = [(1.0, 0.0), (1.0, 0.0), (0.0, 0.0)]

    def softmax(row: tuple[float, float]) -> list[float]:
        raised = [math.exp(one / 0.5) for one in row]
        return [one / sum(raised) for one in raised]

    expected = 0.0
    for known_row, shown_row in zip(known_rows, shown_rows, strict=True):
        p, q = softmax(known_row), softmax(shown_row)
        expected += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)) / 3
    assert float(transfer_loss(known, shown, temperature=0.5)) == pytest.approx(expected, rel=1e-5)


def test_the_gradient_is_that_of_finite_differences() -> None:
    generator = torch.Generator().manual_seed(1)
    known = torch.randn(5, 3, generator=generator)
    shown = torch.randn(5, 3, generator=generator).double().requires_grad_(True)

    def loss(given: torch.Tensor) -> torch.Tensor:
        return transfer_loss(known.double(), given, temperature=0.4)

    (found,) = torch.autograd.grad(loss(shown), shown)
    step, expected = 1e-6, torch.zeros_like(shown)
    with torch.no_grad():
        for place in range(shown.numel()):
            moved = torch.zeros(shown.numel(), dtype=torch.float64)
            moved[place] = step
            ends = [loss(shown + sign * moved.view_as(shown)) for sign in (1, -1)]
            expected.view(-1)[place] = (ends[0] - ends[1]) / (2 * step)
    torch.testing.assert_close(found, expected, atol=1e-8, rtol=1e-5)


def test_no_gradient_reaches_what_the_recommender_knows() -> None:
    known = torch.randn(4, 3, requires_grad=True)
    shown = torch.randn(4, 3, requires_grad=True)
    torch.autograd.backward(transfer_loss(known, shown, temperature=0.2))
    assert known.grad is None
    assert shown.grad is not None
    assert shown.grad.abs().sum() > 0


def test_equal_neighborhoods_cost_nothing_however_long_the_vectors_are() -> None:
    known = torch.randn(6, 4, generator=torch.Generator().manual_seed(2))
    lengths = torch.tensor([[0.1], [5.0], [1.0], [2.0], [9.0], [0.5]])
    assert float(transfer_loss(known, lengths * known, temperature=0.2)) == pytest.approx(
        0, abs=1e-6
    )


def test_two_items_have_nothing_to_tell_each_other() -> None:
    shown = torch.randn(2, 3, requires_grad=True)
    loss = transfer_loss(torch.randn(2, 3), shown, temperature=0.2)
    torch.autograd.backward(loss)
    assert float(loss.detach()) == 0
    assert shown.grad is not None
    assert not shown.grad.any()


def test_descending_makes_neighbors_of_those_whom_the_recommender_knows_as_such() -> None:
    known = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
    shown = torch.randn(4, 5, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    optimizer = torch.optim.Adam([shown], lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        torch.autograd.backward(transfer_loss(known, shown, temperature=0.2))
        optimizer.step()
    unit = torch.nn.functional.normalize(shown.detach(), dim=1)
    cosines = unit @ unit.T
    assert min(cosines[0, 1], cosines[2, 3]) > 0.8 > 0.5 > cosines[:2, 2:].max()
