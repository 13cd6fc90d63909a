"""Interactions before a cut and the items' vectors in, a trained sequence encoder out.

Each step reads a batch of windows of like length, and makes vectors only for the items that occur
in it or were drawn as negatives. Equal input and number of threads give bit-equal weights, also
where a training was interrupted and went on from its checkpoint: that holds the weights, the
optimizer's moments and both generators, and is written after every epoch.

Shape legend: T events to predict, K drawn items, U items of a batch, B windows of a batch, L events
of a window, N items, E events.
"""

import hashlib
import json
import math
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import embedding

from embedders.items import Modality
from embedders.vectors import Space
from retrieval.base import UnusableIndex
from retrieval.concatenated import ItemVectors
from retrieval.sequence import SequenceEncoder, content_of, dims_of, plain
from retrieval.sequence_config import SequenceConfig
from retrieval.sequence_loss import softmax_loss
from retrieval.sequence_model import Network, tensors
from retrieval.sequence_windows import Windows, batches, read_windows
from retrieval.tensor_file import read, write

WARM_UP, FLOOR = 0.05, 0.02  # the share of steps that the rate rises, and of it what is left
LONGEST_GRADIENT = 5.0  # a longer one is shortened to it
BETAS = (0.9, 0.98)
FACTS, MODEL, FIRST, SECOND, DRAWS = "facts", "model.", "first.", "second.", "draws"

OnProgress = Callable[[int, int, float], None]
"""Called after each epoch with (epochs done, epochs in all, mean loss)."""


def fit(
    interactions: pa.Table,
    *,
    item_vectors: ItemVectors,
    until: datetime | None,
    config: SequenceConfig,
    on_progress: OnProgress | None = None,
    checkpoint: Path | None = None,
) -> SequenceEncoder:
    """Train on what users did before `until`.

    Args:
        interactions: Columns user_id, item_id, behavior, timestamp and optionally position.
        item_vectors: The catalog; events with other items are left out.
        until: The training cut, in UTC. Given one, events without a timestamp are left out, since
            nothing shows that they came before it. None takes all events.
        config: How the encoder is trained.
        on_progress: Told about each epoch.
        checkpoint: A file to go on from, written after every epoch. One of another training, or a
            damaged one, is written over.

    Raises:
        ValueError: nothing is left to train on, or a modality is asked for that there is not.
    """
    windows = read_windows(interactions, known=item_vectors.item_ids, until=until, config=config)
    training = _Training(windows, item_vectors, _spaces(item_vectors, config), config)
    with torch.random.fork_rng(devices=[]):
        training.begin()
        if checkpoint is not None:
            training.restore(checkpoint)
        while training.epoch < config.epochs:
            loss = training.run_epoch()
            if checkpoint is not None:
                training.keep(checkpoint)
            if on_progress is not None:
                on_progress(training.epoch, config.epochs, loss)
    return training.encoder(until)


