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
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from embedders import torchaudio_cpu

torchaudio_cpu.load()

import torch  # noqa: E402

from embedders.texts import TextSource  # noqa: E402
from ranker import llm as llms  # noqa: E402
from ranker.adapter_facts import FACTS  # noqa: E402
from ranker.batches import Batches  # noqa: E402
from ranker.calibration import CALIBRATOR, Calibrator  # noqa: E402
from ranker.config import RankerConfig  # noqa: E402
from ranker.curriculum import Stage, plan  # noqa: E402
from ranker.examples import Example  # noqa: E402
from ranker.model import RankerModel  # noqa: E402
from ranker.progress import Look, Progress  # noqa: E402
from ranker.runs import Record, Run, Unrecorded  # noqa: E402
from ranker.survey import Survey, adapter_name, fingerprint, survey  # noqa: E402
from ranker.team import Team  # noqa: E402
from ranker.trainer import OnProgress, Trainer  # noqa: E402
from ranker.validation import calibrated, look, spread  # noqa: E402
from retrieval.concatenated import ItemVectors, block_name  # noqa: E402

LOOKED_AT = 100  # held-out moments that say how training goes
CALIBRATED_ON = 1000  # held-out moments at most that scores are calibrated on


def train(
    examples: Sequence[Example],
    *,
    validation: Sequence[Example] = (),
    items: ItemVectors,
    titles: Mapping[str, str],
    summaries: Mapping[str, str] | None = None,
    texts: Sequence[TextSource] = (),
    llm: str,
    config: RankerConfig,
    folder: Path,
    runs: Path | None = None,
    on_progress: OnProgress | None = None,
) -> Path:
    """Train an adapter, or find it trained.

    Launched as several processes, all of them call it with the same arguments; each takes its
    rows of every batch, and the first one writes.

    Args:
        examples: As `ranker.examples` collects them; only its length and places are used, so that
            they may lie on disk.
        validation: Held-out ones, such as the newest: they tell when to stop, and calibrate.
            Without them training goes to its end, and scores stay as they are.
        items: Every item's vectors, in the spaces that will be served.
        titles: Of the items, for prompts that write them.
        summaries: Of the items, likewise.
        texts: Who wrote summaries and examples' preferences: an adapter reads these sources alone.
        llm: A folder in Hugging Face format, or a hub id with `config.llm.revision`.
        folder: Where adapters are kept; each has a folder of its own, named by what made it.
        runs: Where each training's record and curves are kept, in a folder of the adapter's name;
            None keeps none.
        on_progress: Called with the stage, steps done, steps, and the mean loss of late.

    Returns:
        The adapter's folder.

    Raises:
        ValueError: there are no examples, or one without a chosen candidate or without others;
            fewer rows in a batch than processes.
    """
    if not len(examples):
        raise ValueError(
            "no training examples: between the graph's cut and the evaluation's, no user chose an "
            "item that retrieval found; widen that time, or check [target]"
        )
    stages, team = plan(config), Team.found(config.llm.device)
    team.rows(config.training.batch_size)
    blocks = [block_name(space) for space in items.spaces]
    found = survey(examples, blocks=blocks, config=config)
    held_out = fingerprint(validation, blocks=blocks)
    name = adapter_name(
        (found.fingerprint, held_out),
        items=items,
        titles=titles,
        summaries=summaries or {},
        texts=texts,
        behaviors=found.behaviors,
        llm=llm,
        config=config,
    )
    target = folder / name
    is_there = (target / FACTS).is_file()
    team.wait()  # until all have looked: the first might be done before the last begins
    if is_there:
        return target
    data = {
        "examples": len(examples),
        "fingerprint": found.fingerprint,
        "validation": len(validation),
        "validation_fingerprint": held_out,
    }
    record = _record(runs, name, llm=llm, config=config, data=data, team=team)
    # Of the devices only the one that trains: each costs a moment, and torch warns of many.
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices), closing(record):
        torch.manual_seed(config.training.seed)
        model = _fresh(found, items, llm=llm, config=config)
        model.texts = tuple(texts)
        _Training(
            model=model,
            batches=Batches(model, examples, items=items, titles=titles, summaries=summaries),
            validation=validation,
            target=target,
            team=team,
            record=record,
        ).run(stages, num_examples=len(examples), on_progress=on_progress)
    team.wait()
    return target


