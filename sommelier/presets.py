"""A known catalog's name in, the settings that suit it out, at two levels of effort."""

from dataclasses import replace
from pathlib import Path

from embedders.columns import Columns
from embedders.items import Modality
from embedders.registry import EncoderConfig
from ranker.config import EmbeddedLlmConfig, TrainingConfig
from sommelier.effort import Effort
from sommelier.settings import ENCODERS, Settings, TargetSettings

MOVIELENS_ENCODERS = (
    *(one for one in ENCODERS if one.modality is not Modality.AUDIO),
    # i-vectors share one large component: all their cosines are close to 1 until it is taken off.
    EncoderConfig(modality=Modality.AUDIO, encoder="brought", name="ivector100", center=True),
)


def for_catalog(folder: Path | None, *, effort: Effort) -> Settings:
    """The settings of the demo shop (None) or of a catalog folder, told by its name."""
    if folder is None:
        settings = shop()
    elif folder.name.startswith("movielens"):
        settings = movielens(folder)
    else:
        settings = replace(Settings(), catalog=replace(Settings().catalog, path=folder))
    return with_effort(settings, effort)


def shop() -> Settings:
    """The demo shop's: a view is curiosity, carts and purchases are choices."""
    return replace(Settings(), target=TargetSettings(behaviors=("cart", "purchase")))


def movielens(folder: Path) -> Settings:
    """MovieLens with genres, plots, posters and trailer sounds: a rating of 4 is a choice."""
    settings = Settings()
    columns = Columns(description=("genres", "plot"))
    return replace(
        settings,
        catalog=replace(settings.catalog, path=folder, columns=columns),
        encoders=MOVIELENS_ENCODERS,
        target=TargetSettings(behaviors=("rate",), min_weight=4.0),
        # Its users rate in one sitting, so few have a history before any cut.
        evaluation=replace(settings.evaluation, min_history=5, warm_up=10),
    )


def with_effort(settings: Settings, effort: Effort) -> Settings:
    """The same with less training, where quick."""
    if effort is Effort.FULL:
        return settings
    ranker = settings.ranker
    training = ranker.training
    return replace(
        settings,
        graph=replace(settings.graph, epochs=_quarter(settings.graph.epochs)),
        ranker=replace(
            ranker,
            llm=replace(ranker.llm, embedded=_quick_llm(ranker.llm.embedded)),
            training=_quick_training(training),
        ),
        evaluation=replace(settings.evaluation, max_users=200, samples=2000),
    )


def _quick_llm(config: EmbeddedLlmConfig) -> EmbeddedLlmConfig:
    return replace(config, warm_up_steps=_quarter(config.warm_up_steps))


def _quick_training(config: TrainingConfig) -> TrainingConfig:
    return replace(
        config,
        single_modality_steps=_quarter(config.single_modality_steps),
        fusion_steps=_quarter(config.fusion_steps),
        max_examples=_quarter(config.max_examples),
    )


def _quarter(number: int) -> int:
    return max(1, number // 4)
