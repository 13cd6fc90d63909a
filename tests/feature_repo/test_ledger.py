from datetime import timedelta
from pathlib import Path

import pytest

from embedders.items import EPOCH
from feature_repo import ledger
from feature_repo.base import StoreError


def clear_and_fail(root: Path) -> None:
    with ledger.changing(root) as held:
        held.clear()
        raise RuntimeError("halfway")


def test_what_a_block_leaves_is_kept_unless_it_raised(tmp_path: Path) -> None:
    with ledger.changing(tmp_path) as held:
        held["online"] = {"view": {"until": EPOCH.isoformat(), "parts": ["a"]}}
    with pytest.raises(RuntimeError, match="halfway"):
        clear_and_fail(tmp_path)
    assert ledger.entry(ledger.read(tmp_path), "online", "view")["parts"] == ["a"]
    assert ledger.entry(ledger.read(tmp_path), "online", "other")["parts"] == []


def test_what_was_reached_never_goes_back(tmp_path: Path) -> None:
    late, early = EPOCH + timedelta(days=2), EPOCH + timedelta(days=1)
    for until in (late, early):
        ledger.reach(tmp_path, "online", "view", until=until)
    assert ledger.entry(ledger.read(tmp_path), "online", "view") == {
        "until": late.isoformat(),
        "parts": [],
    }


def test_views_that_were_taken_away_are_forgotten_in_this_online_store_alone(
    tmp_path: Path,
) -> None:
    for online in ("one", "two"):
        for view in ("kept", "gone"):
            ledger.reach(tmp_path, online, view, until=EPOCH + timedelta(days=1))
    ledger.forget(tmp_path, "one", kept={"kept", "never written"})
    assert {name: sorted(views) for name, views in ledger.read(tmp_path).items()} == {
        "one": ["kept"],
        "two": ["gone", "kept"],
    }


def test_a_damaged_ledger_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / ledger.FILE).write_text("{")
    with pytest.raises(StoreError, match="delete it and materialize again"):
        ledger.read(tmp_path)
