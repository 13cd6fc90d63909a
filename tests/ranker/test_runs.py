"""A training leaves a record that can be read, and curves that can be looked at."""

import json
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ranker.adapter_facts import read_facts
from ranker.curriculum import plan
from ranker.progress import Look, Progress
from ranker.runs import FILE, Run, Unrecorded
from ranker.training import train
from tests.ranker import model_world

CONFIG = model_world.with_steps(2, 4, check_every=2, save_every=2)


def trained(folder: Path, llm: Path) -> Path:
    return train(
        model_world.examples(8),
        validation=model_world.examples(30, seed=4),
        items=model_world.items(),
        titles=model_world.TITLES,
        llm=str(llm),
        config=CONFIG,
        folder=folder / "adapters",
        runs=folder / "runs",
    )


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    read = EventAccumulator(str(folder)).Reload()
    return {
        name: [(event.step, event.value) for event in read.Scalars(name)]
        for name in read.Tags()["scalars"]
    }


def test_a_run_says_what_it_was(llm_folder: Path, tmp_path: Path) -> None:
    adapter = trained(tmp_path, llm_folder)
    facts = read_facts(adapter).training
    folder = tmp_path / "runs" / adapter.name
    record = json.loads((folder / FILE).read_text())
    assert record["adapter"] == adapter.name
    assert record["is_finished"]
    assert record["settings"]["training"]["fusion_steps"] == 4
    assert record["seed"] == CONFIG.training.seed
    assert (record["data"]["examples"], record["data"]["validation"]) == (8, 30)
    assert record["data"]["fingerprint"] != record["data"]["validation_fingerprint"]
    assert record["versions"]["torch"] == facts["versions"]["torch"]
    assert [(one["name"], one["steps"]) for one in record["stages"]] == [
        ("single modalities", 2),
        ("fusion", 4),
    ]
    assert {one["name"]: one["loss"] for one in record["stages"]} == facts["losses"]
    assert record["validation"] == facts["validation"]
    assert record["calibrator"] == facts["calibrator"]
    assert record["calibrator"]["num_lists"] == 30
    assert record["seconds"] > 0
    found = curves(folder)
    assert found.keys() == {
        "training/loss",
        "training/learning_rate",
        "validation/loss",
        "validation/NDCG@10",
    }
    assert [step for step, _ in found["training/loss"]] == [1, 2, 3, 4, 5, 6]
    assert [step for step, _ in found["validation/loss"]] == [0, 2, 2, 4, 6]
    looks = [look["ndcg"] for look in record["validation"]]
    assert [value for _, value in found["validation/NDCG@10"]] == pytest.approx(looks)


def test_no_record_is_kept_where_none_was_asked_for(adapter: Path) -> None:
    assert [one.name for one in adapter.parent.iterdir()] == [adapter.name]
    Unrecorded().keep(Progress())


def test_what_was_drawn_beyond_the_last_checkpoint_is_taken_back(tmp_path: Path) -> None:
    stages = plan(CONFIG)
    killed = Run(tmp_path, plan=stages, facts={"seed": 1})
    for step in range(1, 6):
        killed.step(Progress(step=step), loss=9.0, learning_rate=0.1)
    killed.keep(Progress(step=2))
    killed.close()
    first = json.loads((tmp_path / FILE).read_text())
    resumed = Run(tmp_path, plan=stages, facts={"seed": 1})
    for step in range(3, 7):
        resumed.step(Progress(step=step), loss=1.0, learning_rate=0.1)
    resumed.look(Progress(step=6), Look(stage="fusion", step=6, loss=2.0, ndcg=0.5))
    resumed.keep(Progress(step=6), is_finished=True)
    resumed.close()
    assert curves(tmp_path)["training/loss"] == [(1, 9), (2, 9), (3, 1), (4, 1), (5, 1), (6, 1)]
    last = json.loads((tmp_path / FILE).read_text())
    assert last["started_at"] == first["started_at"]
    assert last["is_finished"]


def test_a_damaged_record_says_what_to_delete(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("{")
    with pytest.raises(ValueError, match=r"run.json is damaged .* delete it"):
        Run(tmp_path, plan=(), facts={})
