"""Both stages in one folder: what it holds, what it says of itself, and that it goes on."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from embedders.items import Modality
from embedders.tuning.config import TuningConfig
from embedders.tuning.features import Features, aligned
from embedders.tuning.tune import FILE, RECOMMENDER, Tuning, tune
from tests.embedders.tuning.planted import LinearTunable, World, world

CONFIG = TuningConfig(
    dim=8,
    epochs=6,
    base_batch_size=128,
    base_learning_rate=0.03,
    steps=30,
    batch_size=24,
    learning_rate=0.03,
    save_every=5,
    refit_epochs=2,
)
TEXT = Modality.TEXT


def tuned(own: World, folder: Path, config: TuningConfig = CONFIG) -> tuple[Tuning, LinearTunable]:
    tunable = LinearTunable(own.numbers)
    return tune({TEXT: tunable}, own.items, own.choices, config=config, folder=folder), tunable


def test_the_folder_holds_the_adapter_and_says_what_it_was_made_of(tmp_path: Path) -> None:
    own = world()
    made, tunable = tuned(own, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [RECOMMENDER, "text", FILE]
    adapter = load_file(tmp_path / "text" / "adapter_model.safetensors")
    assert (adapter["up"] == tunable.module.up).all()
    said = json.loads((tmp_path / FILE).read_text("utf-8"))
    assert said["config"]["regime"] == "dual"
    assert said["data"]["choices"] == own.choices.digest
    assert said["encoders"]["text"]["num_trained"] == 16
    assert said["encoders"]["text"]["trained_share"] == pytest.approx(16 / 76)
    assert said["memory"]["peak_mib"] > 0
    assert said["versions"]["torch"] == torch.__version__.partition("+")[0] or said["versions"]
    assert len(said["losses"]) == len(said["transfers"]) == 30
    assert set(said["seconds"]) == {"stage_one", "stage_two", "refit"}
    assert made.recalls["refit"] >= made.recalls["tuned"]


def test_a_finished_folder_is_read_and_another_tuning_does_not_take_it(tmp_path: Path) -> None:
    own = world()
    made, _ = tuned(own, tmp_path)
    again, untouched = tuned(own, tmp_path)
    assert again == made
    assert not untouched.module.up.any()
    assert tuned(own, tmp_path, replace(CONFIG, save_every=7))[0] == made
    with pytest.raises(ValueError, match="of another tuning"):
        tuned(own, tmp_path, replace(CONFIG, seed=1))
    (tmp_path / FILE).write_text("{}", "utf-8")
    with pytest.raises(ValueError, match="is damaged"):
        tuned(own, tmp_path)


class KilledError(Exception):
    """As if the process had ended."""


@pytest.mark.parametrize("at", [("recommender", 6), ("encoders", 13)])
def test_a_run_killed_in_either_stage_ends_as_one_that_was_not(
    at: tuple[str, int], tmp_path: Path
) -> None:
    own = world()
    whole, tunable = tuned(own, tmp_path / "whole")

    def kill(what: str, done: int, of: int, loss: float) -> None:
        if (what, done) == at:
            raise KilledError

    killed = LinearTunable(own.numbers)
    with pytest.raises(KilledError):
        tune(
            {TEXT: killed},
            own.items,
            own.choices,
            config=CONFIG,
            folder=tmp_path / "killed",
            on_progress=kill,
        )
    again, other = tuned(own, tmp_path / "killed")
    assert (again.losses, again.recalls) == (whole.losses, whole.recalls)
    assert (other.module.up == tunable.module.up).all()


@pytest.mark.parametrize("regime", ["joint", "no_transfer"])
def test_the_other_regimes_end_in_the_same_files(regime: str, tmp_path: Path) -> None:
    own = world()
    config = replace(CONFIG, regime=regime, joint_epochs=4)  # type: ignore[arg-type]
    made, _ = tuned(own, tmp_path, config)
    assert made.epochs["stage_one"] == 0 or regime == "no_transfer"
    assert not any(made.transfers)
    assert (tmp_path / "text" / "adapter_model.safetensors").is_file()


def test_modalities_that_are_not_tuned_stay_as_they_are_given(tmp_path: Path) -> None:
    own = world()
    tunable = LinearTunable(own.numbers)
    image = LinearTunable(own.numbers, Modality.IMAGE).embedder.embed(own.items)[0]
    given: dict[Modality, Features] = {Modality.IMAGE: aligned(image, own.choices.item_ids)}
    made = tune(
        {TEXT: tunable}, own.items, own.choices, config=CONFIG, folder=tmp_path, features=given
    )
    assert made.data["features"]["image"] == given[Modality.IMAGE].digest
    assert set(made.data["features"]) == {"image", "text"}
    assert set(made.encoders) == {"text"}
