"""A batch that several processes share is the batch of one."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ranker import model as models
from ranker.adapter_facts import read_facts
from ranker.config import Loss
from ranker.team import Team
from ranker.training import train
from tests.ranker import model_world

LOSSES: tuple[Loss, ...] = ("listwise", "sequence")
CONFIG = model_world.with_steps(
    2, 4, text_steps=2, preference_steps=2, check_every=2, patience=3, batch_size=5, save_every=3
)


def trained(folder: str, llm: str) -> None:
    """What each process of a team runs; the batch of 5 does not divide evenly."""
    for loss in LOSSES:
        adapter = train(
            model_world.examples(8),
            validation=model_world.examples(30, seed=4),
            items=model_world.items(),
            titles=model_world.TITLES,
            llm=llm,
            config=replace(CONFIG, training=replace(CONFIG.training, loss=loss)),
            folder=Path(folder) / loss / "adapters",
            runs=Path(folder) / loss / "runs",
        )
        print(adapter)


def test_rows_are_shared_evenly_and_all_of_them() -> None:
    for count in (3, 7, 16):
        shares = [range(16)[Team(index=index, count=count).rows(16)] for index in range(count)]
        assert [row for share in shares for row in share] == list(range(16))
        assert {len(share) for share in shares} <= {16 // count, 16 // count + 1}


def test_a_batch_too_small_for_the_team_is_refused() -> None:
    with pytest.raises(ValueError, match=r"batch_size 2 is less than the 3 processes"):
        Team(index=0, count=3).rows(2)


def test_a_process_that_nobody_launched_is_alone() -> None:
    team = Team.found("cpu")
    assert team == Team()
    assert team.is_main
    weight = torch.nn.Parameter(torch.ones(2))
    weight.grad = torch.full((2,), 3.0)
    assert team.add_gradients([weight], 0.5) == 0.5
    assert weight.grad.tolist() == [3.0, 3.0]
    assert team.filled(np.array([1.0, 0.0]), device=weight.device).tolist() == [1.0, 0.0]
    with team.main_first():
        team.wait()


@pytest.fixture(scope="module")
def both(llm_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """Trained by one process, by two, and what the two printed."""
    folder = tmp_path_factory.mktemp("team")
    trained(str(folder / "one"), str(llm_folder))
    code = "import sys; from tests.ranker import test_team; test_team.trained(*sys.argv[1:])"
    script = folder / "script.py"
    script.write_text(code)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    given = [str(script), str(folder / "two"), str(llm_folder)]
    command = [*launcher, "--nproc-per-node=2", *given]
    environment = {**os.environ, "PYTHONPATH": os.getcwd(), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "one", folder / "two", done.stdout


@pytest.mark.slow
@pytest.mark.timeout(900)  # two processes start, and load much
@pytest.mark.parametrize("loss", LOSSES)
def test_two_processes_train_what_one_does(loss: Loss, both: tuple[Path, Path, str]) -> None:
    *folders, printed = both
    (one,), (two,) = ((folder / loss / "adapters").iterdir() for folder in folders)
    assert one.name == two.name, "how many trained it is not in the name"
    assert printed.count(str(two)) == 2, "both know where it is"  # two may share a line
    for name in (models.WEIGHTS, "lora/shared/adapter_model.safetensors"):
        expected, found = load_file(one / name), load_file(two / name)
        assert expected.keys() == found.keys()
        for key, value in expected.items():
            torch.testing.assert_close(found[key], value, atol=1e-5, rtol=0)
    expected_facts, facts = (read_facts(folder).training for folder in (one, two))
    assert facts["losses"] == pytest.approx(expected_facts["losses"], abs=1e-5)
    for look, expected_look in zip(facts["validation"], expected_facts["validation"], strict=True):
        assert look == pytest.approx(expected_look, abs=1e-5)
    record = json.loads((folders[1] / loss / "runs" / two.name / "run.json").read_text())
    assert record["num_processes"] == 2
    assert record["is_finished"]


def test_a_weight_without_a_gradient_is_passed_over_by_one_process_and_by_many() -> None:
    """Weight decay would move it, were its gradient 0 and not absent."""
    config = replace(CONFIG.training, weight_decay=0.5)
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([weight], weight_decay=config.weight_decay)
    Team().add_gradients([weight], 0.0)
    optimizer.step()
    assert weight.tolist() == [1.0, 1.0]
