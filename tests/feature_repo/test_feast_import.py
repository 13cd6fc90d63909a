"""Feast comes as it is, but for checks of types, and whoever else checks types still does."""

import subprocess
import sys

import pytest
import typeguard

from feature_repo import feast_import

PROGRAM = """
import typeguard
from pathlib import Path
from feature_repo.registry import open_feature_store

before = typeguard.typechecked
open_feature_store(Path(__import__("sys").argv[1]), None)
import feast
print(typeguard.typechecked is before, "typeguard" in str(feast.Entity.__init__.__code__.co_names))
"""


def test_the_store_opens_without_parsing_feasts_sources(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("store")
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, str(folder)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.split() == ["True", "False"]


def test_within_it_both_forms_of_the_decorator_change_nothing() -> None:
    def doubled(number: int) -> int:
        return 2 * number

    with feast_import.quick():
        assert typeguard.typechecked(doubled) is doubled
        assert typeguard.typechecked(collection_check_strategy=None)(doubled) is doubled


def test_afterwards_types_are_checked_again_even_after_an_error() -> None:
    before = typeguard.typechecked
    with pytest.raises(ImportError), feast_import.quick():
        raise ImportError("no such library")
    assert typeguard.typechecked is before
