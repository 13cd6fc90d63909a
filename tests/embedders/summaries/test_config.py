"""Settings of whoever writes are refused where they cannot be meant."""

from typing import Any

import pytest

from embedders.summaries.config import PreferenceConfig, SummaryConfig, WriterConfig


def test_without_settings_nobody_but_the_template_writes() -> None:
    assert SummaryConfig().writer.engine == PreferenceConfig().writer.engine == "template"
    assert PreferenceConfig().mode == "recurrent"
    assert PreferenceConfig().block_size == 3


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"engine": "transformers"}, "'transformers' needs 'model'"),
        ({"engine": "openai", "model": "m"}, "'openai' needs 'url'"),
        ({"engine": "template", "model": "m"}, "'template' takes no 'model'"),
        ({"engine": "transformers", "model": "m", "url": "u"}, "'transformers' takes no 'url'"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"concurrency": 0}, "concurrency must be at least 1, got 0"),
        ({"retries": -1}, "retries and temperature must be at least 0"),
        ({"timeout_s": 0.0}, "timeout_s above 0"),
    ],
)
def test_a_writer_that_cannot_be_is_refused(given: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        WriterConfig(**given)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"max_tokens": 7}, r"max_tokens lies in 8\.\.1024, got 7"),
        ({"attributes": ("year", "year")}, "attributes are columns, each once"),
        ({"attributes": ("",)}, "attributes are columns, each once"),
    ],
)
def test_a_summary_that_cannot_be_is_refused(given: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        SummaryConfig(**given)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"block_size": 0}, r"block_size lies in 1\.\.200, got 0"),
        ({"max_events": 201}, r"max_events lies in 1\.\.200, got 201"),
        ({"max_tokens": 2049}, r"max_tokens lies in 8\.\.2048, got 2049"),
    ],
)
def test_a_preference_that_cannot_be_is_refused(given: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        PreferenceConfig(**given)
