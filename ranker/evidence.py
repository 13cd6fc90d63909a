"""What the retriever found about a candidate in, one soft token and a prior score out.

A reranker that starts from scratch loses to its retriever, so the retriever's score is an input,
twice: as the prior that the LLM's logit is added to, and, with the cosine in each block and which
blocks there were, as a token that the LLM reads between the candidate and the question.

Shape legend: N candidates, F features (3 for each block, and the score), H the LLM's width.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from retrieval.candidates import Candidate

LIMIT = 4.0  # standard deviations at which a feature is clipped
PENALTY = 1e-3
TINY = 1e-6  # a feature with less deviation is a constant
HIDDEN = 64


def features(candidates: Sequence[Candidate], blocks: Sequence[str]) -> NDArray[np.float32]:
    """[N, F]: each block's cosine, then its support, then its presence (all 0 where absent),
    then the raw score."""
    count = len(blocks)
    features_NF = np.zeros((len(candidates), 3 * count + 1), dtype=np.float32)
    for row, candidate in enumerate(candidates):
        for place, name in enumerate(blocks):
            if name in candidate.evidence:
                features_NF[row, place] = candidate.evidence[name]
                features_NF[row, count + place] = candidate.support.get(name, 0.0)
                features_NF[row, 2 * count + place] = 1
        features_NF[row, -1] = candidate.score
    return features_NF


def without(
    features_NF: NDArray[np.float32],
    blocks: Sequence[str],
    dropped: Sequence[str],
    weights: Mapping[str, float],
) -> NDArray[np.float32]:
    """The features as they would be had the dropped blocks not been searched."""
    features_NF = features_NF.copy()
    for name in dropped:
        place = blocks.index(name)
        features_NF[:, -1] -= weights.get(name, 1.0) * features_NF[:, place]
        features_NF[:, place :: len(blocks)][:, :3] = 0
    return features_NF


class Evidence(nn.Module):
    """Turns features into a prior score and a token.

    The prior is a conditional logit (McFadden, 1974) on the standardized features: linear, fitted
    to the optimum on the training examples before anything else is trained, and then frozen. It
    calibrates the retriever: how much its score counts, each block's cosine, and a lack of vectors.
    """

    mean_F: Tensor
    deviation_F: Tensor
    slopes_F: Tensor

    def __init__(self, num_blocks: int, *, hidden_size: int, is_read: bool = True) -> None:
        """A prior that is the standardized score itself, until it is fitted.

        Args:
            num_blocks: Which may have found something.
            hidden_size: The LLM's width.
            is_read: Without it every prior is 0, whatever was found, and no token says anything:
                the LLM is alone with the items.
        """
        super().__init__()
        self.is_read = is_read
        self.hidden_size = hidden_size
        num_features = 3 * num_blocks + 1
        self.register_buffer("mean_F", torch.zeros(num_features))
        self.register_buffer("deviation_F", torch.ones(num_features))
        self.register_buffer("slopes_F", _unfitted(num_features))
        self.encode = nn.Sequential(
            nn.Linear(num_features, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, hidden_size)
        )

    def fit(
        self, lists: Sequence[NDArray[np.float32]], chosen: Sequence[NDArray[np.bool_]]
    ) -> None:
        """Fit the scale of the features and the prior, by L-BFGS with a small L2 penalty.

        Args:
            lists: Each example's candidates, [N, F].
            chosen: Which of them were chosen, [N].
        """
        if not self.is_read:
            return
        # On the CPU wherever the module lies: the problem is small, and devices round apart.
        everything = torch.from_numpy(np.concatenate(lists))
        mean_F, deviation_F = everything.mean(dim=0), everything.std(dim=0)
        deviation_F = torch.where(deviation_F > TINY, deviation_F, 1.0)
        inputs = _standardize(everything, mean_F, deviation_F)
        owners = torch.repeat_interleave(
            torch.arange(len(lists)), torch.tensor([len(one) for one in lists])
        )
        is_chosen = torch.from_numpy(np.concatenate(chosen))
        slopes_F = _unfitted(everything.shape[1]).requires_grad_()
        optimizer = torch.optim.LBFGS([slopes_F], max_iter=50, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimizer.zero_grad()
            scores = inputs @ slopes_F
            # Of each list its best is subtracted first: a long step must not overflow.
            best = torch.full((len(lists),), -torch.inf).scatter_reduce(
                0, owners, scores.detach(), "amax"
            )
            centered = scores - best[owners]
            sums = torch.zeros(len(lists)).index_add(0, owners, centered.exp())
            surprise = (sums.log()[owners] - centered)[is_chosen].mean()
            value: Tensor = surprise + PENALTY * slopes_F.square().sum()
            value.backward()
            return value

        optimizer.step(loss)
        self.mean_F.copy_(mean_F)
        self.deviation_F.copy_(deviation_F)
        self.slopes_F.copy_(slopes_F.detach())

    def forward(self, features_NF: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens [N, H] and priors [N], on this module's device."""
        features_NF = features_NF.to(self.mean_F.device)
        if not self.is_read:
            tokens_NH = features_NF.new_zeros(len(features_NF), self.hidden_size)
            return tokens_NH, features_NF.new_zeros(len(features_NF))
        inputs_NF = _standardize(features_NF, self.mean_F, self.deviation_F)
        # A sum, no product of matrices: mixed precision would round that to a few digits.
        return self.encode(inputs_NF), (inputs_NF * self.slopes_F).sum(dim=1)


def _standardize(features_NF: Tensor, mean_F: Tensor, deviation_F: Tensor) -> Tensor:
    return ((features_NF - mean_F) / deviation_F).clamp(-LIMIT, LIMIT)


def _unfitted(num_features: int) -> Tensor:
    """The slopes of the score itself."""
    slopes_F = torch.zeros(num_features)
    slopes_F[-1] = 1
    return slopes_F
