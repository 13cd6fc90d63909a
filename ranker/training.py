"""Examples in, an adapter folder out: fusion, evidence, behavior tokens and LoRA, trained together.

What is trained when says `ranker.curriculum`; how, `ranker.trainer`. Training packs as serving
does: one prefix, one positive and its negatives as branches, all candidates from the retriever's
own list, whose score is the prior that the LLM's logit is added to. Where a modality is dropped,
it is dropped from fusion, evidence and score alike.

The state of an unfinished training lies beside the adapter to be, so that a run that was cut off
goes on where it was.
"""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from embedders import torchaudio_cpu

torchaudio_cpu.load()

import numpy as np  # noqa: E402
import torch  # noqa: E402

from ranker import calibration  # noqa: E402
from ranker import llm as llms  # noqa: E402
from ranker.adapter_facts import FACTS  # noqa: E402
from ranker.batches import Batches  # noqa: E402
from ranker.calibration import CALIBRATOR, Calibrator  # noqa: E402
from ranker.config import RankerConfig  # noqa: E402
from ranker.curriculum import Stage, plan  # noqa: E402
from ranker.examples import Example  # noqa: E402
from ranker.model import RankerModel  # noqa: E402
from ranker.survey import adapter_name, fingerprint, survey  # noqa: E402
from ranker.trainer import OnProgress, Progress, Trainer  # noqa: E402
from ranker.validation import Look, answer, look, spread  # noqa: E402
from retrieval.concatenated import ItemVectors, block_name  # noqa: E402

LOOKED_AT = 100  # held-out moments that say how training goes
CALIBRATED_ON = 1000  # held-out moments at most that scores are calibrated on


def train(
    examples: Sequence[Example],
    *,
    validation: Sequence[Example] = (),
    items: ItemVectors,
    titles: Mapping[str, str],
    llm: str,
    config: RankerConfig,
    folder: Path,
    on_progress: OnProgress | None = None,
) -> Path:
    """Train an adapter, or find it trained.

    Args:
        examples: As `ranker.examples` collects them; only its length and places are used, so that
            they may lie on disk.
        validation: Held-out ones, such as the newest: they tell when to stop, and calibrate.
            Without them training goes to its end, and scores stay as they are.
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
    if not len(examples):
        raise ValueError(
            "no training examples: between the graph's cut and the evaluation's, no user chose an "
            "item that retrieval found; widen that time, or check [target]"
        )
    stages = plan(config)
    blocks = [block_name(space) for space in items.spaces]
    found = survey(examples, blocks=blocks, config=config)
    name = adapter_name(
        (found.fingerprint, fingerprint(validation, blocks=blocks)),
        items=items,
        titles=titles,
        behaviors=found.behaviors,
        llm=llm,
        config=config,
    )
    target = folder / name
    if (target / FACTS).is_file():
        return target
    with torch.random.fork_rng():
        torch.manual_seed(config.training.seed)
        model = RankerModel(
            llms.load(llm, config=config.llm),
            spaces=items.spaces,
            behaviors=found.behaviors,
            config=config,
        )
        model.adapt()
        model.evidence.fit(found.features, found.is_chosen)
        batches = Batches(model, examples, items=items, titles=titles)
        checkpoint = folder / f"{name}.checkpoint"
        looked_at = [validation[place] for place in spread(validation, LOOKED_AT)]

        def look_at(stage: Stage, step: int) -> Look:
            return look(batches, looked_at, stage=stage, step=step, kind=config.training.loss)

        progress = Trainer(
            model,
            batches,
            config=config.training,
            checkpoint=checkpoint,
            look_at=look_at if looked_at else None,
            on_progress=on_progress,
        ).run(stages)
        calibrator = _calibrated(batches, validation)
    folder.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder, prefix=".training-"))
    temporary.chmod(0o755)  # a server may run as another user
    facts = _facts(progress, len(examples), len(validation), calibrator)
    model.save(temporary, training={**facts, "hidden_size": model.llm.hidden_size})
    if calibrator is not None:
        calibrator.save(temporary / CALIBRATOR)
    shutil.rmtree(target, ignore_errors=True)
    temporary.rename(target)
    checkpoint.unlink(missing_ok=True)
    return target


def _calibrated(batches: Batches, validation: Sequence[Example]) -> Calibrator | None:
    """Fitted on held-out lists; None where there are too few."""
    places = spread(validation, CALIBRATED_ON)
    answered = list(answer(batches, validation, places, sees="all"))
    if not answered:
        return None
    return calibration.fit(
        np.concatenate([one.priors_N for one in answered]),
        np.concatenate([one.logits_N for one in answered]),
        np.concatenate([one.is_chosen_N for one in answered]),
        np.repeat(np.arange(len(answered)), [len(one.item_ids) for one in answered]),
    )


def _facts(
    progress: Progress, num_examples: int, num_validation: int, calibrator: Calibrator | None
) -> dict[str, Any]:
    """What the adapter says of its training; equal trainings say the same."""
    return {
        "losses": progress.losses,
        "steps": progress.steps,
        "looks": [asdict(one) for one in progress.looks],
        "num_examples": num_examples,
        "num_validation": num_validation,
        "is_calibrated": calibrator is not None,
        "versions": {name: metadata.version(name) for name in ("torch", "transformers", "peft")},
    }
