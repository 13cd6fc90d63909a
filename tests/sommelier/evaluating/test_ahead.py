"""A second process measures what the first one would have measured, and the report is the same."""

import json
from pathlib import Path
from typing import Any

import pytest

from sommelier.evaluating import ahead, beside
from sommelier.evaluating.evaluate import JOURNAL, evaluate, journal_key
from sommelier.serve import loaded
from sommelier.settings_file import load
from sommelier.watch import Unwatched
from sommelier.workspace import Workspace

GENERATION = "g-000001"
MODALITIES = ("audio", "graph", "image", "text")


@pytest.fixture
def workspace(built: Path, tmp_path: Path) -> Workspace:
    """With a report folder of its own, and users in batches of three."""
    return Workspace(
        load(built, overrides=[f"paths.report={tmp_path / 'report'}", "evaluation.batch_size=3"])
    )


def key_of(workspace: Workspace) -> str:
    serving = loaded(workspace, watch=Unwatched(), online=False)
    return journal_key(workspace, serving, has_ablations=True)


def batches(workspace: Workspace) -> list[str]:
    folder = workspace.settings.paths.report / JOURNAL
    return sorted(f"{path.parent.name} {path.stem}" for path in folder.rglob("*.parquet"))


def numbers(workspace: Workspace) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        (workspace.settings.paths.report / "report.json").read_text()
    )
    return {name: part for name, part in found.items() if name not in ("manifest", "timing")}


@pytest.mark.slow
def test_the_second_process_leaves_the_ablations_in_the_journal_and_the_report_is_the_same(
    workspace: Workspace,
) -> None:
    evaluate(workspace, watch=Unwatched())
    alone = numbers(workspace)
    with beside.helped(workspace, GENERATION, key_of(workspace)) as second:
        assert second.wait(timeout=120) == 0
    assert batches(workspace) == [
        f"without%20{name} {start:09}" for name in MODALITIES for start in (0, 3, 6)
    ]
    (workspace.settings.paths.report / "report.json").unlink()
    evaluate(workspace, watch=Unwatched())
    assert numbers(workspace) == alone
    assert not batches(workspace)


def test_work_begins_at_the_end_and_stops_when_told(workspace: Workspace) -> None:
    left = iter((True, True, True, True, False, False, False))
    key = key_of(workspace)
    ahead.work(workspace, GENERATION, key, goes_on=lambda: next(left))
    assert batches(workspace) == [
        "without%20image 000000006",
        *(f"without%20text {start:09}" for start in (0, 3, 6)),
    ]


def test_another_evaluations_journal_is_left_alone(workspace: Workspace) -> None:
    with pytest.raises(ValueError, match="measured otherwise"):
        ahead.work(workspace, GENERATION, "another", goes_on=lambda: True)
    assert not batches(workspace)


def test_a_second_process_that_cannot_load_ends_by_itself_and_leaves_nothing(
    workspace: Workspace,
) -> None:
    with beside.helped(workspace, "g-999999", key_of(workspace)) as second:
        assert second.wait(timeout=120) != 0
    assert not batches(workspace)