class _Training:
    """All that changes from step to step, and what it is computed from."""

    def __init__(
        self,
        windows: Windows,
        item_vectors: ItemVectors,
        spaces: tuple[Space, ...],
        config: SequenceConfig,
    ) -> None:
        self.epoch = 0
        self._windows, self._config, self._spaces = windows, config, spaces
        rows = [item_vectors.row_of[one] for one in windows.item_ids]
        blocks, present_NM = content_of(item_vectors, spaces)
        self._blocks = {name: torch.from_numpy(one[rows]) for name, one in blocks.items()}
        self._present_NM = torch.from_numpy(present_NM[rows])
        num_items = len(windows.item_ids)
        counts_N = np.bincount(windows.items_E, minlength=num_items)
        drawn_N = counts_N.astype(np.float64) ** config.popularity_exponent
        self._upto_N = np.cumsum(drawn_N / drawn_N.sum())
        self._is_full = config.loss == "full" or config.num_negatives >= num_items
        expected_N = config.num_negatives * drawn_N / drawn_N.sum()
        self._log_expected_N = torch.from_numpy(np.log(expected_N).astype(np.float32))

    def begin(self) -> None:
        """Draw the first weights."""
        torch.manual_seed(self._config.seed)
        self._random = np.random.default_rng(self._config.seed)
        self._network = Network(
            dims_of(self._spaces),
            num_ids=len(self._windows.item_ids),
            num_behaviors=len(self._windows.behaviors),
            config=self._config,
        )
        self._optimizer = torch.optim.AdamW(
            self._network.parameters(),
            lr=self._config.learning_rate,
            betas=BETAS,
            weight_decay=self._config.weight_decay,
            foreach=True,
        )
        self._step = 0

    def run_epoch(self) -> float:
        """One pass over all windows, and its mean loss."""
        self._network.train()
        parts = list(batches(self._windows, size=self._config.batch_size, random=self._random))
        total = weight = 0.0
        for places_BL, is_padding_BL in parts:
            self._set_rate(self._step / (self._config.epochs * len(parts)))
            loss, weights_T = self._loss(places_BL, is_padding_BL)
            self._optimizer.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(self._network.parameters(), LONGEST_GRADIENT)
            self._optimizer.step()
            self._step += 1
            total += float(loss.detach()) * float(weights_T.sum())
            weight += float(weights_T.sum())
        self.epoch += 1
        return total / weight

    def _loss(
        self, places_BL: NDArray[np.int64], is_padding_BL: NDArray[np.bool_]
    ) -> tuple[Tensor, Tensor]:
        """The loss of a batch, and what each predicted event counts in it."""
        windows, network = self._windows, self._network
        items_BL = windows.items_E[places_BL]
        weights_BL = np.where(is_padding_BL, 0, windows.weights_E[places_BL])[:, 1:]
        is_predicted_BL = weights_BL > 0
        next_T = items_BL[:, 1:][is_predicted_BL]
        drawn_K = self._drawn()
        named_U, place = np.unique(
            np.concatenate([items_BL[:, :-1].ravel(), next_T, drawn_K]), return_inverse=True
        )
        ends = np.cumsum([items_BL[:, :-1].size, len(next_T)])
        read, following, drawn = (torch.from_numpy(one) for one in np.split(place, ends))
        rows_U = torch.from_numpy(named_U)
        vectors_UD = network.content(
            {name: block[rows_U] for name, block in self._blocks.items()},
            self._present_NM[rows_U],
            rows_U,
        )
        read_BLD = embedding(read.view(items_BL[:, :-1].shape), vectors_UD)
        behaviors_BL = torch.from_numpy(windows.behaviors_E[places_BL[:, :-1]])
        hidden_BLD = network.hidden(read_BLD, behaviors_BL)
        compared_UD = network.comparable(vectors_UD)
        weights_T = torch.from_numpy(weights_BL[is_predicted_BL])
        correction_K = torch.zeros(len(drawn_K))
        if not self._is_full:
            correction_K = self._log_expected_N[torch.from_numpy(drawn_K)]
        loss = softmax_loss(
            network.asked(hidden_BLD[torch.from_numpy(is_predicted_BL)]),
            embedding(following, compared_UD),
            embedding(drawn, compared_UD),
            is_next_of=(torch.from_numpy(next_T), torch.from_numpy(drawn_K)),
            correction_K=correction_K,
            weights_T=weights_T,
        )
        return loss, weights_T

    def _drawn(self) -> NDArray[np.int64]:
        """The items that the batch is told from; drawn with replacement, or all of them."""
        if self._is_full:
            return np.arange(len(self._upto_N))
        draws_K = self._random.random(self._config.num_negatives)
        return np.searchsorted(self._upto_N, draws_K).clip(max=len(self._upto_N) - 1)

    def _set_rate(self, done: float) -> None:
        """The learning rate after this share of all steps."""
        fall = FLOOR + (1 - FLOOR) * (1 + math.cos(math.pi * done)) / 2
        for group in self._optimizer.param_groups:
            group["lr"] = self._config.learning_rate * min(1.0, (done + 1e-3) / WARM_UP) * fall

    def encoder(self, until: datetime | None) -> SequenceEncoder:
        """What was trained."""
        network = self._network.eval()
        with torch.inference_mode():
            rows_N = torch.arange(len(self._windows.item_ids))
            vectors_ND = network.content(self._blocks, self._present_NM, rows_N)
            longest = float(vectors_ND.double().norm(dim=1).max())
        return SequenceEncoder(
            network,
            spaces=self._spaces,
            item_ids=self._windows.item_ids,
            behaviors=self._windows.behaviors,
            config=self._config,
            until=until,
            longest=longest,
        )

    def keep(self, path: Path) -> None:
        """Write everything that the rest of the training depends on."""
        facts = {
            "training": self._digest(),
            "epoch": self.epoch,
            "step": self._step,
            "random": self._random.bit_generator.state,
        }
        arrays: dict[str, Any] = {
            FACTS: np.frombuffer(json.dumps(facts).encode(), dtype=np.uint8),
            DRAWS: torch.get_rng_state().numpy(),
        }
        arrays |= {f"{MODEL}{name}": one for name, one in tensors(self._network).items()}
        for name, weights in self._network.named_parameters():
            moments = self._optimizer.state.get(weights)
            if moments:
                arrays[f"{FIRST}{name}"] = moments["exp_avg"].numpy()
                arrays[f"{SECOND}{name}"] = moments["exp_avg_sq"].numpy()
        write(path, item_ids=[], arrays=arrays)

    def restore(self, path: Path) -> None:
        """Go on from what `keep` wrote, if it is of this very training."""
        if not path.is_file():
            return
        try:
            _, arrays = read(path, names=[FACTS, DRAWS])
            facts = json.loads(arrays.pop(FACTS).tobytes())
        except (UnusableIndex, ValueError):
            return  # damaged: nothing is lost but time
        if facts.get("training") != self._digest():
            return
        held = {name: torch.from_numpy(one.copy()) for name, one in arrays.items()}
        self._network.load_state_dict(
            {name.removeprefix(MODEL): v for name, v in held.items() if name.startswith(MODEL)}
        )
        for name, weights in self._network.named_parameters():
            if f"{FIRST}{name}" in held:
                self._optimizer.state[weights] = {
                    "step": torch.tensor(float(facts["step"])),
                    "exp_avg": held[f"{FIRST}{name}"],
                    "exp_avg_sq": held[f"{SECOND}{name}"],
                }
        self.epoch, self._step = facts["epoch"], facts["step"]
        self._random.bit_generator.state = facts["random"]
        torch.set_rng_state(held[DRAWS])

    def _digest(self) -> str:
        """Changes with anything that the weights depend on."""
        facts = [self._windows.digest(), plain(self._config), [s.space_id for s in self._spaces]]
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
        for name, block in self._blocks.items():
            digest.update(name.encode() + block.numpy().tobytes())
        digest.update(self._present_NM.numpy().tobytes())
        return digest.hexdigest()


def _spaces(item_vectors: ItemVectors, config: SequenceConfig) -> tuple[Space, ...]:
    """The spaces that items are made of.

    Raises:
        ValueError: one is asked for that there is not, or nothing is left.
    """
    chosen = config.modalities
    if chosen is None:
        chosen = frozenset(item_vectors.modalities) - {Modality.GRAPH}
    if not chosen and not config.use_ids:
        raise ValueError("neither ids nor any modality: nothing is left to tell items by")
    return tuple(item_vectors.space(name) for name in sorted(chosen))
