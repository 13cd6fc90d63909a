"""Choices and frozen features in, a recommender that learned what users like out.

PTMRec's first stage (arXiv 2502.15542, "Personalized Preference Learning"): BPR, or what the base
asks instead, on features that nothing changes. It ends when the users' last choices are found no
better for some epochs, with the best epoch's parameters. Equal inputs, seed and number of threads
give equal parameters.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from embedders.graph_losses import Negatives
from embedders.items import Modality
from embedders.tuning.bm3 import Bm3
from embedders.tuning.choices import Choices
from embedders.tuning.config import TuningConfig
from embedders.tuning.features import Features
from embedders.tuning.lightgcn_content import LightGcnContent
from embedders.tuning.recommender import Recommender
from embedders.tuning.validation import Validation
from embedders.tuning.vbpr import Vbpr

BASES: Mapping[str, type[Recommender]] = {
    "bm3": Bm3,
    "lightgcn": LightGcnContent,
    "vbpr": Vbpr,
}

OnProgress = Callable[[str, int, int, float], None]
"""Called with (what is trained, epochs or steps done, of how many at most, mean loss)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A trained recommender, and how its training went."""

    recommender: Recommender
    epochs: int
    """Of the parameters kept; 0: those it began with were the best."""
    recall: float
    """At 20, of users' last choices, by full ranking."""
    losses: tuple[float, ...]
    """The mean of each epoch, those after the best one too."""


def create(
    choices: Choices, features: Mapping[Modality, Features], config: TuningConfig
) -> Recommender:
    """The base that the configuration names, untrained; the seed is the configuration's.

    Raises:
        ValueError: no modality, or features of other items.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return BASES[config.base](
            choices, features, dim=config.dim, weight_decay=config.base_weight_decay
        )


def fit(
    choices: Choices,
    features: Mapping[Modality, Features],
    config: TuningConfig,
    *,
    on_progress: OnProgress | None = None,
) -> Fitted:
    """Train the base on these features until the validation cut says enough.

    Raises:
        ValueError: no modality, features of other items, every user chose every item, or a loss
            that is not finite.
    """
    recommender = create(choices, features, config)
    return go_on(recommender, choices, config, epochs=config.epochs, on_progress=on_progress)


def go_on(
    recommender: Recommender,
    choices: Choices,
    config: TuningConfig,
    *,
    epochs: int,
    on_progress: OnProgress | None = None,
) -> Fitted:
    """Train a recommender for so many epochs more at most; the best of them stays, or none.

    Where nobody is left to validate by, all epochs are trained and the last one stays.
    """
    validation = Validation(choices, seed=config.seed)
    optimizer = torch.optim.Adam(recommender.parameters(), lr=config.base_learning_rate)
    epochs_of = _Epochs(choices, config)
    best, best_epoch, losses = validation.recall(recommender), 0, []
    kept = _copied(recommender)
    for epoch in range(1, epochs + 1):
        losses.append(epochs_of.run(recommender, optimizer, epoch))
        if not math.isfinite(losses[-1]):
            raise ValueError(
                f"the loss of epoch {epoch} is {losses[-1]}: lower base_learning_rate (now "
                f"{config.base_learning_rate})"
            )
        if on_progress is not None:
            on_progress("recommender", epoch, epochs, losses[-1])
        recall = validation.recall(recommender)
        if recall > best or not len(validation):
            best, best_epoch, kept = recall, epoch, _copied(recommender)
        elif epoch - best_epoch >= config.patience:
            break
    recommender.load_state_dict(kept)
    return Fitted(recommender=recommender, epochs=best_epoch, recall=best, losses=tuple(losses))


class _Epochs:
    """Goes through all choices, each beside an item unknown to its user."""

    def __init__(self, choices: Choices, config: TuningConfig) -> None:
        edges = choices.edges
        self._negatives = Negatives(edges)
        self._users_E = torch.from_numpy(edges.users_E)
        self._items_E = torch.from_numpy(edges.items_E)
        has_unknown_E = self._negatives.num_unknown_U[self._users_E] > 0
        self._trainable = torch.nonzero(has_unknown_E).squeeze(1)
        if not len(self._trainable):
            raise ValueError("every user chose every item: there is nothing to tell apart")
        self._size, self._seed = config.base_batch_size, config.seed

    def run(self, recommender: Recommender, optimizer: torch.optim.Optimizer, epoch: int) -> float:
        """The mean loss of one epoch, trained."""
        generator = torch.Generator().manual_seed(self._seed * 100_003 + epoch)
        order = self._trainable[torch.randperm(len(self._trainable), generator=generator)]
        total = 0.0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed * 100_003 + epoch)  # of dropout
            for batch_B in order.split(self._size):
                users_B = self._users_E[batch_B]
                unknown_B = self._negatives.draw(users_B, generator)
                loss = recommender.loss(torch.stack([users_B, self._items_E[batch_B], unknown_B]))
                optimizer.zero_grad()
                torch.autograd.backward(loss)
                optimizer.step()
                total += float(loss.detach()) * len(batch_B)
        return total / len(order)


def _copied(recommender: Recommender) -> dict[str, torch.Tensor]:
    return {name: one.detach().clone() for name, one in recommender.state_dict().items()}
