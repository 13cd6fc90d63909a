"""What tuning asks of an encoder: a torch module that embeds contents with gradients.

Every encoder that can be tuned gives one (`embedders.tuning.registry`). The module is the very one
that embeds: with no adapter its output is, to rounding, the embedder's own vectors, and with one
the embedder embeds with it, too.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedders.base import Embedder

if TYPE_CHECKING:
    from torch import Tensor, nn

    from embedders.tuning.config import TuningConfig


class Tunable(ABC):
    """One modality's encoder, its weights frozen but for an adapter's."""

    embedder: Embedder
    """The same encoder: fingerprints, contents (to be loaded once the adapter is in, since virtual
    tokens take places from a text's own), and the space of its vectors without an adapter."""

    @property
    @abstractmethod
    def module(self) -> "nn.Module":
        """What is trained and saved: the (adapted) model, in evaluation mode, where it is to stay:
        dropout is off."""

    @abstractmethod
    def adapt(self, config: "TuningConfig") -> None:
        """Put fresh parameters by `config.method` in, seeded, and freeze all others.

        Before any step the vectors are those of the frozen encoder where the method can start so
        (LoRA, IA3, BitFit); prompts start from their seed.

        Raises:
            ValueError: the method cannot be put into this architecture, or it trains more than
                `config.max_trained_share`; the message names those that can.
        """

    @property
    @abstractmethod
    def num_trained(self) -> int:
        """Parameters that take a gradient."""

    @property
    @abstractmethod
    def num_parameters(self) -> int:
        """All of the encoder's, the adapter's included."""

    @abstractmethod
    def encode(self, contents: Sequence[Any]) -> "Tensor":
        """Contents as `embedder.load` gave them -> vectors [N, D], with gradients; of unit length
        where the space is."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the adapter in peft's format (safetensors), for `EncoderConfig.adapter`."""

    @abstractmethod
    def load(self, folder: Path) -> None:
        """Take over what `save` wrote, to go on training.

        Raises:
            ValueError: the folder is damaged, or belongs to another encoder.
        """
