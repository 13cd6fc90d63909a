"""Two report folders, their seeds or a TREC run, compared by the command line."""

import json
from pathlib import Path

import pytest

from evaluation import run_files, trec
from evaluation.evaluate import evaluate
from evaluation.protocol import EvaluationConfig
from evaluation.report import as_dict
from evaluation.slices import parts
from tests.evaluation.small_world import make_world
from tests.sommelier.conftest import Run

NUM_USERS = 40


def report(folder: Path, *, skill: float, max_reranked: int | None = None, users: int = 0) -> Path:
    """A folder as an evaluation leaves it, but for its pages."""
    world = make_world(num_users=users or NUM_USERS)
    retrieve, rerank = world.route(0.7, skill)
    found = evaluate(
        world.judgements,
        retrieve=retrieve,
        rerank=rerank,
        background=world.background,
        config=EvaluationConfig(samples=100, max_reranked=max_reranked),
    )
    known = world.background
    run_files.write(
        folder,
        runs=found.runs,
        judgements=found.judgements,
        parts=parts(found.judgements, known.item_facts, known.user_facts),
    )
    (folder / "report.json").write_text(json.dumps(as_dict(found.report)))
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A and B, two seeds each."""
    root = tmp_path_factory.mktemp("reports")
    for name, skills in (("a", (0.3, 0.32)), ("b", (0.6, 0.7))):
        for seed, skill in enumerate(skills):
            report(root / name / f"seed-{seed}", skill=skill)
    return root


def compared(folder: Path) -> dict:
    found: dict = json.loads((folder / "comparison.json").read_text())
    return found


def test_two_reports_are_compared_in_the_delivered_order(
    run: Run, folders: Path, tmp_path: Path
) -> None:
    result = run("compare", folders / "a/seed-0", folders / "b/seed-0", "--out", tmp_path)
    assert result.exit_code == 0, result.output + result.stderr
    assert "B is better in NDCG@10" in result.output
    found = compared(tmp_path)
    assert found["a"].endswith("seed-0, rerank")
    assert found["measures"]["ndcg@10"]["difference"]["low"] > 0
    assert found["config"]["samples"] == 100
    assert set(found["parts"]) == {"items", "popularity", "history"}
    assert (tmp_path / "comparison.md").read_text().startswith("# Comparison")
    html = (tmp_path / "comparison.html").read_text()
    assert "<script" not in html
    assert "By slice" in html


def test_folders_of_seeds_are_compared_over_their_seeds(
    run: Run, folders: Path, tmp_path: Path
) -> None:
    assert run("compare", folders / "a", folders / "b", "--out", tmp_path).exit_code == 0
    found = compared(tmp_path)
    assert found["num_seeds"] == [2, 2]
    assert found["measures"]["ndcg@10"]["over_seeds"]["spread"] > 0
    assert "Over 2 seeds" in (tmp_path / "comparison.md").read_text()


def test_another_route_may_be_asked_for_and_is_the_same_on_both_sides(
    run: Run, folders: Path, tmp_path: Path
) -> None:
    words = ("--route", "retrieval_order", "--out", tmp_path)
    assert run("compare", folders / "a/seed-0", folders / "b/seed-0", *words).exit_code == 0
    assert compared(tmp_path)["measures"]["ndcg@10"]["difference"]["mean"] == 0
    wrong = run("compare", folders / "a/seed-0", folders / "b/seed-0", "--route", "magic")
    assert wrong.exit_code == 1
    assert "has no route 'magic'; it has" in wrong.stderr


def test_a_trec_run_is_judged_as_the_report_is(run: Run, folders: Path, tmp_path: Path) -> None:
    own = run_files.read_run(folders / "a/seed-0/runs/rerank.parquet")
    trec.write_run(own, tmp_path / "own.run", tag="own")
    words = (folders / "a/seed-0", tmp_path / "own.run", "--out", tmp_path)
    assert run("compare", *words).exit_code == 0
    found = compared(tmp_path)
    assert all(one["difference"]["mean"] == 0 for one in found["measures"].values())
    twice = run("compare", tmp_path / "own.run", tmp_path / "own.run")
    assert twice.exit_code == 1
    assert "give at least one report folder" in twice.stderr


def test_one_run_of_a_report_is_compared_with_another_of_it(
    run: Run, folders: Path, tmp_path: Path
) -> None:
    runs = folders / "b/seed-0/runs"
    words = (runs / "retrieval_order.parquet", runs / "rerank.parquet", "--out", tmp_path)
    assert run("compare", *words).exit_code == 0
    assert compared(tmp_path)["measures"]["ndcg@10"]["difference"]["low"] > 0


def test_other_users_are_an_error_that_says_what_to_do(
    run: Run, folders: Path, tmp_path: Path
) -> None:
    part = report(tmp_path / "part", skill=0.5, users=30)
    words = (folders / "a/seed-0", part, "--out", tmp_path / "out")
    refused = run("compare", *words)
    assert refused.exit_code == 1
    assert "10 are in the first alone" in refused.stderr
    assert "--common" in refused.stderr
    assert not (tmp_path / "out").exists()
    assert run("compare", *words, "--common").exit_code == 0
    assert compared(tmp_path / "out")["num_only_a"] == 10


def test_a_folder_of_different_truths_is_no_folder_of_seeds(
    run: Run, folders: Path, tmp_path: Path
) -> None:
    for number, users in enumerate((20, 30)):
        report(tmp_path / "mixed" / str(number), skill=0.5, users=users)
    refused = run("compare", tmp_path / "mixed", folders / "a")
    assert refused.exit_code == 1
    assert "they are not seeds of one system" in refused.stderr


def test_what_holds_no_evaluation_is_named(run: Run, folders: Path, tmp_path: Path) -> None:
    for path, said in ((tmp_path, "holds no evaluation"), (tmp_path / "no", "does not exist")):
        refused = run("compare", folders / "a", path)
        assert refused.exit_code == 1
        assert f"{path} {said}" in refused.stderr.replace("\n", " ")
