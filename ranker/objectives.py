"""A batch's scores in, what is to be made small out.

Each row holds the scores of one prefix's branches, of which the first is the chosen one. Every
loss is the mean over the rows, so that the loss of a batch is the mean of its slices' losses,
weighted by their rows: micro-batches and processes may each take a slice of one batch. So is
what the words of a prompt surprise by, which needs more than scores (`ranker.surprise`).

Shape legend: B examples, N branches of an example.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

Ranked = Literal["listwise", "pointwise"]


def loss(logits_BN: Tensor, kind: Ranked) -> Tensor:
    """What training makes small, a scalar.

    Args:
        logits_BN: Whole scores: the prior and the LLM's logit.
        kind: `listwise`, the cross-entropy of the chosen one among its list; or `pointwise`, the
            binary cross-entropy of every branch, averaged over the branches too.

    Raises:
        ValueError: another kind.
    """
    if kind == "listwise":
        return cross_entropy(logits_BN, _first(logits_BN))
    if kind == "pointwise":
        truth_BN = torch.zeros_like(logits_BN)
        truth_BN[:, 0] = 1
        return binary_cross_entropy_with_logits(logits_BN, truth_BN)
    raise ValueError(f"loss is 'listwise' or 'pointwise', got {kind!r}")


def preference_loss(logits_BN: Tensor, reference_BN: Tensor, *, beta: float) -> Tensor:
    """Preference tuning against a model that stays as it is, a scalar.

    Direct preference optimization (DPO, arXiv 2305.18290); of several negatives its softmax form
    (S-DPO, arXiv 2406.09215), which is DPO itself where there is one:

        reward_j = beta * (logit_j - reference_j)
        loss = mean over B of -log sigmoid(-log sum over the negatives of exp(reward_j - reward_0))

    Both papers compare the log-probabilities of answers that are written out. Ours, for yes/no
    scores, is to take the softmax over a list's scores as the policy: the two normalizers, each the
    same for a whole list, cancel in the difference of two rewards, and so does the frozen prior.
    The loss is then the cross-entropy of the rewards, log N before the first step.

    Args:
        logits_BN: The tuned model's scores.
        reference_BN: The same branches' scores by the model that tuning began from; no gradient
            goes through them.
        beta: How far the tuned model is held to the other; a smaller one lets it go farther.

    Raises:
        ValueError: the shapes differ, or a beta of 0 or less.
    """
    if logits_BN.shape != reference_BN.shape:
        raise ValueError(
            f"expected the reference's scores of the same branches, {tuple(logits_BN.shape)}, got "
            f"{tuple(reference_BN.shape)}"
        )
    if beta <= 0:
        raise ValueError(f"beta must be above 0, got {beta}")
    rewards_BN = beta * (logits_BN - reference_BN.detach())
    return cross_entropy(rewards_BN, _first(rewards_BN))


def _first(logits_BN: Tensor) -> Tensor:
    return torch.zeros(len(logits_BN), dtype=torch.long, device=logits_BN.device)
