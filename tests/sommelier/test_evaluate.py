"""The report measures the published generation as of its cut, once."""

import json
from pathlib import Path

import pytest

from sommelier.evaluate import judged
from sommelier.settings_file import load
from sommelier.workspace import Workspace
from tests.sommelier.conftest import Run


@pytest.fixture(scope="module")
def report(run: Run, built: Path) -> Path:
    result = run("evaluate", "--settings", built)
    assert result.exit_code == 0, result.output + result.stderr
    assert "Evaluated" in result.output
    assert "NDCG@10" in result.output
    return built.parent / "report"


def test_the_report_has_three_files(report: Path) -> None:
    assert sorted(path.name for path in report.iterdir()) == [
        "report.html",
        "report.json",
        "report.md",
    ]


def test_the_report_says_where_its_numbers_come_from(report: Path, built: Path) -> None:
    found = json.loads((report / "report.json").read_text())
    workspace = Workspace(load(built))
    assert found["manifest"]["catalog_sha256"] == workspace.catalog.fingerprint
    assert found["manifest"]["generation_id"] == "g-000001"
    assert found["counts"]["num_users_judged"] == 8
    assert sorted(found["ablation"]) == ["audio", "graph", "image", "text"]


def test_no_candidate_had_been_met_before(report: Path) -> None:
    found = json.loads((report / "report.json").read_text())
    assert found["counts"]["num_seen_candidates"] == 0


def test_a_second_run_measures_nothing(run: Run, report: Path, built: Path) -> None:
    before = (report / "report.json").stat().st_mtime_ns
    result = run("evaluate", "--settings", built)
    assert "Evaluated before" in result.output
    assert (report / "report.json").stat().st_mtime_ns == before


def test_nobody_is_judged_where_everything_was_learned_from(run: Run, built: Path) -> None:
    workspace = Workspace(load(built, overrides=["time.cut=end"]))
    with pytest.raises(ValueError, match=r"set an earlier time\.cut"):
        judged(workspace)


def test_judged_users_are_asked_at_the_cut_about_new_items(built: Path) -> None:
    workspace = Workspace(load(built))
    parts = judged(workspace)
    assert len(parts.judgements) == 8
    assert {one.as_of for one in parts.judgements} == {workspace.timeline.cut}
