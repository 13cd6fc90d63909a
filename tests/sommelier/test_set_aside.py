"""Rejects are in the store as soon as they are told, each once, and a limit ends the run."""

from pathlib import Path

import pytest

from embedders.items import Reject
from feature_repo.store import Store
from sommelier.set_aside import SetAside, TooManyRejects


def rejects(*keys: str, reason: str = "is broken") -> list[Reject]:
    return [Reject(source="items", key=key, reason=reason) for key in keys]


def test_rejects_are_noted_at_once_and_only_once(tmp_path: Path) -> None:
    store = Store(tmp_path)
    set_aside = SetAside(store)
    set_aside.add(rejects("a", "b"))
    assert store.rejects() == rejects("a", "b")
    set_aside.add(rejects("b", "c"))
    num_files = len(list((tmp_path / "rejects").glob("*.parquet")))

    again = SetAside(store)
    again.add(rejects("a", "b", "c"))
    assert again.num == 3
    assert len(list((tmp_path / "rejects").glob("*.parquet"))) == num_files

    again.add(rejects("a", reason="is broken in another way"))
    assert store.rejects()[0].reason == "is broken in another way"


def test_the_limit_ends_the_run_after_the_rows_are_noted(tmp_path: Path) -> None:
    store = Store(tmp_path)
    set_aside = SetAside(store, limit=2)
    set_aside.add(rejects("a", "b"))
    with pytest.raises(TooManyRejects, match="3 rows were set aside, and --max-rejects allows 2"):
        set_aside.add(rejects("c"))
    assert len(store.rejects()) == 3


def test_the_first_are_named_and_the_others_counted(tmp_path: Path) -> None:
    set_aside = SetAside(Store(tmp_path))
    set_aside.add(rejects("a"))
    assert set_aside.listed() == "They are: items a: is broken"
    set_aside.add(rejects(*"bcdefgh"))
    assert set_aside.listed().endswith("items e: is broken; and 3 more")
