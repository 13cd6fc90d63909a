"""What the retriever found about a candidate in, one soft token and a prior score out.

A reranker that starts from scratch loses to its retriever, so the retriever's score is an input,
twice: as the prior that the LLM's logit is added to, and, with the cosine in each space and which
spaces there were, as a token that the LLM reads between the candidate and the question.

Shape legend: N candidates, F features (2 for each modality, and the score), H the LLM's width.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from embedders.items import Modality
from retrieval.candidates import Candidate

COSINE_GAIN = 4.0  # cosines of centered vectors are small
LIMIT = 4.0  # standard deviations at which a score is clipped
HIDDEN = 64


def features(
    candidates: Sequence[Candidate], modalities: Sequence[Modality]
) -> NDArray[np.float32]:
    """[N, F]: each modality's cosine (0 where absent), then its presence, then the raw score."""
    features_NF = np.zeros((len(candidates), 2 * len(modalities) + 1), dtype=np.float32)
    for row, candidate in enumerate(candidates):
        for place, modality in enumerate(modalities):
            if modality in candidate.evidence:
                features_NF[row, place] = candidate.evidence[modality]
                features_NF[row, len(modalities) + place] = 1
        features_NF[row, -1] = candidate.score
    return features_NF


def without(
    features_NF: NDArray[np.float32],
    modalities: Sequence[Modality],
    dropped: Sequence[Modality],
    weights: Mapping[Modality, float],
) -> NDArray[np.float32]:
    """The features as they would be had the dropped modalities not been searched."""
    features_NF = features_NF.copy()
    for modality in dropped:
        place = modalities.index(modality)
        features_NF[:, -1] -= weights.get(modality, 1.0) * features_NF[:, place]
        features_NF[:, [place, len(modalities) + place]] = 0
    return features_NF


class Evidence(nn.Module):
    """Encodes features; its scale of scores is fitted once, on the training examples."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, num_modalities: int, *, hidden_size: int) -> None:
        super().__init__()
        self.num_modalities = num_modalities
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("deviation", torch.ones(()))
        self.slope = nn.Parameter(torch.ones(()))
        self.encode = nn.Sequential(
            nn.Linear(2 * num_modalities + 1, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, hidden_size)
        )

    def fit(self, scores_N: NDArray[np.float32]) -> None:
        """Learn the mean and the deviation of the retriever's scores."""
        self.mean.fill_(float(scores_N.mean()))
        self.deviation.fill_(max(float(scores_N.std()), 1e-6))

    def forward(self, features_NF: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens [N, H] and priors [N]."""
        scores_N = ((features_NF[:, -1] - self.mean) / self.deviation).clamp(-LIMIT, LIMIT)
        cosines_NM = features_NF[:, : self.num_modalities] * COSINE_GAIN
        presence_NM = features_NF[:, self.num_modalities : -1]
        inputs_NF = torch.cat([cosines_NM, presence_NM, scores_N[:, None]], dim=1)
        return self.encode(inputs_NF), self.slope * scores_N
