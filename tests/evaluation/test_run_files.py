"""Rankings and truths on disk are what they were in memory."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evaluation import run_files
from evaluation.run_files import UnusableRun
from evaluation.runs import Run, measure
from evaluation.slices import parts
from tests.evaluation.small_world import make_evaluation


@pytest.fixture(scope="module")
def written(world, tmp_path_factory):
    found = make_evaluation(world)
    sliced = parts(found.judgements, world.background.item_facts, world.background.user_facts)
    files = run_files.write(
        tmp_path_factory.mktemp("report"),
        runs=found.runs,
        judgements=found.judgements,
        parts=sliced,
        positives=found.positives,
    )
    return found, sliced, files


def test_runs_and_judgements_come_back_as_they_were(written):
    found, _, files = written
    assert files.routes == ["calibrated", "popularity", "rerank", "retrieval_order"]
    assert run_files.read_judgements(files.folder) == found.judgements
    for route, run in found.runs.items():
        again = run_files.read_run(files.run(route))
        assert again.name == run.name
        assert again.rankings == run.rankings
        assert (again.scores is None) == (run.scores is None)
        assert again.scores is None or again.scores == run.scores


def test_slices_come_back_for_those_who_are_judged(written):
    found, sliced, files = written
    again = run_files.read_parts(files.folder, found.judgements)
    assert [(one.group, one.name) for one in again] == [(one.group, one.name) for one in sliced]
    expected = [{(j.user_id, j.item_ids) for j in one.judgements} for one in sliced]
    assert [{(j.user_id, j.item_ids) for j in one.judgements} for one in again] == expected
    assert not run_files.read_parts(files.folder, ())


def test_whoever_counts_again_finds_the_reported_numbers(written):
    found, _, files = written
    again = measure(
        run_files.read_run(files.run("rerank")), run_files.read_judgements(files.folder)
    )
    for name, values in found.report.routes["rerank"].items():
        assert again.mean(name) == pytest.approx(values.mean)
    table = pq.read_table(files.ledger)
    causes = table["cause"].to_pylist()
    counts = found.report.ledger.counts
    assert {cause: causes.count(cause) for cause in counts} == counts


def test_routes_of_an_earlier_evaluation_go(written, tmp_path):
    found, _, _ = written
    run_files.write(tmp_path, runs=found.runs, judgements=found.judgements)
    alone = {"popularity": found.runs["popularity"]}
    assert run_files.write(tmp_path, runs=alone, judgements=found.judgements).routes == [
        "popularity"
    ]


def test_a_file_that_is_missing_damaged_or_something_else_says_so(tmp_path):
    path = tmp_path / "run.parquet"
    with pytest.raises(UnusableRun, match="run `sommelier evaluate`"):
        run_files.read_run(path)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(UnusableRun, match="damaged"):
        run_files.read_run(path)
    pq.write_table(pa.table({"user_id": ["u"]}), path)
    with pytest.raises(UnusableRun, match="has the columns"):
        run_files.read_run(path)


def test_a_run_that_contradicts_itself_is_refused(tmp_path):
    path = tmp_path / "run.parquet"
    run_files.write_run(Run(name="r", rankings={"u": ["a"], "v": ["b"]}), path)
    rows = pq.read_table(path).to_pylist()
    twice = pa.Table.from_pylist([rows[0], rows[0] | {"scores": [1.0]}], run_files.RUN_SCHEMA)
    pq.write_table(twice, path)
    with pytest.raises(UnusableRun, match="scores for some users only"):
        run_files.read_run(path)
    rows = [row | {"scores": [1.0]} for row in (rows[0], rows[0])]
    pq.write_table(pa.Table.from_pylist(rows, run_files.RUN_SCHEMA), path)
    with pytest.raises(UnusableRun, match="ranked twice"):
        run_files.read_run(path)
