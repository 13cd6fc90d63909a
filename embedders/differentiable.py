"""Contents in, vectors that carry gradients out: what tuning asks of an embedder beside embedding.

Knows nothing of how parameters are tuned: `embedders.tuning` puts them into the network and
trains them.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from embedders.base import Embedder

if TYPE_CHECKING:
    from torch import Tensor, nn

    from embedders.checkpoint import Checkpoint


class Differentiable(Embedder):
    """An embedder whose vectors a torch module computes, from contents that need no gradient."""

    checkpoint: "Checkpoint"
    """The pinned weights; with an adapter on top, its digest is part of the revision."""

    reads_tokens: bool = False
    """Virtual tokens can be put before a content's own; `reserve` makes room for them."""

    @property
    @abstractmethod
    def network(self) -> "nn.Module":
        """The module that computes, in evaluation mode. It may be replaced by one that answers
        the same calls."""

    @network.setter
    @abstractmethod
    def network(self, network: "nn.Module") -> None: ...

    @abstractmethod
    def probe(self) -> Any:
        """A content as `load` gives it, to run the network once."""

    @abstractmethod
    def forward(self, contents: Sequence[Any]) -> "Tensor":
        """Contents as `load` gave them -> float32 vectors [N, D] of unit length, on the network's
        device and in the same order; all at once, so that the caller minds memory."""

    def reserve(self, num_tokens: int) -> None:
        """Leave so many of the network's positions to virtual tokens, where it reads tokens; what
        is loaded from then on is cut accordingly."""
        raise NotImplementedError(f"{self.space.encoder} reads no tokens")
