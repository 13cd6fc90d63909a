"""Encoders and a recommender that knows what users like in, the same encoders tuned out.

PTMRec's second stage (arXiv 2502.15542, "Knowledge-guided Prompt Learning"), in our resolution:

    loss = the base's own loss (BPR), features of the batch live + weight * sum_m KL(P || Q_m)

with P from what stage 1 learned of the batch's items, and Q_m from the modality's projected
features (`embedders.tuning.transfer`). Only what the method put into the encoders, and the
projections, are trained: users, ids and all else of stage 1 stand still. Two regimes are for
comparison: `no_transfer` leaves the divergence out; `joint` begins with an untrained recommender
and trains all of it beside the encoders, stage 1's steps between theirs, each at its own rate.

Items that nobody chose are unknown items of the loss, and transfer nothing: their ids know nothing.

The learning rate rises over the first tenth of the steps and falls to zero at the last. Everything
drawn depends on the seed and the step's number, so that a run that was killed and goes on gives, on
equal threads, the weights of one that was not.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from embedders.items import Item, Modality
from embedders.state_file import optimizer_tensors, set_optimizer
from embedders.tuning.base import Tunable
from embedders.tuning.batches import Batch, Batches
from embedders.tuning.choices import Choices
from embedders.tuning.config import TuningConfig
from embedders.tuning.recommender import Live, Recommender
from embedders.tuning.saved import Saved, put
from embedders.tuning.stage_one import OnProgress
from embedders.tuning.transfer import transfer_loss

CHECKPOINT = "checkpoint.safetensors"
WARM_UP = 0.1  # of the steps
MAX_NORM = 1.0  # of a step's gradient
ENCODED_TOGETHER = 64  # items, where no gradient is kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """How it went; what was tuned is in the encoders and the recommender that were given."""

    losses: tuple[float, ...]
    """Of each step: all of it."""
    transfers: tuple[float, ...]
    """Of each step: the divergences' sum, before its weight."""
    seconds: float
    """Of all steps, those before an interruption too."""


def tune(
    tunables: Mapping[Modality, Tunable],
    items: Sequence[Item],
    choices: Choices,
    recommender: Recommender,
    *,
    config: TuningConfig,
    folder: Path,
    identity: str = "",
    on_progress: OnProgress | None = None,
) -> Tuned:
    """Tune the encoders, which are adapted already; then embed all items anew.

    Args:
        tunables: An encoder for every modality to be tuned; others of the recommender's stay.
        items: In the order of `choices.item_ids`.
        choices: Who chose what.
        recommender: Of stage 1; for `joint` an untrained one. Its projections (for `joint` all of
            it) and its features of the tuned modalities are changed in place.
        config: As for stage 1.
        folder: Where the checkpoint is kept while it runs.
        identity: Of everything that the result depends on; a checkpoint of another is refused.
        on_progress: Told after each step.

    Raises:
        ValueError: a modality that the recommender does not know, items in another order, no
            content to tune by, a loss that is not finite, or a checkpoint that is damaged or of
            another tuning.
    """
    _check(tunables, items, choices, recommender)
    run = _Run(tunables, items, choices, recommender, config=config)
    path = folder / CHECKPOINT
    if path.is_file():
        run.restore(path, identity)
    while run.step < config.steps:
        loss = run.one_step()
        if on_progress is not None:
            on_progress("encoders", run.step, config.steps, loss)
        if run.step % config.save_every == 0 or run.step == config.steps:
            run.saved(identity).write(path)
    run.refresh()
    return Tuned(losses=tuple(run.losses), transfers=tuple(run.transfers), seconds=run.seconds)


