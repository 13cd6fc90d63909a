"""Training makes the same adapter of the same inputs, goes on where it was cut off, and learns."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from embedders.items import Interaction
from ranker import model as models
from ranker import tokens
from ranker.config import RankerConfig
from ranker.examples import Example
from ranker.llm_reranker import LlmReranker
from ranker.training import train
from tests.ranker import model_world

Step = tuple[str, int, int, float]
EXAMPLES = model_world.examples(8)


def trained(
    folder: Path,
    llm: Path,
    *,
    examples: list[Example] = EXAMPLES,
    validation: Sequence[Example] = (),
    config: RankerConfig = model_world.CONFIG,
    titles: dict[str, str] = model_world.TITLES,
    on_progress: Callable[[str, int, int, float], None] | None = None,
) -> Path:
    return train(
        examples,
        validation=validation,
        items=model_world.items(),
        titles=titles,
        llm=str(llm),
        config=config,
        folder=folder,
        on_progress=on_progress,
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_equal_inputs_give_equal_bytes(adapter: Path, llm_folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(99)  # whatever ran before
    again = trained(tmp_path, llm_folder)
    assert again.name == adapter.name
    assert contents(again) == contents(adapter)
    assert [path.name for path in tmp_path.iterdir()] == [again.name]


def test_another_process_gives_equal_bytes(adapter: Path, llm_folder: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.ranker.test_training import trained; "
        "trained(Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": os.getcwd()}
    command = [sys.executable, "-c", code, str(tmp_path), str(llm_folder)]
    subprocess.run(command, check=True, capture_output=True, env=environment)
    assert contents(tmp_path / adapter.name) == contents(adapter)


def test_a_second_call_finds_what_the_first_made(llm_folder: Path, tmp_path: Path) -> None:
    steps: list[Step] = []
    first = trained(tmp_path, llm_folder, on_progress=lambda *step: steps.append(step))
    assert [step[:3] for step in steps] == [
        *(("single modalities", step, 3) for step in (1, 2, 3)),
        *(("fusion", step, 3) for step in (1, 2, 3)),
    ]
    assert trained(tmp_path, llm_folder, on_progress=lambda *step: steps.append(step)) == first
    assert len(steps) == 6


class CutOff(Exception):
    """The power went out."""


@pytest.mark.parametrize("stage", ["single modalities", "fusion"])
def test_training_that_was_cut_off_ends_as_if_it_was_not(
    stage: str, adapter: Path, llm_folder: Path, tmp_path: Path
) -> None:
    def cut(name: str, step: int, *_: object) -> None:
        if name == stage and step == 2:
            raise CutOff

    with pytest.raises(CutOff):
        trained(tmp_path, llm_folder, on_progress=cut)
    assert not (tmp_path / adapter.name).exists()
    torch.manual_seed(99)
    names: list[str] = []
    again = trained(tmp_path, llm_folder, on_progress=lambda *step: names.append(step[0]))
    assert ("single modalities" in names) == (stage == "single modalities")
    assert contents(again) == contents(adapter)
    assert [path.name for path in tmp_path.iterdir()] == [again.name]


def test_the_adapters_facts_say_what_it_was_made_of(adapter: Path) -> None:
    facts = models.read_facts(adapter)
    assert facts.config == model_world.CONFIG
    assert facts.spaces == (model_world.AUDIO, model_world.GRAPH, model_world.TEXT)
    assert facts.behaviors == ("other", "rate", "rate 4.5", "view")
    assert facts.training["num_examples"] == 8
    assert facts.training["losses"].keys() == {"single modalities", "fusion"}
    assert facts.training["versions"]["torch"].startswith("2.")


def changed_history(one: Example) -> Example:
    event = Interaction(
        item_id="item-07", behavior="view", timestamp=model_world.NOON - timedelta(days=1)
    )
    history = (event, *(one.query.history or ()))
    return replace(one, query=replace(one.query, history=history))


def test_whatever_training_reads_is_in_the_adapters_name(llm_folder: Path, tmp_path: Path) -> None:
    brief = model_world.with_steps(0, 0)
    titled = replace(brief, prompt=replace(brief.prompt, candidates="both"))
    other = {**model_world.TITLES, "item-07": "another title"}
    names = [
        trained(tmp_path, llm_folder, config=brief).name,
        trained(tmp_path, llm_folder, config=brief, examples=EXAMPLES[:7]).name,
        trained(
            tmp_path,
            llm_folder,
            config=brief,
            examples=[*EXAMPLES[:7], changed_history(EXAMPLES[7])],
        ).name,
        trained(tmp_path, llm_folder, config=brief, validation=EXAMPLES[:2]).name,
        trained(tmp_path, llm_folder, config=titled).name,
        trained(tmp_path, llm_folder, config=titled, titles=other).name,
    ]
    assert len(set(names)) == len(names)
    unread = trained(tmp_path, llm_folder, config=brief, titles=other)
    assert unread.name == names[0], "titles that no prompt writes change nothing"


def test_another_llm_in_the_same_folder_is_trained_anew(llm_folder: Path, tmp_path: Path) -> None:
    brief = model_world.with_steps(0, 0)
    llm = tmp_path / "llm"
    llm.mkdir()
    for path in llm_folder.iterdir():
        (llm / path.name).write_bytes(path.read_bytes())
    before = trained(tmp_path / "adapters", llm, config=brief)
    facts = json.loads((llm / "config.json").read_text())
    (llm / "config.json").write_text(json.dumps({**facts, "rms_norm_eps": 1e-3}))
    after = trained(tmp_path / "adapters", llm, config=brief)
    assert after != before
    models.load(after)
    with pytest.raises(models.AdapterError, match="train again"):
        models.load(before)


def test_no_example_is_an_error_that_says_what_to_widen(llm_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no training examples: .* widen that time"):
        trained(tmp_path, llm_folder, examples=[])


def test_the_pointwise_loss_trains_too(adapter: Path, llm_folder: Path, tmp_path: Path) -> None:
    config = model_world.with_steps(1, 2, loss="pointwise")
    folder = trained(tmp_path, llm_folder, config=config)
    assert models.read_facts(folder).config.training.loss == "pointwise"
    one, other = (load_file(path / models.WEIGHTS) for path in (adapter, folder))
    assert not torch.equal(one["fusion.project.weight"], other["fusion.project.weight"])


def test_half_precision_is_trained_and_loaded(llm_folder: Path, tmp_path: Path) -> None:
    config = model_world.with_steps(1, 2)
    config = replace(config, llm=replace(config.llm, dtype="bfloat16"))
    model = models.load(trained(tmp_path, llm_folder, config=config))
    assert model.causal_lm.dtype == torch.bfloat16


def test_it_learns_what_retrieval_cannot_know(llm_folder: Path, tmp_path: Path) -> None:
    losses: list[float] = []
    config = model_world.with_steps(5, 80, batch_size=8, num_negatives=7, learning_rate=5e-3)
    config = replace(config, fusion=replace(config.fusion, modality_dropout=0.0))
    folder = trained(
        tmp_path,
        llm_folder,
        examples=model_world.examples(60),
        config=config,
        on_progress=lambda *step: losses.append(step[3]),
    )
    assert losses[-1] < losses[5] - 0.25, "the mean of late, which lags behind"
    model, items = models.load(folder), model_world.items()
    reranker = LlmReranker(
        model,
        item_ids=items.item_ids,
        tokens_ND=tokens.fuse(folder, items).vectors_ND,
        present={},
        titles=model_world.TITLES,
        generation_id="g",
    )
    retrieved, reranked = [], []
    for example in model_world.examples(20, seed=1):
        ranking = reranker.rerank(example.query, example.candidates)
        order = [one.item_id for one in ranking.items]
        reranked.append(model_world.precision(order, example.chosen))
        first = [one.item_id for one in example.candidates]
        retrieved.append(model_world.precision(first, example.chosen))
    assert sum(retrieved) / 20 < 0.4
    assert sum(reranked) / 20 > 0.8


@pytest.mark.gpu
def test_a_gpu_trains_what_a_processor_does(llm_folder: Path, tmp_path: Path) -> None:
    config = model_world.with_steps(3, 5, text_steps=2, check_every=2)
    losses = []
    for device in ("cpu", "cuda"):
        placed = replace(config, llm=replace(config.llm, device=device))
        folder = trained(
            tmp_path, llm_folder, config=placed, validation=model_world.examples(30, seed=4)
        )
        losses.append(models.read_facts(folder).training["losses"])
    assert losses[1] == pytest.approx(losses[0], abs=5e-3)


@pytest.mark.gpu
def test_a_gpu_saves_memory_in_every_way_at_once(llm_folder: Path, tmp_path: Path) -> None:
    config = model_world.with_steps(
        2,
        4,
        preference_steps=2,
        micro_batch_size=2,
        gradient_checkpointing=True,
        mixed_precision="bf16",
        patience=2,
    )
    config = replace(config, llm=replace(config.llm, device="cuda", dtype="bfloat16"))
    folder = trained(
        tmp_path, llm_folder, config=config, validation=model_world.examples(30, seed=4)
    )
    losses = models.read_facts(folder).training["losses"]
    assert all(math.isfinite(loss) for loss in losses.values())
