"""Known catalogs have settings that suit them."""

from pathlib import Path

import pytest

from embedders.items import Modality
from sommelier.effort import Effort
from sommelier.presets import for_catalog


def test_the_shops_carts_and_purchases_are_choices() -> None:
    settings = for_catalog(None, effort=Effort.FULL)
    assert settings.target.behaviors == ("cart", "purchase")


def test_movielens_likes_from_four_stars_and_brings_its_sounds() -> None:
    settings = for_catalog(Path("/data/movielens"), effort=Effort.FULL)
    assert settings.catalog.path == Path("/data/movielens")
    assert settings.catalog.columns.description == ("genres", "plot")
    assert settings.target.min_weight == 4.0
    assert settings.evaluation.warm_up == 10
    audio = next(one for one in settings.encoders if one.modality is Modality.AUDIO)
    assert (audio.encoder, audio.name, audio.center) == ("brought", "ivector100", True)


def test_any_other_catalog_has_the_defaults() -> None:
    settings = for_catalog(Path("/data/hats"), effort=Effort.FULL)
    assert settings.catalog.path == Path("/data/hats")
    assert settings.target.behaviors is None


@pytest.mark.parametrize("folder", [None, Path("/data/movielens"), Path("/data/hats")])
def test_quick_trains_less_on_the_same_data(folder: Path | None) -> None:
    full, quick = (for_catalog(folder, effort=effort) for effort in (Effort.FULL, Effort.QUICK))
    assert quick.ranker.training.fusion_steps < full.ranker.training.fusion_steps
    assert quick.ranker.training.single_modality_steps < full.ranker.training.single_modality_steps
    assert (quick.encoders, quick.target, quick.graph) == (full.encoders, full.target, full.graph)
