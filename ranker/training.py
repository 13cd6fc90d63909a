"""Examples in, an adapter folder out: fusion, evidence, behavior tokens and LoRA, trained together.

The curriculum is TMF's three levels: the text-only warm-up is the LLM's own (`embedded_llm`, or
whatever the given model was trained on), then every batch sees a single modality, then all of
them with modality dropout. Training packs as serving does: one prefix, one positive and its
negatives as branches, all candidates from the retriever's own list, whose score is the prior that
the LLM's logit is added to. Where a modality is dropped, it is dropped from fusion, evidence and
score alike.

Each finished stage is kept beside the adapter, so that an interrupted run goes on after it.

Shape legend: B examples, N branches of an example, T tokens, H the LLM's width, M modalities.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from embedders import torchaudio_cpu

torchaudio_cpu.load()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from peft import get_peft_model_state_dict, set_peft_model_state_dict  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from torch import Tensor  # noqa: E402

from embedders.checkpoint import resolve  # noqa: E402
from ranker import llm as llms  # noqa: E402
from ranker.batches import Batches  # noqa: E402
from ranker.config import RankerConfig  # noqa: E402
from ranker.evidence import features  # noqa: E402
from ranker.examples import Example  # noqa: E402
from ranker.model import FACTS, RankerModel  # noqa: E402
from ranker.prompts import vocabulary  # noqa: E402
from retrieval.concatenated import ItemVectors  # noqa: E402

FORMAT = 1  # raised when the same input would give another adapter
WARM_UP = 30  # steps over which each stage's learning rate rises
FLOOR = 0.02  # of the learning rate, at a stage's end

OnProgress = Callable[[str, int, int, float], None]


def train(
    examples: Sequence[Example],
    *,
    items: ItemVectors,
    titles: Mapping[str, str],
    llm: str,
    config: RankerConfig,
    folder: Path,
    on_progress: OnProgress | None = None,
) -> Path:
    """Train an adapter, or find it trained.

    Args:
        examples: As `ranker.examples` collects them.
        items: Every item's vectors, in the spaces that will be served.
        titles: Of the items, for prompts that write them.
        llm: A folder in Hugging Face format, or a hub id with `config.llm.revision`.
        folder: Where adapters are kept; each has a folder of its own, named by what made it.
        on_progress: Called with the stage, steps done, steps, and the mean loss of late.

    Returns:
        The adapter's folder.

    Raises:
        ValueError: there are no examples.
    """
    if not examples:
        raise ValueError(
            "no training examples: between the graph's cut and the evaluation's, no user chose an "
            "item that retrieval found; widen that time, or check [target]"
        )
    behaviors = vocabulary(event for one in examples for event in one.query.history or ())
    target = folder / _digest(examples, items, titles, behaviors, llm, config)
    if (target / FACTS).is_file():
        return target
    with torch.random.fork_rng():
        torch.manual_seed(config.training.seed)
        model = RankerModel(
            llms.load(llm, config=config.llm),
            spaces=items.spaces,
            behaviors=behaviors,
            config=config,
        )
        model.adapt()
        _calibrate(model, examples)
        batches = Batches(model, examples, items=items, titles=titles)
        stages = target.with_name(f"{target.name}.stages")
        losses = _run_stages(model, batches, config, stages, on_progress)
    facts = {
        "losses": losses,
        "num_examples": len(examples),
        "hidden_size": model.llm.hidden_size,
        "versions": {name: metadata.version(name) for name in ("torch", "transformers", "peft")},
    }
    folder.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder, prefix=".training-"))
    temporary.chmod(0o755)  # a server may run as another user
    model.save(temporary, training=facts)
    shutil.rmtree(target, ignore_errors=True)
    temporary.rename(target)
    shutil.rmtree(stages, ignore_errors=True)
    return target


def _calibrate(model: RankerModel, examples: Sequence[Example]) -> None:
    """Fit the prior: what the retriever's findings alone say."""
    model.evidence.fit(
        [features(one.candidates, model.blocks) for one in examples],
        [
            np.array([candidate.item_id in one.chosen for candidate in one.candidates])
            for one in examples
        ],
    )


