"""Hidden states, items and what came next in, the softmax loss and its gradients out.

Scores are made for some rows at a time and their gradients with them, so that memory holds one
block of scores however many events and items there are, and no score is computed twice.

The sampled loss is corrected by logQ (Bengio & Senecal, 2008): a drawn item's score is lowered by
the logarithm of how often it is expected among those drawn, which makes the sum over them an
unbiased estimate of the sum over all items. What came next takes part once, uncorrected; drawn
again among the negatives it is passed over. Where every item is drawn once, this is the full
softmax.

Shape legend: T events to predict, K items that they are told from, D dimensions.
"""

from typing import Any

import torch
from torch import Tensor

SCORES = 1 << 20  # held at once: larger blocks leave the processor's cache


def softmax_loss(
    hidden_TD: Tensor,
    next_TD: Tensor,
    drawn_KD: Tensor,
    *,
    is_next_of: tuple[Tensor, Tensor],
    correction_K: Tensor,
    weights_T: Tensor,
) -> Tensor:
    """The weighted mean over events of -log(the share of what came next).

    Args:
        hidden_TD: What is known before each event.
        next_TD: The item that came next.
        drawn_KD: The items that it is told from.
        is_next_of: Item numbers of what came next, [T], and of those drawn, [K].
        correction_K: Subtracted from the scores of those drawn.
        weights_T: Of the events; their sum must not be 0.
    """
    shares_T = weights_T / weights_T.sum()
    loss: Tensor = _Softmax.apply(  # type: ignore[no-untyped-call]
        hidden_TD, next_TD, drawn_KD, *is_next_of, correction_K, shares_T
    )
    return loss


class _Softmax(torch.autograd.Function):
    """Computes the gradients on the way forward, while each block of scores is at hand."""

    @staticmethod
    def forward(ctx: Any, *given: Tensor) -> Tensor:
        hidden_TD, next_TD, drawn_KD, next_T, drawn_K, correction_K, shares_T = given
        to_hidden_TD = torch.empty_like(hidden_TD)
        to_next_TD = torch.empty_like(next_TD)
        to_drawn_KD = torch.zeros_like(drawn_KD)
        total = torch.zeros(())
        rows = max(1, SCORES // max(1, len(drawn_K)))
        for start in range(0, len(hidden_TD), rows):
            block = slice(start, start + rows)
            hidden, following, shares = hidden_TD[block], next_TD[block], shares_T[block]
            known = (hidden * following).sum(dim=1)
            scores = torch.addmm(-correction_K, hidden, drawn_KD.T)
            scores.masked_fill_(next_T[block, None] == drawn_K, -torch.inf)
            whole = torch.logaddexp(torch.logsumexp(scores, dim=1), known)
            total += (shares * (whole - known)).sum()
            pull = scores.sub_(whole[:, None]).exp_().mul_(shares[:, None])
            push = shares * ((known - whole).exp() - 1)
            to_hidden_TD[block] = torch.addmm(push[:, None] * following, pull, drawn_KD)
            to_next_TD[block] = push[:, None] * hidden
            to_drawn_KD.addmm_(pull.T, hidden)
        ctx.save_for_backward(to_hidden_TD, to_next_TD, to_drawn_KD)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        scaled = tuple(gradient * grads[0] for gradient in ctx.saved_tensors)
        return (*scaled, None, None, None, None)
