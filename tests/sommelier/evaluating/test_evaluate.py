"""The report measures the published generation as of its cut, once."""

import json
from pathlib import Path

import jsonschema
import pytest

from evaluation import trec
from evaluation.run_files import RunFiles, read_judgements, read_run
from evaluation.runs import measure
from sommelier.evaluating.evaluate import judged
from sommelier.serve import loaded
from sommelier.settings_file import load
from sommelier.watch import Unwatched
from sommelier.workspace import Workspace
from tests.sommelier.conftest import Run

ASKS = """
[ranker.prompt]
asks_behavior = true
"""


@pytest.fixture(scope="module")
def report(run: Run, built: Path) -> Path:
    result = run("evaluate", "--settings", built)
    assert result.exit_code == 0, result.output + result.stderr
    assert "Evaluated" in result.output
    assert "NDCG@10" in result.output
    return built.parent / "report"


def test_the_report_lies_beside_the_runs_that_it_was_made_from(report: Path) -> None:
    assert sorted(path.name for path in report.iterdir()) == [
        "judgements.parquet",
        "ledger.parquet",
        "parts.parquet",
        "report.html",
        "report.json",
        "report.md",
        "runs",
    ]
    files = RunFiles(folder=report)
    assert files.routes == ["calibrated", "popularity", "rerank", "retrieval_order"]
    found = json.loads((report / "report.json").read_text())
    again = measure(read_run(files.run("rerank")), read_judgements(report))
    assert again.mean("ndcg@10") == pytest.approx(found["rerank"]["ndcg@10"])


def test_the_report_keeps_to_its_schema(report: Path, repository: Path) -> None:
    schema = json.loads((repository / "evaluation/report.schema.json").read_text())
    jsonschema.validate(json.loads((report / "report.json").read_text()), schema)


def test_every_choice_is_in_the_ledger_and_nothing_of_a_fresh_index_is_stale(report: Path) -> None:
    found = json.loads((report / "report.json").read_text())
    counts = found["ledger"]["counts"]
    assert sum(counts.values()) == found["ledger"]["num_positives"]
    assert found["ledger"]["num_positives"] >= found["counts"]["num_items_judged"]
    assert counts["stale"] == counts["missed_by_index"] == 0  # a flat index is exact
    assert found["index_loss"]["overlap"]["mean"] == 1
    assert found["index"]["kind"]


def test_the_report_says_where_its_numbers_come_from(report: Path, built: Path) -> None:
    found = json.loads((report / "report.json").read_text())
    workspace = Workspace(load(built))
    assert found["manifest"]["catalog_sha256"] == workspace.catalog.fingerprint
    assert found["manifest"]["generation_id"] == "g-000001"
    assert found["counts"]["num_users_judged"] == 8
    assert found["manifest"]["split"] == "time"
    assert found["manifest"]["protocol"] == "full"
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


def test_retrieval_alone_is_measured_without_a_reranker_and_runs_go_out_as_trec(
    run: Run, built: Path, tmp_path: Path
) -> None:
    words = ("--set", f"paths.report={tmp_path}", "--no-ablations", "--retrieval-only", "--trec")
    result = run("evaluate", "--settings", built, *words)
    assert result.exit_code == 0, result.output + result.stderr
    assert "Nothing was reranked" in result.output
    found = json.loads((tmp_path / "report.json").read_text())
    assert found["rerank"] is None
    assert found["counts"]["num_users_reranked"] == 0
    assert found["manifest"]["generation_id"] == "g-000001"
    read = trec.read_run(tmp_path / "trec/retrieval_order.run")
    assert read.rankings == read_run(tmp_path / "runs/retrieval_order.parquet").rankings
    assert (tmp_path / "trec/judgements.qrels").read_text().count(" 0 ") == sum(
        len(one.item_ids) for one in read_judgements(tmp_path)
    )


@pytest.fixture
def asking(run: Run, copy_of_built: Path) -> Path:
    """The settings file of a shop whose ranker tells carts from purchases."""
    with copy_of_built.open("a") as file:
        file.write(ASKS)
    for stage in ("train", "index", "publish"):
        result = run(stage, "--settings", copy_of_built)
        assert result.exit_code == 0, result.output + result.stderr
    return copy_of_built


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")
def test_each_behavior_is_asked_about_and_judged_by_itself(run: Run, asking: Path) -> None:
    serving = loaded(Workspace(load(asking)), watch=Unwatched())
    assert serving.info.behaviors == ("cart", "purchase")

    words = ("--settings", asking, "--user", "user-0003", "--top-k", "4")
    answers = {
        behavior: run("recommend", *words, "--behavior", behavior).output
        for behavior in ("cart", "purchase")
    }
    assert answers["cart"].count("box-") == answers["purchase"].count("box-") == 4
    assert answers["cart"] != answers["purchase"]
    refused = run("recommend", *words, "--behavior", "view")
    assert refused.exit_code == 1
    assert "cart, purchase" in refused.stderr

    result = run("evaluate", "--settings", asking, "--no-ablations")
    assert result.exit_code == 0, result.output + result.stderr
    found = json.loads((asking.parent / "report" / "report.json").read_text())
    assert sorted(found["behaviors"]) == ["cart", "purchase"]
    workspace = Workspace(load(asking))
    for name, part in found["behaviors"].items():
        judgements = judged(workspace, behavior=name).judgements
        assert part["num_users"] == len(judgements)
        assert part["num_items"] == sum(len(one.item_ids) for one in judgements)
    assert len(found["explained"]) == 4
    for item in found["explained"][0]["items"]:
        total = item["base"] + sum(item["contributions"].values())
        assert total == pytest.approx(item["score"], rel=1e-9, abs=1e-9)
