"""The settings file that `init` writes says what holds, in the owners' own words."""

import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from ranker.config import TrainingConfig
from sommelier.commented import commented, field_docs
from sommelier.effort import Effort
from sommelier.presets import for_catalog, movielens
from sommelier.settings import EvaluationSettings, Settings
from sommelier.settings_file import parse

EVERY = {
    "default": Settings(),
    "shop": for_catalog(None, effort=Effort.QUICK),
    "movielens": movielens(Path("/films/movielens")),
}


@pytest.mark.parametrize("settings", EVERY.values(), ids=EVERY)
def test_what_is_written_loads_as_what_it_was(settings: Settings) -> None:
    assert parse(tomllib.loads(commented(settings))) == settings


def test_every_setting_is_in_the_file_filled_in_or_ready_to_be() -> None:
    text = commented(Settings())
    for section in fields(Settings):
        for one in fields(getattr(Settings(), section.name)) if section.name != "encoders" else ():
            value = getattr(getattr(Settings(), section.name), one.name)
            shape = f"# {one.name} =" if value is None else one.name
            assert shape in text


def test_comments_are_the_owners_docstrings() -> None:
    docs = field_docs(TrainingConfig)
    assert docs["batch_size"] == "Prefixes in a step, over all processes."
    assert "# Prefixes in a step, over all processes.\nbatch_size = " in commented(Settings())


def test_inherited_fields_keep_their_words() -> None:
    docs = field_docs(EvaluationSettings)
    assert docs["samples"].startswith("Resamples of each interval")
    assert docs["warm_up"].startswith("A user with less history")


def test_no_line_is_too_long_to_read() -> None:
    assert max(map(len, commented(Settings()).splitlines())) <= 100