def _run_stages(
    model: RankerModel,
    batches: Batches,
    config: RankerConfig,
    stages: Path,
    on_progress: OnProgress | None,
) -> dict[str, float]:
    training = config.training
    plan = (
        ("single modalities", training.single_modality_steps, True),
        ("fusion", training.fusion_steps, False),
    )
    losses: dict[str, float] = {}
    for place, (name, num_steps, is_single) in enumerate(plan):
        done = stages / f"{place}.safetensors"
        if done.is_file():
            _restore(model, done)
            losses[name] = json.loads(done.with_suffix(".json").read_text())["loss"]
            continue
        torch.manual_seed(training.seed + place)
        batches.start_over()
        losses[name] = _run_stage(
            model,
            batches,
            config,
            name=name,
            num_steps=num_steps,
            is_single=is_single,
            rng=np.random.default_rng([training.seed, place]),
            on_progress=on_progress,
        )
        stages.mkdir(parents=True, exist_ok=True)
        done.with_suffix(".json").write_text(json.dumps({"loss": losses[name]}))
        _keep(model, done)
    return losses


def _run_stage(
    model: RankerModel,
    batches: Batches,
    config: RankerConfig,
    *,
    name: str,
    num_steps: int,
    is_single: bool,
    rng: np.random.Generator,
    on_progress: OnProgress | None,
) -> float:
    training = config.training
    parameters = [one for one in model.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, lr=training.learning_rate, weight_decay=training.weight_decay
    )
    model.train()
    late = 0.0
    for step in range(num_steps):
        rise = min(1.0, (step + 1) / WARM_UP)
        fall = FLOOR + (1 - FLOOR) * (0.5 + 0.5 * np.cos(np.pi * step / num_steps))
        for group in optimizer.param_groups:
            group["lr"] = training.learning_rate * rise * fall
        logits_BN = batches.logits(rng, is_single=is_single)
        loss = _loss(logits_BN, training.loss)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        value = float(loss.detach())
        late = value if step == 0 else 0.98 * late + 0.02 * value
        if on_progress is not None:
            on_progress(name, step + 1, num_steps, late)
    model.eval()
    return late


def _loss(logits_BN: Tensor, kind: str) -> Tensor:
    """The first branch of each example is its positive."""
    if kind == "listwise":
        truth_B = torch.zeros(len(logits_BN), dtype=torch.long)
        return torch.nn.functional.cross_entropy(logits_BN, truth_B)
    truth_BN = torch.zeros_like(logits_BN)
    truth_BN[:, 0] = 1
    return torch.nn.functional.binary_cross_entropy_with_logits(logits_BN, truth_BN)


def _keep(model: RankerModel, path: Path) -> None:
    state = {f"own.{key}": value for key, value in model.own_state().items()}
    lora = get_peft_model_state_dict(model.decoder)
    state |= {f"lora.{key}": value.contiguous() for key, value in lora.items()}
    temporary = path.with_suffix(".part")
    save_file(state, temporary)
    temporary.rename(path)


def _restore(model: RankerModel, path: Path) -> None:
    state = load_file(path)
    model.load_own_state({k[4:]: v for k, v in state.items() if k.startswith("own.")})
    lora = {k[5:]: v for k, v in state.items() if k.startswith("lora.")}
    set_peft_model_state_dict(model.decoder, lora)


def _digest(
    examples: Sequence[Example],
    items: ItemVectors,
    titles: Mapping[str, str],
    behaviors: Sequence[str],
    llm: str,
    config: RankerConfig,
) -> str:
    """Of everything that the adapter depends on."""
    digest = hashlib.sha256()
    revision = resolve(llm, revision=config.llm.revision).revision
    facts: list[Any] = [FORMAT, asdict(config), list(behaviors), Path(llm).name, revision]
    facts += [space.space_id for space in items.spaces]
    if {config.prompt.history, config.prompt.candidates} != {"tokens"}:
        facts.append(sorted(titles.items()))
    digest.update(json.dumps([facts, items.item_ids], sort_keys=True).encode())
    for one in examples:
        history = [
            (event.item_id, event.behavior, event.weight, str(event.timestamp))
            for event in one.query.history or ()
        ]
        asked = [one.query.user_id, str(one.query.as_of), history, sorted(one.weights.items())]
        found = [(candidate.item_id, candidate.score) for candidate in one.candidates]
        digest.update(json.dumps([asked, sorted(one.chosen), found]).encode())
    digest.update(items.vectors_ND.tobytes() + items.is_present_NM.tobytes())
    return digest.hexdigest()[:12]
