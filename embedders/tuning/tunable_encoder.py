"""An embedder in, the same encoder ready to be tuned out: of text, pictures or sounds alike.

What differs between the modalities, the embedder itself says (`Differentiable`).

Shape legend: N contents, D dimensions.
"""

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from embedders import torchaudio_cpu

torchaudio_cpu.load()

from peft import PeftModel  # noqa: E402
from safetensors import SafetensorError  # noqa: E402
from safetensors.torch import load_file, save  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from embedders import adapted  # noqa: E402
from embedders.adapter import CONFIG, TUNING, WEIGHTS, facts, resolve  # noqa: E402
from embedders.differentiable import Differentiable  # noqa: E402
from embedders.tuning.base import Tunable  # noqa: E402
from embedders.tuning.config import Method, TuningConfig  # noqa: E402
from embedders.tuning.methods import adapt, ran  # noqa: E402


class TunableEncoder(Tunable):
    """An encoder of torch's with an adapter by any of peft's methods that fits it."""

    embedder: Differentiable

    def __init__(self, embedder: Differentiable, *, until: datetime | None = None) -> None:
        """Take the embedder over: from `adapt` on it embeds with what is trained.

        Args:
            embedder: Without an adapter.
            until: The cut of the events to be tuned on, for whoever loads what is saved.
        """
        self.embedder = embedder
        self._until = until
        self._wrapped: PeftModel | None = None
        self._method: Method | None = None
        self._own = {
            id(weight): weight.numel()
            for module in ran(embedder).values()
            for weight in module.parameters(recurse=False)
        }
        embedder.network.requires_grad_(False)

    @property
    def module(self) -> nn.Module:
        return self.embedder.network

    def adapt(self, config: TuningConfig) -> None:
        if self._wrapped is not None:
            raise ValueError("the encoder has an adapter; open it anew for another one")
        self._wrapped, self._method = adapt(self.embedder, config), config.method
        share = self.num_trained / self.num_parameters
        if share > config.max_trained_share:
            raise ValueError(
                f"{config.method!r} would train {share:.2%} of {self.embedder.space.encoder}'s "
                f"{self.num_parameters:,} parameters, max_trained_share allows "
                f"{config.max_trained_share:.2%}; lower rank or num_virtual_tokens, or take ia3 "
                "or bitfit"
            )

    @property
    def num_trained(self) -> int:
        return sum(each.numel() for each in self.module.parameters() if each.requires_grad)

    @property
    def num_parameters(self) -> int:
        """Those that take part in a vector: a picture's tower counts without the text's."""
        return sum(self._own.values()) + self.num_trained

    def encode(self, contents: Sequence[Any]) -> Tensor:
        # The caller may have set the module to train; dropout would then move the vectors.
        self.module.eval()
        return self.embedder.forward(contents)

    def save(self, folder: Path) -> None:
        wrapped, method = self._tuned()
        checkpoint = self.embedder.checkpoint
        name = checkpoint.name if checkpoint.is_local else checkpoint.source
        config = wrapped.active_peft_config.to_dict()
        # A folder's path is of this machine alone.
        config |= {"base_model_name_or_path": name, "inference_mode": True}
        config["revision"] = None if checkpoint.is_local else checkpoint.revision
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / CONFIG, {key: _plain(value) for key, value in config.items()})
        noted = facts(name=name, revision=checkpoint.revision, method=method, until=self._until)
        _write(folder / TUNING, noted)
        # By way of bytes: the library's own file can be read by its owner alone.
        (folder / WEIGHTS).write_bytes(save(adapted.weights(wrapped)))

    def load(self, folder: Path) -> None:
        wrapped, _ = self._tuned()
        checkpoint = self.embedder.checkpoint
        name = checkpoint.name if checkpoint.is_local else checkpoint.source
        resolve(folder, name=name, revision=checkpoint.revision)
        try:
            adapted.load(wrapped, load_file(folder / WEIGHTS))
        except (OSError, SafetensorError, ValueError) as error:
            raise ValueError(
                f"{folder} cannot be gone on from ({error}): delete it, and tuning begins anew"
            ) from error

    def _tuned(self) -> tuple[PeftModel, Method]:
        if self._wrapped is None or self._method is None:
            raise ValueError("the encoder has no adapter yet; call adapt first")
        return self._wrapped, self._method


def _plain(value: Any) -> Any:
    """A setting of peft's as JSON holds it; sets in an order that is always the same."""
    if isinstance(value, set):
        return sorted(value)
    return value


def _write(path: Path, facts: dict[str, Any]) -> None:
    path.write_text(json.dumps(facts, indent=2, sort_keys=True, default=str) + "\n")