@torch.no_grad()
def encoded(tunable: Tunable, items: Sequence[Item], rows: NDArray[np.int64]) -> Tensor:
    """The vectors of some of the items as the encoder now makes them, [K, D], on the CPU."""
    parts = []
    for start in range(0, len(rows), ENCODED_TOGETHER):
        part = rows[start : start + ENCODED_TOGETHER]
        contents = [tunable.embedder.load(items[row]) for row in part.tolist()]
        parts.append(tunable.encode(contents).float().cpu())
    return torch.cat(parts) if parts else torch.zeros(0, tunable.embedder.space.dim)


class _Run:
    """The state of one stage 2."""

    def __init__(
        self,
        tunables: Mapping[Modality, Tunable],
        items: Sequence[Item],
        choices: Choices,
        recommender: Recommender,
        *,
        config: TuningConfig,
    ) -> None:
        self._tunables, self._items = dict(sorted(tunables.items())), items
        self._recommender, self._config = recommender, config
        self._is_joint = config.regime == "joint"
        has_content_I = torch.stack([recommender.presence(one) for one in self._tunables])
        self._batches = Batches(
            choices, has_content_I.any(dim=0).numpy(), size=config.batch_size, seed=config.seed
        )
        self._knowledge_IH = recommender.knowledge()[1].detach().clone()
        self._is_chosen_I = torch.from_numpy(choices.num_users_of_items > 0)
        per_epoch = math.ceil(len(choices.users_E) / config.base_batch_size)
        self._base_steps = config.joint_epochs * per_epoch if self._is_joint else 0
        self._named = self._trained()
        of_encoders = [one for name, one in self._named.items() if not name.startswith("base.")]
        of_base = [one for name, one in self._named.items() if name.startswith("base.")]
        base_rate = config.base_learning_rate if self._is_joint else config.learning_rate
        self._rates = (config.learning_rate, base_rate)
        self._optimizer = torch.optim.AdamW(
            [{"params": of_encoders}, {"params": of_base}], weight_decay=0.0
        )
        self._encoder_parameters = of_encoders
        self.step = 0
        self.losses: list[float] = []
        self.transfers: list[float] = []
        self.seconds = 0.0

    def one_step(self) -> float:
        """Train one step; its loss."""
        began = time.monotonic()
        config = self._config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed * 100_003 + self.step)
            self._train_base()
            self._set_rates()
            loss, transfer = self._loss(self._batches.items(self.step))
            if not math.isfinite(float(loss.detach())):
                raise ValueError(
                    f"the loss of step {self.step + 1} is {float(loss.detach())}: lower "
                    f"learning_rate (now {config.learning_rate}), or raise temperature "
                    f"(now {config.temperature})"
                )
            self._descend(loss)
        self.step += 1
        reads_stored = self._is_joint or config.base == "lightgcn"
        if reads_stored and self.step % config.refresh_every == 0 and self.step < config.steps:
            self.refresh()
        self.losses.append(float(loss.detach()))
        self.transfers.append(float(transfer.detach()))
        self.seconds += time.monotonic() - began
        return self.losses[-1]

    def refresh(self) -> None:
        """Embed all items by the encoders as they are, for the recommender to read."""
        for modality, tunable in self._tunables.items():
            rows = torch.nonzero(self._recommender.presence(modality)).squeeze(1)
            vectors_KD = encoded(tunable, self._items, rows.numpy())
            self._recommender.refresh(modality, rows, vectors_KD)

    def saved(self, identity: str) -> Saved:
        """All that `restore` needs."""
        facts: dict[str, Any] = {
            "identity": identity,
            "step": self.step,
            "losses": self.losses,
            "transfers": self.transfers,
            "seconds": self.seconds,
        }
        stored = {str(one): self._recommender.features(one) for one in self._tunables}
        groups: dict[str, Mapping[str, Tensor]] = {
            "trained": self._named,
            "optimizer": optimizer_tensors(self._optimizer),
            "features": stored,
        }
        return Saved(facts=facts, groups=groups)

    def restore(self, path: Path, identity: str) -> None:
        """Go on from a checkpoint."""
        saved = Saved.read(path)
        if saved.facts["identity"] != identity:
            raise ValueError(
                f"{path} is of another tuning (its data, settings or encoders differ): choose "
                "another folder, or delete it to begin anew"
            )
        put(self._named.items(), saved.groups["trained"], path=path)
        stored = {str(one): self._recommender.features(one) for one in self._tunables}
        put(stored.items(), saved.groups["features"], path=path)
        set_optimizer(self._optimizer, saved.groups.get("optimizer", {}))
        self.step = saved.facts["step"]
        self.losses, self.transfers = saved.facts["losses"], saved.facts["transfers"]
        self.seconds = saved.facts["seconds"]

    def _trained(self) -> dict[str, nn.Parameter]:
        named: dict[str, nn.Parameter] = {}
        for modality, tunable in self._tunables.items():
            for name, one in tunable.module.named_parameters():
                if one.requires_grad:
                    named[f"{modality}.{name}"] = one
        for name, one in self._recommender.named_parameters():
            if self._is_joint or name.startswith("projections."):
                named[f"base.{name}"] = one
        return named

    def _loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The whole loss, and the divergences' part before its weight."""
        live = {}
        for modality, tunable in self._tunables.items():
            items_K = batch.items_K[self._recommender.presence(modality)[batch.items_K]]
            if len(items_K):
                contents = [tunable.embedder.load(self._items[row]) for row in items_K.tolist()]
                vectors_KD = tunable.encode(contents).float().cpu()
                live[modality] = Live(items_K=items_K, vectors_KD=vectors_KD)
        transfer = torch.zeros(())
        if self._config.regime == "dual":
            for modality, own in live.items():
                known = own.items_K[self._is_chosen_I[own.items_K]]
                shown_KH = self._recommender.projected(modality, known, live=live)
                transfer = transfer + transfer_loss(
                    self._knowledge_IH[known], shown_KH, temperature=self._config.temperature
                )
        loss = self._config.transfer_weight * transfer
        if batch.triples_3B.shape[1]:
            loss = loss + self._recommender.loss(batch.triples_3B, live=live)
        return loss, transfer

    def _train_base(self) -> None:
        """Joint: the recommender's own steps that are due before this one."""
        due = [self._base_steps * at // self._config.steps for at in (self.step, self.step + 1)]
        for number in range(*due):
            triples_3B = self._batches.triples(number, size=self._config.base_batch_size)
            self._set_rates()
            self._descend(self._recommender.loss(triples_3B))

    def _set_rates(self) -> None:
        share = (self.step + 1) / self._config.steps
        factor = min(1.0, share / WARM_UP) * min(1.0, (1 - share) / (1 - WARM_UP) + 1e-3)
        encoders, base = self._rates
        self._optimizer.param_groups[0]["lr"] = encoders * factor
        self._optimizer.param_groups[1]["lr"] = base if self._is_joint else base * factor

    def _descend(self, loss: Tensor) -> None:
        self._optimizer.zero_grad()
        if loss.requires_grad:
            torch.autograd.backward(loss)
            clip_grad_norm_(self._encoder_parameters, MAX_NORM)
            self._optimizer.step()


def _check(
    tunables: Mapping[Modality, Tunable],
    items: Sequence[Item],
    choices: Choices,
    recommender: Recommender,
) -> None:
    if not tunables:
        raise ValueError("no encoder is given to tune")
    if unknown := sorted(set(tunables) - set(recommender.modalities)):
        raise ValueError(
            f"the recommender has no features of {', '.join(unknown)}, only of "
            f"{', '.join(recommender.modalities)}"
        )
    if [item.item_id for item in items] != list(choices.item_ids):
        raise ValueError("items must be those of the choices, in their order")
    for modality, tunable in tunables.items():
        has_dim = recommender.features(modality).shape[1]
        if tunable.embedder.space.dim != has_dim:
            raise ValueError(
                f"the {modality} encoder gives {tunable.embedder.space.dim} dimensions, the "
                f"recommender's features have {has_dim}"
            )
