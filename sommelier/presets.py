"""A known catalog's name in, the settings that suit it out, at two levels of effort."""

from dataclasses import replace
from pathlib import Path

from embedders.columns import Columns
from embedders.items import Modality
from embedders.registry import EncoderConfig
from sommelier.effort import Effort
from sommelier.settings import ENCODERS, Settings, TargetSettings

CURIOSITY = 0.05  # how much a view says of a taste, beside a cart or a purchase

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
    settings = Settings()
    weights = {"view": CURIOSITY}
    return replace(
        settings,
        store=replace(settings.store, history_limit=100),
        target=TargetSettings(behaviors=("cart", "purchase")),
        graph=replace(settings.graph, behavior_weights=weights, temperature=0.3),
        sequence=replace(settings.sequence, behavior_weights=weights),
        pooling=replace(settings.pooling, behavior_weights=weights, limit=100, half_life=40),
    )


def movielens(folder: Path) -> Settings:
    """MovieLens with genres, plots, posters and trailer sounds: a rating of 4 is a choice."""
    settings = Settings()
    columns = Columns(description=("genres", "plot"))
    return replace(
        settings,
        catalog=replace(settings.catalog, path=folder, columns=columns),
        encoders=MOVIELENS_ENCODERS,
        target=TargetSettings(behaviors=("rate",), min_weight=4.0),
        # With vectors inferred for unrated films, and a softmax, the ranker fell below retrieval.
        graph=replace(settings.graph, loss="bpr", epochs=40, impute=False),
        # Its users rate in one sitting, so few have a history before any cut.
        evaluation=replace(settings.evaluation, min_history=5, warm_up=10),
        # Few users, long histories: at the default rate the LLM learns them by heart.
        ranker=replace(
            settings.ranker, training=replace(settings.ranker.training, learning_rate=5e-4)
        ),
    )


def with_effort(settings: Settings, effort: Effort) -> Settings:
    """The same with less training, where quick, and items half as long in prompts."""
    if effort is Effort.FULL:
        return settings
    ranker = settings.ranker
    embedded = replace(ranker.llm.embedded, warm_up_steps=60)
    sequence = replace(
        settings.sequence,
        dim=32,
        num_layers=1,
        epochs=8,
        batch_size=512,
        learning_rate=3e-3,
        num_negatives=512,
    )
    training = replace(
        ranker.training, single_modality_steps=20, fusion_steps=100, max_examples=4000
    )
    return replace(
        settings,
        sequence=sequence,
        ranker=replace(
            ranker,
            fusion=replace(ranker.fusion, num_tokens=2),
            llm=replace(ranker.llm, embedded=embedded),
            training=training,
        ),
        evaluation=replace(settings.evaluation, samples=5000),
    )
