"""A model's scores in, the same ones with each prompt's own noise on top out.

The largest of scores divided by a temperature, each with a draw of Gumbel's distribution added,
falls on a token as often as softmax says (Gumbel 1954; "Gumbel-max"). Every prompt draws from a
generator of its own, on the CPU, so that a sampled text depends neither on the prompts beside it
nor on their order nor on the device.

Shape legend: N prompts, T tokens so far, V tokens known.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from embedders import torchaudio_cpu

torchaudio_cpu.load()

import torch  # noqa: E402
from transformers import LogitsProcessor  # noqa: E402


class Draws(LogitsProcessor):
    """Makes of taking the best token a draw by temperature."""

    def __init__(self, seeds: Sequence[int], *, temperature: float) -> None:
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._temperature = temperature

    def __call__(self, _tokens_NT: Any, scores_NV: torch.Tensor) -> torch.Tensor:
        width = scores_NV.shape[1]
        noise_NV = torch.stack([_gumbel(width, generator) for generator in self._generators])
        return scores_NV.float() / self._temperature + noise_NV.to(scores_NV.device)


def seed_of(*facts: object) -> int:
    """63 bits that equal facts share."""
    digest = hashlib.sha256(json.dumps(facts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def _gumbel(width: int, generator: torch.Generator) -> torch.Tensor:
    # Of an exponential draw: never the logarithm of zero, which a uniform draw can be.
    return -torch.empty(width).exponential_(generator=generator).log()
