"""What is written is compared with what would be asked now; each fault names its command."""

from pathlib import Path

import pytest

from sommelier.doctor.finding import Finding, Verdict
from sommelier.doctor.texts import examine
from sommelier.watch import Unwatched
from sommelier.workspace import Workspace
from sommelier.writing.summarize import summarize
from tests.sommelier.written_world import EVENTS, workspace, write_events, write_items


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_items(tmp_path, [f"Wine {n}" for n in range(6)])
    write_events(tmp_path, EVENTS)
    return tmp_path


def look(opened: Workspace) -> tuple[Finding, Finding]:
    summaries, preferences = examine(opened, Unwatched())
    return summaries, preferences


def test_what_is_enabled_and_not_written_is_a_fault(folder: Path) -> None:
    for found in look(workspace(folder)):
        assert found.repair == "sommelier summarize"
        assert "not written yet" in found.seen


def test_all_is_well_after_a_run(folder: Path) -> None:
    summarize(workspace(folder), watch=Unwatched())
    summaries, preferences = look(workspace(folder))
    assert {summaries.verdict, preferences.verdict} == {Verdict.GOOD}
    assert summaries.counts["fresh"] == 6
    assert preferences.counts["blocks told"] == 8


def test_new_and_changed_items_and_new_events_want_another_run(folder: Path) -> None:
    summarize(workspace(folder), watch=Unwatched())
    write_items(folder, ["Sherry", *(f"Wine {n}" for n in range(1, 7))])
    write_events(folder, [*EVENTS, ("a", "i6", 8)])
    summaries, preferences = look(workspace(folder))
    assert (summaries.counts["stale"], summaries.counts["missing"]) == (1, 1)
    assert preferences.counts["waiting"] == 1
    assert {summaries.repair, preferences.repair} == {"sommelier summarize"}


def test_items_that_are_gone_are_taken_away_by_embedding(folder: Path) -> None:
    summarize(workspace(folder), watch=Unwatched())
    write_items(folder, [f"Wine {n}" for n in range(5)])
    summaries, _ = look(workspace(folder))
    assert summaries.counts["orphaned"] == 1
    assert summaries.repair == "sommelier embed"


def test_settings_that_name_another_template_want_another_run(folder: Path) -> None:
    summarize(workspace(folder), watch=Unwatched())
    _, preferences = look(workspace(folder, block_size=3))
    assert "the settings name another writer" in preferences.seen
    assert preferences.repair == "sommelier summarize"


def test_what_is_not_enabled_is_not_looked_at(folder: Path) -> None:
    (found,) = examine(workspace(folder, enabled=False), Unwatched())
    assert found.what == "summaries"
