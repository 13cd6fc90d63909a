"""The settings compose what the owners configure, and mirror nothing wrongly."""

from datetime import datetime

import pytest

from embedders.items import Modality
from embedders.registry import EncoderConfig
from embedders.summaries.config import PreferenceConfig, SummaryConfig, WriterConfig
from sommelier.settings import (
    PreferenceSettings,
    Settings,
    StoreSettings,
    SummarySettings,
    TimeSettings,
)


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


def test_an_encoder_of_summaries_needs_somebody_who_writes_them() -> None:
    reads = EncoderConfig(modality=Modality.SUMMARY, encoder="minilm")
    with pytest.raises(ValueError, match=r"set summaries\.enabled = true"):
        Settings(encoders=(reads,))
    assert Settings(encoders=(reads,), summaries=SummarySettings(enabled=True)).encoders == (reads,)
    brought = EncoderConfig(modality=Modality.SUMMARY, encoder="brought", name="elsewhere")
    assert Settings(encoders=(brought,)).encoders == (brought,)


def test_what_is_written_is_told_to_its_writer_without_the_workspaces_own_word() -> None:
    writer = WriterConfig(engine="transformers", model="m")
    summaries = SummarySettings(enabled=True, writer=writer, max_tokens=40)
    assert summaries.config == SummaryConfig(writer=writer, max_tokens=40)
    preferences = PreferenceSettings(enabled=True, block_size=5, mode="direct")
    assert preferences.config == PreferenceConfig(block_size=5, mode="direct")
