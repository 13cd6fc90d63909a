"""The settings compose what the owners configure, and mirror nothing wrongly."""

from datetime import datetime

import pytest

from embedders.items import Modality
from embedders.registry import EncoderConfig
from sommelier.settings import Settings, StoreSettings, TimeSettings


def test_a_modality_has_one_encoder() -> None:
    text = EncoderConfig(modality=Modality.TEXT, encoder="minilm")
    with pytest.raises(ValueError, match="text has two encoders"):
        Settings(encoders=(text, text))


def test_without_any_encoder_there_is_nothing_to_do() -> None:
    with pytest.raises(ValueError, match="name at least one"):
        Settings(encoders=())


def test_a_moment_without_a_time_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="append Z"):
        TimeSettings(cut=datetime(2024, 5, 31))


@pytest.mark.parametrize("share", [0, 1, 1.5])
def test_a_share_lies_between_nothing_and_everything(share: float) -> None:
    with pytest.raises(ValueError, match="cut_share lies between 0 and 1"):
        TimeSettings(cut_share=share)


def test_a_history_keeps_at_least_one_event() -> None:
    with pytest.raises(ValueError, match="history_limit must be at least 1"):
        StoreSettings(history_limit=0)
