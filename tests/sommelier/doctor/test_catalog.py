"""Profiles and histories that the store does not know yet, and items that are gone."""

import json
from pathlib import Path

from tests.sommelier.conftest import Run
from tests.sommelier.doctoring import assert_mended, examined


def items_of(settings: Path) -> list[dict[str, object]]:
    lines = (settings.parent / "catalog/items.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def write_items(settings: Path, items: list[dict[str, object]]) -> None:
    text = "\n".join(map(json.dumps, items)) + "\n"
    (settings.parent / "catalog/items.jsonl").write_text(text)


def test_what_the_catalog_has_is_counted(run: Run, stored: Path) -> None:
    found = examined(run, stored)
    assert found["catalog"]["counts"]["items"] == 60
    assert found["profiles"]["counts"]["in the store"] == 60
    assert [found[what]["verdict"] for what in ("catalog", "profiles", "histories")] == ["good"] * 3


def test_a_changed_title_is_a_profile_to_embed(run: Run, copy_of_stored: Path) -> None:
    items = items_of(copy_of_stored)
    items[0]["title"] = "Another one"
    write_items(copy_of_stored, items)
    found = assert_mended(run, copy_of_stored, "profiles", repair="sommelier embed")
    assert found["counts"]["new or changed"] == 1


def test_an_item_that_is_gone_is_taken_away(run: Run, copy_of_stored: Path) -> None:
    write_items(copy_of_stored, items_of(copy_of_stored)[1:])
    found = assert_mended(run, copy_of_stored, "profiles", repair="sommelier embed")
    assert found["counts"]["of items that are gone"] == 1


def test_many_items_that_are_gone_need_the_users_word(run: Run, copy_of_stored: Path) -> None:
    write_items(copy_of_stored, items_of(copy_of_stored)[30:])
    repair = "sommelier embed --allow-deletions"
    found = assert_mended(run, copy_of_stored, "profiles", repair=repair)
    assert found["counts"]["of items that are gone"] == 30


def test_a_new_event_is_a_history_to_embed(run: Run, copy_of_stored: Path) -> None:
    events = copy_of_stored.parent / "catalog/interactions.csv"
    lines = events.read_text().splitlines()
    events.write_text("\n".join([*lines, lines[-1].replace("2025", "2026")]) + "\n")
    found = assert_mended(run, copy_of_stored, "histories", repair="sommelier embed")
    assert found["counts"]["new or changed"] == 1


def test_a_missing_catalog_is_a_finding(run: Run, copy_of_stored: Path) -> None:
    (copy_of_stored.parent / "catalog/items.jsonl").unlink()
    found = examined(run, copy_of_stored)
    assert found["catalog"]["repair"] == "mend the catalog, then sommelier embed"
    assert found["view item_profile"]["verdict"] == "good"
