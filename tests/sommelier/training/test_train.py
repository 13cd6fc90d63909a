"""Training looks at nothing from the cut on, and happens once for its inputs."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from ranker.adapter_facts import read_facts
from ranker.calibration import CALIBRATOR
from ranker.config import RankerConfig, TrainingConfig
from ranker.curriculum import plan
from sommelier.settings_file import load
from sommelier.training.train import _told_of, trained, training_key
from sommelier.training.tune import tuned
from sommelier.workspace import Workspace


@pytest.fixture
def workspace(built: Path) -> Workspace:
    return Workspace(load(built))


def with_interactions(workspace: Workspace, interactions: pa.Table) -> Workspace:
    """The same workspace over other events."""
    object.__setattr__(workspace.catalog, "interactions", interactions)
    return workspace


def test_what_was_trained_lies_in_the_workspace(workspace: Workspace) -> None:
    ready = trained(workspace)
    models = workspace.settings.paths.models
    assert ready.adapter.parent == models / "adapters"
    assert Path(ready.llm).parent == models / "llm"
    assert ready.pooling == tuned(workspace)
    assert (models / "pooling.json").is_file()


def test_the_state_names_no_place_of_this_machine(workspace: Workspace) -> None:
    facts = workspace.state.read("train")
    assert not any(str(value).startswith("/") for value in facts.values())


def test_events_from_the_cut_on_change_nothing(built: Path, workspace: Workspace) -> None:
    key = training_key(workspace)
    assert key == workspace.state.read("train")["key"]
    line, events = workspace.timeline, workspace.catalog.interactions
    before = events.filter(pc.less(events["timestamp"], line.cut))
    moments = [
        f"time.graph_until={line.graph_until.isoformat()}",
        f"time.cut={line.cut.isoformat()}",
    ]
    # One event after the cut stays, so that the cut remains within the events.
    later = events.filter(pc.greater_equal(events["timestamp"], line.cut)).slice(0, 1)
    other = Workspace(load(built, overrides=moments))
    with_interactions(other, pa.concat_tables([before, later]))
    assert training_key(other) == key


def test_events_before_the_cut_do(built: Path, workspace: Workspace) -> None:
    line, events = workspace.timeline, workspace.catalog.interactions
    moments = [
        f"time.graph_until={line.graph_until.isoformat()}",
        f"time.cut={line.cut.isoformat()}",
    ]
    other = Workspace(load(built, overrides=moments))
    first = pc.min_max(events["timestamp"])["min"]
    with_interactions(other, events.filter(pc.not_equal(events["timestamp"], first)))
    assert training_key(other) != training_key(workspace)


@pytest.mark.parametrize("word", ["ranker.training.seed=5", "target.behaviors=['purchase']"])
def test_other_settings_are_another_training(built: Path, workspace: Workspace, word: str) -> None:
    assert training_key(Workspace(load(built, overrides=[word]))) != training_key(workspace)


def test_the_newest_moments_are_held_out_and_a_record_is_kept(workspace: Workspace) -> None:
    facts = workspace.state.read("train")
    adapter = trained(workspace).adapter
    training = read_facts(adapter).training
    assert training["num_examples"] == facts["num_examples"]
    assert training["num_validation"] == facts["num_validation"] > 0
    models = workspace.settings.paths.models
    record = json.loads((models / "runs" / adapter.name / "run.json").read_text())
    assert record["is_finished"]
    assert record["data"]["validation"] == facts["num_validation"]
    (kept,) = (models / "examples").iterdir()
    assert any(kept.glob("*.parquet")), "examples lie on disk"


def test_too_few_held_out_moments_are_told_and_calibrate_nothing(workspace: Workspace) -> None:
    adapter = trained(workspace).adapter
    told = read_facts(adapter).training["calibrator"]
    assert "held-out moments are too few" in told
    assert not (adapter / CALIBRATOR).exists()


def test_another_content_of_the_llms_folder_is_another_training(
    built: Path, workspace: Workspace, tmp_path: Path
) -> None:
    llm = shutil.copytree(trained(workspace).llm, tmp_path / "llm")
    word = f"ranker.llm.model={llm}"
    before = training_key(Workspace(load(built, overrides=[word])))
    assert training_key(Workspace(load(built, overrides=[word]))) == before
    facts = json.loads((llm / "config.json").read_text())
    (llm / "config.json").write_text(json.dumps({**facts, "rms_norm_eps": 1e-3}))
    assert training_key(Workspace(load(built, overrides=[word]))) != before


@pytest.mark.slow
def test_launched_processes_train_together_and_one_speaks(copy_of_built: Path) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    words = ["train", "--settings", str(copy_of_built), "--set", "ranker.training.seed=3"]
    environment = {**os.environ, "PYTHONPATH": os.getcwd(), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*launcher, "-m", "sommelier", *words],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Trained") == 1
    workspace = Workspace(load(copy_of_built, overrides=["ranker.training.seed=3"]))
    assert workspace.state.read("train")["key"] == training_key(workspace)
    models = workspace.settings.paths.models
    record = models / "runs" / trained(workspace).adapter.name / "run.json"
    assert json.loads(record.read_text())["num_processes"] == 2
    assert len(list((models / "examples").iterdir())) == 1, "those of the other seed are gone"


def test_one_bar_goes_over_all_levels() -> None:
    config = RankerConfig(training=TrainingConfig(single_modality_steps=2, fusion_steps=3))
    seen: list[tuple[int, int | None, str]] = []
    told = _told_of(
        lambda done, total=None, note="": seen.append((done, total, note)), plan(config)
    )
    told("single modalities", 2, 2, 0.5)
    told("fusion", 1, 3, 0.25)
    assert seen == [
        (2, 5, "single modalities 2 of 2, loss 0.500"),
        (3, 5, "fusion 1 of 3, loss 0.250"),
    ]