def _record(
    runs: Path | None,
    name: str,
    *,
    llm: str,
    config: RankerConfig,
    data: Mapping[str, Any],
    team: Team,
) -> Record:
    """Whoever keeps what this training was; nobody, but in the first process."""
    if runs is None or not team.is_main:
        return Unrecorded()
    facts = {
        "adapter": name,
        "settings": asdict(config),
        "llm": llm,
        "data": dict(data),
        "seed": config.training.seed,
        "num_processes": team.count,
    }
    return Run(runs / name, plan=plan(config), facts=facts)


def _fresh(found: Survey, items: ItemVectors, *, llm: str, config: RankerConfig) -> RankerModel:
    """A model before its first step: adapted, and its prior fitted."""
    model = RankerModel(
        llms.load(llm, config=config.llm),
        spaces=items.spaces,
        behaviors=found.behaviors,
        config=config,
    )
    model.asked = found.asked
    model.adapt()
    model.evidence.fit(found.features, found.is_chosen)
    if config.training.gradient_checkpointing:
        model.causal_lm.activation_checkpointing_enable({"use_reentrant": False})
    return model


@dataclass(frozen=True, kw_only=True)
class _Training:
    """A fresh model and all that it takes to make an adapter of it."""

    model: RankerModel
    batches: Batches
    validation: Sequence[Example]
    target: Path
    team: Team
    record: Record

    def run(
        self, stages: tuple[Stage, ...], *, num_examples: int, on_progress: OnProgress | None
    ) -> None:
        """Train, calibrate, publish, and leave no checkpoint behind."""
        looked_at = [self.validation[place] for place in spread(self.validation, LOOKED_AT)]
        kind = self.model.config.training.loss

        def look_at(stage: Stage, step: int) -> Look:
            return look(self.batches, looked_at, stage=stage, step=step, kind=kind, team=self.team)

        checkpoint = self.target.with_name(f"{self.target.name}.checkpoint")
        progress = Trainer(
            self.model,
            self.batches,
            config=self.model.config.training,
            checkpoint=checkpoint,
            look_at=look_at if looked_at else None,
            on_progress=on_progress,
            team=self.team,
            record=self.record,
        ).run(stages)
        calibrator = calibrated(self.batches, self.validation, limit=CALIBRATED_ON, team=self.team)
        if not self.team.is_main:
            return
        told = _told(progress, num_examples, len(self.validation), calibrator)
        _publish(self.model, self.target, told=told, calibrator=calibrator)
        self.record.keep(progress, is_finished=True, calibrator=told["calibrator"])
        checkpoint.unlink(missing_ok=True)


def _publish(
    model: RankerModel, target: Path, *, told: Mapping[str, Any], calibrator: Calibrator | None
) -> None:
    """The adapter's folder appears whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=".training-"))
    temporary.chmod(0o755)  # a server may run as another user
    model.save(temporary, training={**told, "hidden_size": model.llm.hidden_size})
    if calibrator is not None:
        calibrator.save(temporary / CALIBRATOR)
    shutil.rmtree(target, ignore_errors=True)
    temporary.rename(target)


def _told(
    progress: Progress, num_examples: int, num_validation: int, calibrator: Calibrator | None
) -> dict[str, Any]:
    """What the adapter says of its training; equal trainings say the same."""
    return {
        "losses": progress.losses,
        "steps": progress.steps,
        "validation": [asdict(one) for one in progress.looks],
        "num_examples": num_examples,
        "num_validation": num_validation,
        "calibrator": asdict(calibrator)
        if calibrator is not None
        else f"none: {num_validation} held-out moments are too few; scores stay as they are",
        "versions": {name: metadata.version(name) for name in ("torch", "transformers", "peft")},
    }
