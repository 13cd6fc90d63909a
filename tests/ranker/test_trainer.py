"""However a batch is cut up, and wherever a run was cut off, the same weights come out."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import Tensor

from ranker.batches import Batches
from ranker.config import Lora, Loss, RankerConfig
from ranker.curriculum import FUSION, Stage, plan
from ranker.model import RankerModel
from ranker.progress import Look
from ranker.survey import survey
from ranker.trainer import FLOOR, WARM_UP, LookAt, Trainer, pace
from ranker.training import _fresh, train
from tests.ranker import model_world

EXAMPLES = model_world.examples(8)
HELD_OUT = model_world.examples(30, seed=4)
ITEMS = model_world.items()
WHOLE = model_world.with_steps(
    3, 6, text_steps=3, preference_steps=3, check_every=2, save_every=2, patience=2
)


def config(lora: Lora = "shared", **changes: object) -> RankerConfig:
    whole = replace(WHOLE, training=replace(WHOLE.training, **changes))  # type: ignore[arg-type]
    return replace(whole, llm=replace(whole.llm, lora=lora, lora_dropout=0.1))


def trainer(
    llm: Path, folder: Path, config: RankerConfig, *, look_at: LookAt | None = None
) -> tuple[RankerModel, Trainer]:
    torch.manual_seed(0)
    found = survey(EXAMPLES, blocks=[space.modality or "" for space in ITEMS.spaces], config=config)
    model = _fresh(found, ITEMS, llm=str(llm), config=config)
    batches = Batches(model, EXAMPLES, items=ITEMS, titles=model_world.TITLES)
    made = Trainer(
        model,
        batches,
        config=config.training,
        checkpoint=folder / "state",
        look_at=look_at,
    )
    return model, made


def weights(model: RankerModel) -> dict[str, Tensor]:
    return {
        name: weight.detach().clone()
        for name, weight in model.named_parameters()
        if "lora_" in name or not name.startswith("decoder.")
    }


def changed(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> set[str]:
    """The kinds of weights that moved: LoRA modules by name, and parts."""
    return {
        next((one for one in ("shared", "text", "modal") if f".{one}." in name), None)
        or name.partition(".")[0]
        for name in before
        if not torch.equal(before[name], after[name])
    }


def gradients(llm: Path, folder: Path, config: RankerConfig) -> tuple[float, dict[str, Tensor]]:
    """Of the first batch of full fusion, by the very code that trains."""
    model, made = trainer(llm, folder, replace(config, llm=WHOLE.llm))
    stage = next(one for one in plan(config) if one.name == FUSION)
    made._begin(stage, None)
    model.train()
    drawn = made._batches.draw(made._rng, stage)
    loss = sum(made._backward(part, len(drawn), stage) for part in made._parts(drawn))
    found = {name: one.grad for name, one in model.named_parameters() if one.grad is not None}
    assert found
    return loss, found


@pytest.mark.parametrize(
    "changes",
    [{"micro_batch_size": 1}, {"micro_batch_size": 3}, {"gradient_checkpointing": True}],
    ids=str,
)
@pytest.mark.parametrize("loss", get_args(Loss))
def test_memory_is_saved_without_changing_loss_or_gradients(
    changes: dict[str, object], loss: str, llm_folder: Path, tmp_path: Path
) -> None:
    expected, whole = gradients(llm_folder, tmp_path, config(loss=loss))
    value, found = gradients(llm_folder, tmp_path, config(loss=loss, **changes))
    assert value == pytest.approx(expected, abs=1e-6)
    assert found.keys() == whole.keys()
    for name, gradient in whole.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-6, rtol=1e-4)


def test_gradient_checkpointing_computes_layers_again(llm_folder: Path, tmp_path: Path) -> None:
    """Else the test above would compare a thing with itself."""
    calls = []
    for is_on in (False, True):
        model, made = trainer(llm_folder, tmp_path, config(gradient_checkpointing=is_on))
        stage = plan(config())[2]
        made._begin(stage, None)
        model.train()
        seen: list[int] = []
        layer = model.causal_lm.get_decoder().layers[0].mlp
        layer.register_forward_pre_hook(lambda *_, seen=seen: seen.append(1))
        made._backward(made._batches.draw(made._rng, stage), 4, stage)
        calls.append(len(seen))
    assert calls == [1, 2]


def test_mixed_precision_rounds_inside_the_llm_alone(llm_folder: Path, tmp_path: Path) -> None:
    expected, whole = gradients(llm_folder, tmp_path, config())
    value, found = gradients(llm_folder, tmp_path, config(mixed_precision="bf16"))
    assert value != expected
    assert value == pytest.approx(expected, abs=0.02)
    assert {gradient.dtype for gradient in found.values()} == {torch.float32}
    assert found.keys() == whole.keys()
    _, made = trainer(llm_folder, tmp_path, config(mixed_precision="bf16"))
    drawn = made._batches.draw(made._rng, plan(config())[2])
    priors, logits = made._batches.answers(drawn, is_mixed=True)
    assert priors.dtype == logits.dtype == torch.float32
    exact = Batches(
        trainer(llm_folder, tmp_path, config())[0], EXAMPLES, items=ITEMS, titles={}
    ).answers(drawn)
    assert torch.equal(priors, exact[0]), "what retrieval knew is not rounded"
    assert not torch.equal(logits, exact[1])
    assert torch.equal(made._batches.answers(drawn)[1], exact[1]), "looks and calibration are exact"


@pytest.mark.parametrize(
    ("lora", "moved"),
    [
        ("shared", [{"shared"}, {"shared"}]),
        ("text", [{"text"}, set()]),
        ("modal", [set(), {"modal"}]),
        ("separate", [{"text"}, {"modal"}]),
        ("joint", [{"text", "modal"}, {"text", "modal"}]),
    ],
)
def test_each_level_moves_what_the_variant_says(
    lora: Lora, moved: list[set[str]], llm_folder: Path, tmp_path: Path
) -> None:
    short = config(lora, text_steps=2, single_modality_steps=0, fusion_steps=2, preference_steps=0)
    seen: list[dict[str, Tensor]] = []
    model, made = trainer(
        llm_folder,
        tmp_path,
        short,
        look_at=lambda stage, step: (
            seen.append(weights(model)) or Look(stage=stage.name, step=step, loss=-step, ndcg=0.5)
        ),
    )
    made.run(plan(short))
    begun, text, before, after = seen[0], seen[1], seen[2], seen[-1]
    spoken = {"behavior_tokens", "evidence"}
    assert changed(begun, text) == moved[0] | spoken
    assert not changed(text, before)
    assert changed(before, after) == moved[1] | spoken | {"fusion", "scale"}


def scripted(model: RankerModel, losses: list[float]) -> tuple[LookAt, list[dict[str, Tensor]]]:
    """Looks that find these losses one after the other, and keep what they looked at."""
    seen: list[dict[str, Tensor]] = []

    def look_at(stage: Stage, step: int) -> Look:
        seen.append(weights(model))
        return Look(stage=stage.name, step=step, loss=losses[len(seen) - 1], ndcg=0.0)

    return look_at, seen


def test_a_level_ends_when_nothing_gets_better_and_keeps_its_best_weights(
    llm_folder: Path, tmp_path: Path
) -> None:
    long = config(text_steps=0, single_modality_steps=0, fusion_steps=40, preference_steps=0)
    model, made = trainer(llm_folder, tmp_path, long)
    # Looks at steps 0, 2, 4, ...; the best is the third, and equal ones are not better.
    look_at, seen = scripted(model, [3.0, 2.0, 1.0, 1.0, 1.5])
    made._look_at = look_at
    progress = made.run(plan(long))
    assert progress.steps == {FUSION: 8}
    assert [look.step for look in progress.looks] == [0, 2, 4, 6, 8]
    assert not changed(seen[2], weights(model))
    assert changed(seen[2], seen[4])


def test_without_patience_a_level_goes_to_its_end_and_keeps_what_it_has(
    llm_folder: Path, tmp_path: Path
) -> None:
    short = config(
        text_steps=0, single_modality_steps=0, fusion_steps=5, preference_steps=0, patience=0
    )
    model, made = trainer(llm_folder, tmp_path, short)
    look_at, seen = scripted(model, [1.0, 2.0, 3.0, 4.0])
    made._look_at = look_at
    progress = made.run(plan(short))
    assert [look.step for look in progress.looks] == [0, 2, 4, 5]
    assert not changed(seen[-1], weights(model))


def test_preferences_are_tuned_against_the_model_that_came_before(
    llm_folder: Path, tmp_path: Path
) -> None:
    whole = config(preference_steps=6, patience=0)
    model, made = trainer(llm_folder, tmp_path, whole)
    stages = plan(whole)
    made.run(stages[:-1])
    before = weights(model)
    made.progress.place = 3
    stage = stages[-1]
    optimizer = made._begin(stage, None)
    for _ in range(3):
        made._step(stage, optimizer)
    kept = {name: one for name, one in made._reference.items() if name in before}
    assert not changed({name: before[name] for name in kept}, kept), "it stays as it was"
    assert changed(before, weights(model))
    model.eval()
    drawn = made._batches.draw(made._rng, stage)
    with torch.no_grad():
        now = made._batches.run(drawn)
        then = made._referred(drawn)
        model.eval()
        again = made._batches.run(drawn)
    assert torch.equal(now, again)
    assert not torch.allclose(now, then, atol=1e-7)


def test_the_pace_rises_then_falls_to_its_floor() -> None:
    stage = replace(plan(config())[0], num_steps=1000)
    paces = [pace(step, stage) for step in range(1000)]
    assert paces[0] == pytest.approx(1 / WARM_UP)
    assert max(paces) == paces[WARM_UP - 1] or max(paces) == paces[WARM_UP]
    assert paces[-1] == pytest.approx(FLOOR, abs=1e-4)
    assert all(
        one > other for one, other in zip(paces[WARM_UP:], paces[WARM_UP + 1 :], strict=False)
    )


def run_whole(
    folder: Path, llm: Path, *, on_progress: Callable[[str, int, int, float], None] | None = None
) -> Path:
    """All four levels, with dropout, validation and patience: everything that has a state."""
    return train(
        EXAMPLES,
        validation=HELD_OUT,
        items=ITEMS,
        titles=model_world.TITLES,
        llm=str(llm),
        config=config("separate"),
        folder=folder / "adapters",
        runs=folder / "runs",
        on_progress=on_progress,
    )


def run_until(folder: str, llm: str, stage: str, step: str) -> None:
    """In a process of its own: train, and be killed at that step."""

    def kill(name: str, done: int, *_: object) -> None:
        if (name, done) == (stage, int(step)):
            os.kill(os.getpid(), signal.SIGKILL)

    run_whole(Path(folder), Path(llm), on_progress=kill)


@pytest.mark.slow
def test_a_training_that_is_killed_ends_with_the_very_bytes(
    llm_folder: Path, tmp_path: Path
) -> None:
    expected = run_whole(tmp_path / "whole", llm_folder)
    code = (
        "import sys; from tests.ranker import test_trainer; test_trainer.run_until(*sys.argv[1:])"
    )
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    # Between two checkpoints, and in the level that has a reference.
    for stage, step in ((FUSION, 3), ("preference", 3)):
        command = [
            sys.executable,
            "-c",
            code,
            str(tmp_path / "cut"),
            str(llm_folder),
            stage,
            str(step),
        ]
        killed = subprocess.run(
            command, capture_output=True, text=True, env=environment, check=False
        )
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert not (tmp_path / "cut" / "adapters" / expected.name).exists()
    names: list[str] = []
    again = run_whole(tmp_path / "cut", llm_folder, on_progress=lambda name, *_: names.append(name))
    assert set(names) == {"preference"}, "finished levels are not trained again"
    assert again.name == expected.name
    for path in expected.rglob("*"):
        if path.is_file():
            assert (again / path.relative_to(expected)).read_bytes() == path.read_bytes(), path
    assert [one.name for one in again.parent.iterdir()] == [again.name], "nothing is left behind"
