"""Only encoders with weights that torch runs are tuned, and only the plain ones."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from embedders.adapter import resolve
from embedders.items import Modality
from embedders.registry import OPTIONS, EncoderConfig
from embedders.tuning.config import TuningConfig
from embedders.tuning.registry import TUNABLE, can_tune, create, untuned
from tests.embedders.test_text_auto import bert
from tests.test_imports import loaded_by


def test_every_encoder_that_can_be_tuned_takes_an_adapter_and_no_other_does() -> None:
    for modality, encoders in OPTIONS.items():
        takers = {name for name, options in encoders.items() if "adapter" in options}
        assert takers == set(TUNABLE.get(modality, ()))


@pytest.mark.parametrize(
    ("modality", "encoder", "message"),
    [
        (Modality.IMAGE, "hog", "'hog' has no weights that can be tuned; of this modality auto"),
        (Modality.AUDIO, "fbank", "of this modality auto can"),
        (Modality.GRAPH, "lightgcn", "of this modality none can"),
    ],
)
def test_others_are_refused_with_those_that_can(
    modality: Modality, encoder: str, message: str
) -> None:
    config = EncoderConfig(modality=modality, encoder=encoder)
    assert not can_tune(config)
    with pytest.raises(ValueError, match=message):
        create(config)


def test_an_adapter_is_not_tuned_on(tmp_path: Path) -> None:
    config = EncoderConfig(modality=Modality.TEXT, encoder="minilm", adapter=tmp_path)
    with pytest.raises(ValueError, match="has an adapter, which is not tuned on"):
        create(config)
    assert untuned(config) == EncoderConfig(modality=Modality.TEXT, encoder="minilm")


def test_a_saved_adapter_says_up_to_when_it_was_tuned(tmp_path: Path) -> None:
    model = bert(tmp_path / "bert")
    config = EncoderConfig(modality=Modality.TEXT, encoder="auto", model=str(model))
    until = datetime(2026, 5, 1, 12, tzinfo=UTC)
    tunable = create(config, until=until)
    tunable.adapt(TuningConfig(method="ia3", max_trained_share=1.0))
    tunable.save(tmp_path / "adapter")
    revision = tunable.embedder.space.revision
    assert resolve(tmp_path / "adapter", name="bert", revision=revision).until == until


def test_importing_it_loads_no_heavy_library() -> None:
    assert loaded_by("import embedders.tuning.registry, embedders.tuning.base") == set()
