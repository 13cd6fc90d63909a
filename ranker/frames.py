"""Flattened frames of a modality in, one adapted vector for the fusion out.

ATFLRec (arXiv 2409.08543) pools log-Mel filter banks over time and brings them to the LLM's width
by fully connected layers with SiLU; by its report the maximum is the best pooling, and 80 bands are
the best number. What is ours: the vector is a row of frames in the feature store, so that nothing
is computed from sound here; the pooled frame is standardized over its bands, since a maximum lies
above every mean by about the same in all bands, which would make all sounds alike; attention has
one learned query, and starts as the mean; two layers, which start close to a rotation, so that a
few examples can already tell sounds apart.

Shape legend: N items, F frames, B bands of a frame, W the fusion's width.
"""

import math

import torch
from torch import Tensor, nn

from ranker.config import FramePooling

GAIN = 4.0  # brings components of a unit vector to the order of one, as the fusion's adapters do
SILU_SLOPE = 0.5  # at zero, where most of what the first layer gives lies


class FrameAdapter(nn.Module):
    """Pools an item's frames and adapts the result. An item's row depends on that item alone."""

    def __init__(self, dim: int, num_frames: int, width: int, pooling: FramePooling) -> None:
        """Fresh weights.

        Args:
            dim: Of the whole vector: frames one after the other, the earliest first.
            num_frames: How many frames that is.
            width: Of what comes out.
            pooling: `max` and `mean` of each band over the frames, or `attention`, their mean
                weighted by a softmax over the frames' products with a learned query.

        Raises:
            ValueError: the vector cannot be cut into so many frames of two bands or more.
        """
        super().__init__()
        if dim % num_frames or dim < 2 * num_frames:
            raise ValueError(
                f"a vector of {dim} dimensions is not {num_frames} frames of equally many bands, "
                f"two at least: set `frames` to what the encoder writes"
            )
        self.num_frames = num_frames
        self.num_bands = dim // num_frames
        self.pooling = pooling
        self.first = nn.Linear(self.num_bands, width)
        self.second = nn.Linear(width, width)
        nn.init.orthogonal_(self.first.weight, gain=GAIN)
        nn.init.orthogonal_(self.second.weight, gain=1 / SILU_SLOPE)
        nn.init.zeros_(self.first.bias)
        nn.init.zeros_(self.second.bias)
        self.query_B: nn.Parameter | None = None
        if pooling == "attention":
            self.query_B = nn.Parameter(torch.zeros(self.num_bands))

    def forward(self, vectors_ND: Tensor) -> Tensor:
        """[N, F * B] -> [N, W]; the length of a vector plays no part, a row of zeros gives zeros
        until the layers are trained."""
        pooled_NB = self.pool(vectors_ND)
        # At length one, as the other modalities' vectors come.
        pooled_NB = nn.functional.layer_norm(pooled_NB, (self.num_bands,))
        hidden_NW = self.first(pooled_NB / math.sqrt(self.num_bands))
        adapted_NW: Tensor = self.second(nn.functional.silu(hidden_NW))
        return adapted_NW

    def pool(self, vectors_ND: Tensor) -> Tensor:
        """[N, F * B] -> [N, B], in units of the root mean square of each vector's values."""
        scaled_ND = nn.functional.normalize(vectors_ND) * math.sqrt(vectors_ND.shape[1])
        frames_NFB = scaled_ND.view(-1, self.num_frames, self.num_bands)
        if self.query_B is not None:
            scores_NF = frames_NFB @ self.query_B / math.sqrt(self.num_bands)
            return (scores_NF.softmax(dim=1)[..., None] * frames_NFB).sum(dim=1)
        return frames_NFB.amax(dim=1) if self.pooling == "max" else frames_NFB.mean(dim=1)
