"""A checkpoint's name in, its network run by `AutoModel` out: what the encoders of one share.

Shape legend: N contents, D dimensions.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedders import torchaudio_cpu
from embedders.checkpoint import CheckpointOptions, LoadedEncoder, load_encoder
from embedders.differentiable import Differentiable

torchaudio_cpu.load()

import torch  # noqa: E402
from transformers import AutoModel  # noqa: E402


class AutoEmbedder(Differentiable):
    """An embedder of a checkpoint; an implementation prepares its inputs and pools its output."""

    _encoder: LoadedEncoder

    def _open(self, model: str | Path, checkpoint: CheckpointOptions) -> LoadedEncoder:
        """The checkpoint, loaded, and from now on this embedder's."""
        self._encoder = load_encoder(model, AutoModel, **checkpoint)
        self.checkpoint = self._encoder.checkpoint
        self.until = self.checkpoint.until
        return self._encoder

    @property
    def network(self) -> torch.nn.Module:
        """The model; of CLIP and its kin with the towers of other modalities, which never run."""
        network: torch.nn.Module = self._encoder.model
        return network

    @network.setter
    def network(self, network: torch.nn.Module) -> None:
        self._encoder = replace(self._encoder, model=network)

    @torch.inference_mode()
    def _run(self, batch: Sequence[Any]) -> NDArray[np.float32]:
        """One vector for each of a batch, [N, D]."""
        return np.asarray(self._pooled(batch).cpu().numpy(), dtype=np.float32)

    @abstractmethod
    def _pooled(self, batch: Sequence[Any]) -> torch.Tensor:
        """The same with gradients, in float32, on the network's device."""
