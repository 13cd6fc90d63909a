"""What happens in a training in, what it was out: a record to read, and curves to look at.

    <folder>/run.json        settings, data, versions, stages, looks, seconds; kept up while it runs
    <folder>/events.*        TensorBoard: losses, NDCG@10, learning rate, by steps of all stages

It lies beside the adapter and not in it, since two equal trainings make equal adapters, and take
times of their own.
"""

import json
from abc import ABC, abstractmethod
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from embedders import torchaudio_cpu

torchaudio_cpu.load()

from torch.utils.tensorboard import SummaryWriter  # noqa: E402

from feature_repo.atomic import replace_text  # noqa: E402
from ranker.curriculum import Stage  # noqa: E402
from ranker.progress import Look, Progress  # noqa: E402

FILE = "run.json"
VERSIONS = ("sommelier", "torch", "transformers", "peft", "accelerate")


class Record(ABC):
    """Whoever keeps what a training was."""

    @abstractmethod
    def step(self, progress: Progress, *, loss: float, learning_rate: float) -> None:
        """After every step."""

    @abstractmethod
    def look(self, progress: Progress, look: Look) -> None:
        """After every look at held-out moments."""

    @abstractmethod
    def keep(self, progress: Progress, **facts: Any) -> None:
        """After every checkpoint, and at the end; facts are whatever else is to be noted."""

    @abstractmethod
    def close(self) -> None:
        """Nothing more will come."""


class Unrecorded(Record):
    """Nobody keeps it."""

    def step(self, progress: Progress, *, loss: float, learning_rate: float) -> None:
        """A step that nobody notes."""

    def look(self, progress: Progress, look: Look) -> None:
        """A look that nobody notes."""

    def keep(self, progress: Progress, **facts: Any) -> None:
        """A state that nobody notes."""

    def close(self) -> None:
        """There is nothing to close."""


class Run(Record):
    """Keeps it in a folder."""

    def __init__(self, folder: Path, *, plan: tuple[Stage, ...], facts: dict[str, Any]) -> None:
        """Open the record; what an earlier part of the same training noted is gone on with.

        Args:
            folder: Of this training alone.
            plan: What is to be done.
            facts: What is known beforehand: settings, data, seed, device.
        """
        self._path = folder / FILE
        self._plan = plan
        self._facts = {
            **facts,
            "versions": {name: _version(name) for name in VERSIONS},
            "started_at": _earlier_start(self._path) or _now(),
        }
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._writer: SummaryWriter | None = None

    def step(self, progress: Progress, *, loss: float, learning_rate: float) -> None:
        writer = self._curves(progress.total - 1)
        writer.add_scalar("training/loss", loss, progress.total)
        writer.add_scalar("training/learning_rate", learning_rate, progress.total)

    def look(self, progress: Progress, look: Look) -> None:
        writer = self._curves(progress.total)
        writer.add_scalar("validation/loss", look.loss, progress.total)
        writer.add_scalar("validation/NDCG@10", look.ndcg, progress.total)

    def keep(self, progress: Progress, **facts: Any) -> None:
        record = {
            **self._facts,
            **facts,
            "written_at": _now(),
            "seconds": sum(progress.seconds.values()),
            "stages": [_told(stage, progress) for stage in self._plan],
            "validation": [asdict(look) for look in progress.looks],
        }
        replace_text(self._path, json.dumps(record, indent=1) + "\n")
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def _curves(self, before: int) -> SummaryWriter:
        """The writer, opened at the first number: steps after `before` that a killed run had
        drawn beyond its last checkpoint are taken back."""
        if self._writer is None:
            self._writer = SummaryWriter(str(self._folder), purge_step=before + 1)
        return self._writer


def _told(stage: Stage, progress: Progress) -> dict[str, Any]:
    looks = progress.of(stage)
    return {
        "name": stage.name,
        "steps_planned": stage.num_steps,
        "steps": progress.steps.get(stage.name),
        "loss": progress.losses.get(stage.name),
        "best_step": progress.best(stage).step if looks else None,
        "seconds": progress.seconds.get(stage.name),
        "trains": [*stage.parts, *(f"LoRA {name}" for name in stage.lora)],
    }


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:  # a checkout that was never installed
        return "not installed"


def _earlier_start(path: Path) -> str | None:
    if not path.is_file():
        return None
    try:
        started: str = json.loads(path.read_text("utf-8"))["started_at"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error!r}): delete it and train again") from error
    return started


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
