"""An encoder's configuration in, the encoder ready to be tuned out.

The only place that imports the folder's heavy leaves.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from embedders import registry
from embedders.items import Item, Modality
from embedders.registry import EncoderConfig
from embedders.tuning.config import TuningConfig

if TYPE_CHECKING:
    from embedders.tuning.base import Tunable
    from embedders.tuning.choices import Choices
    from embedders.tuning.features import Features
    from embedders.tuning.tune import Tuning

TUNABLE: Mapping[Modality, tuple[str, ...]] = {
    Modality.AUDIO: ("auto",),
    Modality.IMAGE: ("auto",),
    Modality.SUMMARY: ("minilm", "sentence", "auto"),
    Modality.TEXT: ("minilm", "sentence", "auto"),
}
"""The encoders that can be tuned: those of weights that torch runs."""


@dataclass(frozen=True, slots=True)
class _NoCatalog:
    """Vectors that were made elsewhere cannot be tuned, so that none are brought."""

    folder: Path = Path()
    brought: Mapping[tuple[Modality, str], Path] = field(default_factory=dict)


def can_tune(config: EncoderConfig) -> bool:
    """Whether an encoder has weights that can be tuned."""
    return config.encoder in TUNABLE.get(config.modality, ())


def untuned(config: EncoderConfig) -> EncoderConfig:
    """The same encoder without the adapter that it may have: what is tuned, always."""
    return replace(config, adapter=None)


def check(config: EncoderConfig) -> None:
    """Refuse an encoder that cannot be tuned.

    Raises:
        ValueError: it has no weights that torch runs.
    """
    if not can_tune(config):
        tunable = ", ".join(TUNABLE.get(config.modality, ()))
        raise ValueError(
            f"the {config.modality} encoder {config.encoder!r} has no weights that can be tuned; "
            f"of this modality {tunable or 'none'} can"
        )


def create(config: EncoderConfig, *, until: datetime | None = None) -> "Tunable":
    """The encoder that a configuration names, loaded and frozen, with no adapter yet.

    Args:
        config: Of the encoder, without an adapter.
        until: The cut of the events to be tuned on: the vectors hold from then on, whoever loads
            the saved adapter. None says nothing of it.

    Raises:
        ValueError: it cannot be tuned, has an adapter, or cannot be loaded.
        ImportError: a library is missing; the message says how to install it.
    """
    check(config)
    if config.adapter is not None:
        raise ValueError(
            f"the {config.modality} encoder {config.encoder!r} has an adapter, which is not tuned "
            "on: an adapter is made for the plain weights"
        )
    with registry.libraries(f"tuning the {config.modality} encoder {config.encoder!r}"):
        from embedders.differentiable import Differentiable
        from embedders.tuning.tunable_encoder import TunableEncoder

        embedder = registry.create(config, catalog=_NoCatalog())
        assert isinstance(embedder, Differentiable), "TUNABLE lists those that are"
        return TunableEncoder(embedder, until=until)


def tune(
    tunables: Mapping[Modality, "Tunable"],
    items: Sequence[Item],
    choices: "Choices",
    *,
    config: TuningConfig,
    folder: Path,
    features: Mapping[Modality, "Features"],
    on_progress: Callable[[str, int, int, float], None] | None = None,
) -> "Tuning":
    """Both of PTMRec's stages; see `embedders.tuning.tune.tune`."""
    with registry.libraries("tuning encoders"):
        from embedders.tuning.tune import tune as run
    return run(
        tunables,
        items,
        choices,
        config=config,
        folder=folder,
        features=features,
        on_progress=on_progress,
    )
