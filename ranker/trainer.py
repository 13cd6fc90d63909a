"""A model and its batches in, the same model trained out, stage by stage.

Every `save_every` steps all that the next step depends on is written down: weights, the
optimizer's state, generators, the examples that are due, the best weights so far. A run that was
killed goes on from there and ends with the very weights that it would have had.

Shape legend: B examples, N branches of an example.
"""

import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from embedders import torchaudio_cpu

torchaudio_cpu.load()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from embedders import state_file  # noqa: E402
from ranker import checkpoints  # noqa: E402
from ranker.batches import Batches, Drawn  # noqa: E402
from ranker.checkpoints import Checkpoint  # noqa: E402
from ranker.config import TrainingConfig  # noqa: E402
from ranker.curriculum import Stage  # noqa: E402
from ranker.model import RankerModel  # noqa: E402
from ranker.objectives import loss as loss_of  # noqa: E402
from ranker.objectives import preference_loss  # noqa: E402
from ranker.progress import Look, Progress  # noqa: E402
from ranker.runs import Record, Unrecorded  # noqa: E402
from ranker.team import Team  # noqa: E402

WARM_UP = 30  # steps over which each stage's learning rate rises
FLOOR = 0.02  # of the learning rate, at a stage's end
MAX_NORM = 1.0  # of a step's gradients
KEPT = 0.98  # of the mean loss of late, from one step to the next

OnProgress = Callable[[str, int, int, float], None]
LookAt = Callable[[Stage, int], Look]


