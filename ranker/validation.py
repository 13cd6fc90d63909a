"""Held-out moments in, how well the model ranks them out: what says when to stop.

Whole lists are ranked, as in serving, on a fixed choice of the moments, so that two looks differ
by the weights alone. A stage is looked at as it is trained: titles alone, each moment with one
modality in turn, or everything.

Shape legend: B moments, N candidates, of which padding repeats the last.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from embedders import torchaudio_cpu

torchaudio_cpu.load()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from embedders.items import Modality  # noqa: E402
from ranker.batches import Batches, Drawn  # noqa: E402
from ranker.config import Loss  # noqa: E402
from ranker.curriculum import Sees, Stage  # noqa: E402
from ranker.examples import Example  # noqa: E402
from ranker.survey import unmasked  # noqa: E402

DEPTH = 10  # of NDCG
BRANCHES = 400  # in one pass, as in a step of training


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How well the model did after some steps of a stage."""

    stage: str
    step: int
    loss: float
    """Mean over the moments of the configured loss, over whole lists: `listwise` as the surprise
    at each choice among itself and all that was not chosen."""
    ndcg: float
    """NDCG@10, of the order by whole scores; ties fall by item id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What the model says to one moment's candidates, in retrieval's order."""

    item_ids: tuple[str, ...]
    priors_N: NDArray[np.float32]
    logits_N: NDArray[np.float32]
    is_chosen_N: NDArray[np.bool_]

    @property
    def scores(self) -> NDArray[np.float32]:
        """What candidates are put in order by."""
        return self.priors_N + self.logits_N


def spread(examples: Sequence[Example], limit: int) -> list[int]:
    """The places of at most so many examples, evenly from the first to the last."""
    count = min(limit, len(examples))
    return [place * len(examples) // count for place in range(count)]


def answer(
    batches: Batches, examples: Sequence[Example], places: Sequence[int], *, sees: Sees
) -> Iterator[Answered]:
    """Whole lists through the model as it is, without gradients; one at a time is held.

    Args:
        places: Of the examples, which are asked; in this order within each modality's turn.
    """
    for dropped, turn in _turns(batches.modalities, places, sees):
        for some in _groups(examples, turn):
            picked = [unmasked(one) for one in some]
            longest = max(map(len, picked))
            drawn = Drawn(
                sees=sees,
                dropped=dropped,
                examples=tuple(some),
                picked=tuple((*one, *(one[-1:] * (longest - len(one)))) for one in picked),
            )
            with torch.no_grad():
                priors_BN, logits_BN = (one.cpu().numpy() for one in batches.answers(drawn))
            for row, (example, own) in enumerate(zip(some, picked, strict=True)):
                item_ids = tuple(example.candidates[n].item_id for n in own)
                yield Answered(
                    item_ids=item_ids,
                    priors_N=priors_BN[row, : len(own)],
                    logits_N=logits_BN[row, : len(own)],
                    is_chosen_N=np.array([one in example.chosen for one in item_ids]),
                )


def look(
    batches: Batches, examples: Sequence[Example], *, stage: Stage, step: int, kind: Loss
) -> Look:
    """Measure the model as it is.

    Raises:
        ValueError: there are no examples.
    """
    if not examples:
        raise ValueError("no held-out moments to look at")
    losses, ndcgs = [], []
    for answered in answer(batches, examples, range(len(examples)), sees=stage.sees):
        losses.append(loss_of(answered, kind))
        ndcgs.append(ndcg_of(answered))
    return Look(
        stage=stage.name, step=step, loss=float(np.mean(losses)), ndcg=float(np.mean(ndcgs))
    )


def loss_of(answered: Answered, kind: Loss) -> float:
    """One moment's; see `Look`."""
    scores_N = answered.scores.astype(np.float64)
    chosen, others = scores_N[answered.is_chosen_N], scores_N[~answered.is_chosen_N]
    if kind == "listwise":
        rest = np.logaddexp.reduce(others)
        return float(np.mean(np.logaddexp(chosen, rest) - chosen))
    return float(np.mean(np.concatenate([np.logaddexp(0, -chosen), np.logaddexp(0, others)])))


def ndcg_of(answered: Answered) -> float:
    """One moment's NDCG@10 (Järvelin and Kekäläinen, TOIS 2002), chosen or not."""
    order = sorted(
        range(len(answered.item_ids)),
        key=lambda n: (-answered.scores[n], answered.item_ids[n]),
    )
    hits = [answered.is_chosen_N[n] for n in order[:DEPTH]]
    gain = sum(1 / math.log2(rank + 2) for rank, hit in enumerate(hits) if hit)
    ideal = sum(1 / math.log2(rank + 2) for rank in range(min(DEPTH, answered.is_chosen_N.sum())))
    return gain / ideal


def _turns(
    modalities: Sequence[Modality], places: Sequence[int], sees: Sees
) -> Iterator[tuple[tuple[Modality, ...], Sequence[int]]]:
    if sees != "single":
        yield (), places
        return
    for turn, kept in enumerate(modalities):
        yield (
            tuple(one for one in modalities if one is not kept),
            places[turn :: len(modalities)],
        )


def _groups(examples: Sequence[Example], places: Sequence[int]) -> Iterator[list[Example]]:
    """As many lists at once as a step of training has branches."""
    group: list[Example] = []
    for place in places:
        example = examples[place]
        longest = max(len(one.candidates) for one in (*group, example))
        if group and longest * (len(group) + 1) > BRANCHES:
            yield group
            group = []
        group.append(example)
    if group:
        yield group