class Trainer:
    """Trains what is trainable of a model by a plan."""

    def __init__(
        self,
        model: RankerModel,
        batches: Batches,
        *,
        config: TrainingConfig,
        checkpoint: Path,
        look_at: LookAt | None,
        on_progress: OnProgress | None = None,
        team: Team | None = None,
        record: Record | None = None,
    ) -> None:
        """Take over the model, and what an interrupted run left.

        Args:
            model: Adapted: whatever requires a gradient now is trained in some stage.
            batches: Of this model.
            checkpoint: Where the state is written; a file that is there is gone on from.
            look_at: Measures the model as it is on held-out moments; None where there are none.
            on_progress: Called with the stage, steps done, steps, and the mean loss of late.
            team: Who shares the batches; None for nobody. Only its first process writes.
            record: Keeps what happened; None for nobody.
        """
        self._model = model
        self._batches = batches
        self._config = config
        self._path = checkpoint
        self._look_at = look_at
        self._on_progress = on_progress
        self._weights = {
            name: weight for name, weight in model.named_parameters() if weight.requires_grad
        }
        self._team = team or Team()
        self._record = record or Unrecorded()
        self._trained: list[Tensor] = []
        self._best: dict[str, Tensor] = {}
        self._reference: dict[str, Tensor] = {}
        self._rng = np.random.default_rng(config.seed)
        self.progress = Progress()

    def run(self, plan: tuple[Stage, ...]) -> Progress:
        """Train all stages, or those that are left."""
        left = Checkpoint.load(self._path) if self._path.is_file() else None
        if left is not None:
            self.progress = Progress.read(left.facts["progress"])
            checkpoints.put(self._weights, left.groups["weights"])
        self._team.align(list(self._weights.values()))
        for place, stage in enumerate(plan):
            if place < self.progress.place:
                continue
            is_begun = left is not None and self.progress.step > 0
            self._run_stage(stage, left if is_begun else None)
            left = None
        return self.progress

    def _run_stage(self, stage: Stage, left: Checkpoint | None) -> None:
        began, progress = time.monotonic(), self.progress
        earlier = progress.seconds.get(stage.name, 0.0)
        optimizer = self._begin(stage, left)
        self._model.train()
        while progress.step < stage.num_steps and not self._is_enough(stage):
            self._step(stage, optimizer)
            progress.seconds[stage.name] = earlier + time.monotonic() - began
            if self._on_progress is not None:
                self._on_progress(stage.name, progress.step, stage.num_steps, progress.late)
            is_last = progress.step == stage.num_steps
            if is_last or progress.step % self._config.check_every == 0:
                self._look(stage)
            if progress.step % self._config.save_every == 0 and not is_last:
                self._save(optimizer)
        self._model.eval()
        self._finish(stage)

    def _begin(self, stage: Stage, left: Checkpoint | None) -> torch.optim.Optimizer:
        """Set up a stage from its start, or from where it was left."""
        config = self._config
        self._model.train_only(stage.parts, lora=stage.lora)
        self._trained = [weight for weight in self._weights.values() if weight.requires_grad]
        optimizer = torch.optim.AdamW(
            self._trained, lr=config.learning_rate * stage.rate, weight_decay=config.weight_decay
        )
        self._rng = np.random.default_rng([config.seed, stage.level])
        if left is not None:
            groups = left.groups
            checkpoints.set_generators(self._rng, left.facts["generator"], groups["generators"])
            state_file.set_optimizer(optimizer, groups.get("optimizer", {}))
            self._batches.queue = left.facts["queue"]
            self._best, self._reference = (
                {name: value.to(self._device) for name, value in groups.get(group, {}).items()}
                for group in ("best", "reference")
            )
            return optimizer
        torch.manual_seed(config.seed + stage.level)
        self._batches.queue = []
        self._best = {}
        is_preference = stage.loss == "preference"
        self._reference = checkpoints.copy(self._weights) if is_preference else {}
        self._look(stage)
        return optimizer

    def _is_enough(self, stage: Stage) -> bool:
        patience = self._config.patience
        return bool(patience and self._look_at) and self.progress.waited(stage) >= patience

    def _finish(self, stage: Stage) -> None:
        """Keep the best weights, and note that the stage is done."""
        progress = self.progress
        if self._best:
            checkpoints.put(self._weights, self._best)
        progress.losses[stage.name] = progress.late
        progress.steps[stage.name] = progress.step
        progress.place, progress.step, progress.late = progress.place + 1, 0, 0.0
        self._best, self._reference = {}, {}
        self._save(None)

    def _step(self, stage: Stage, optimizer: torch.optim.Optimizer) -> None:
        progress = self.progress
        for group in optimizer.param_groups:
            group["lr"] = self._config.learning_rate * stage.rate * pace(progress.step, stage)
        drawn = self._batches.draw(self._rng, stage)
        optimizer.zero_grad()
        loss = sum(self._backward(part, len(drawn), stage) for part in self._parts(drawn))
        value = self._team.add_gradients(self._trained, loss)
        torch.nn.utils.clip_grad_norm_(self._trained, MAX_NORM)
        optimizer.step()
        late = value if progress.step == 0 else KEPT * progress.late + (1 - KEPT) * value
        progress.late, progress.step = late, progress.step + 1
        self._record.step(progress, loss=value, learning_rate=optimizer.param_groups[0]["lr"])

    def _parts(self, drawn: Drawn) -> list[Drawn]:
        """What goes through the model here: this process's rows, maybe in micro-batches."""
        own = drawn.part(self._team.rows(len(drawn)))
        size = self._config.micro_batch_size or len(own)
        return [own.part(slice(row, row + size)) for row in range(0, len(own), size)]

    def _backward(self, part: Drawn, whole: int, stage: Stage) -> float:
        """Add a part's gradients, by its share of the batch; its share of the loss."""
        share = self._loss(part, stage) * (len(part) / whole)
        share.backward()
        return float(share.detach())

    def _loss(self, part: Drawn, stage: Stage) -> Tensor:
        if stage.loss == "answer" or stage.loss == "sequence":
            return self._batches.surprise(part, stage.loss)
        if stage.loss != "preference":
            return loss_of(self._batches.run(part), stage.loss)
        reference_BN = self._referred(part)
        beta = self._config.preference_beta
        return preference_loss(self._batches.run(part), reference_BN, beta=beta)

    @torch.no_grad()
    def _referred(self, part: Drawn) -> Tensor:
        """The scores of the model as it was when the stage began."""
        self._model.eval()
        checkpoints.swap(self._weights, self._reference)
        try:
            return self._batches.run(part)
        finally:
            checkpoints.swap(self._weights, self._reference)
            self._model.train()

    def _look(self, stage: Stage) -> None:
        """Measure, and keep the weights if they are the best so far and anybody wants them."""
        if self._look_at is None:
            return
        self._model.eval()
        look = self._look_at(stage, self.progress.step)
        self._model.train()
        self.progress.looks.append(look)
        self._record.look(self.progress, look)
        if self._config.patience and not self.progress.waited(stage):
            self._best = checkpoints.copy(self._weights)

    def _save(self, optimizer: torch.optim.Optimizer | None) -> None:
        if not self._team.is_main:
            return
        generator, tensors = checkpoints.generators(self._rng)
        Checkpoint(
            facts={
                "progress": asdict(self.progress),
                "generator": generator,
                "queue": self._batches.queue,
            },
            groups={
                "weights": dict(self._weights),
                "generators": tensors,
                "optimizer": {} if optimizer is None else state_file.optimizer_tensors(optimizer),
                "best": self._best,
                "reference": self._reference,
            },
        ).save(self._path)
        self._record.keep(self.progress)

    @property
    def _device(self) -> torch.device:
        return next(iter(self._weights.values())).device


def pace(step: int, stage: Stage) -> float:
    """The learning rate of a step, as a share of the stage's: a rise, then half a cosine."""
    fall = FLOOR + (1 - FLOOR) * (0.5 + 0.5 * math.cos(math.pi * step / stage.num_steps))
    return min(1.0, (step + 1) / WARM_UP) * fall
