"""Held-out moments in, how well the model ranks them out: what says when to stop.

Whole lists are ranked, as in serving, on a fixed choice of the moments, so that two looks differ
by the weights alone. A stage is looked at as it is trained: titles alone, each moment with one
modality in turn, or everything.

Shape legend: E examples, B of them in a pass, N candidates, of which padding repeats the last, C
candidates of all examples.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from embedders import torchaudio_cpu

torchaudio_cpu.load()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from embedders.items import Modality  # noqa: E402
from ranker.batches import Batches, Drawn  # noqa: E402
from ranker.calibration import Calibrator, fit  # noqa: E402
from ranker.config import Loss  # noqa: E402
from ranker.curriculum import Sees, Stage  # noqa: E402
from ranker.examples import Example  # noqa: E402
from ranker.progress import Look  # noqa: E402
from ranker.survey import unmasked  # noqa: E402
from ranker.team import Team  # noqa: E402

DEPTH = 10  # of NDCG
BRANCHES = 400  # in one pass, as in a step of training


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
    batches: Batches,
    examples: Sequence[Example],
    places: Sequence[int],
    *,
    sees: Sees,
    team: Team,
) -> Iterator[tuple[int, Answered]]:
    """Whole lists through the model as it is, without gradients; few at a time are held.

    Args:
        places: Of the examples, which are asked.
        sees: As a stage does; for `single`, the modalities take turns over the places.
        team: Each process answers some of them, and always the same lists together, so that the
            answers are those of one process.

    Yields:
        Each answer with its number among the places, in no order.
    """
    number = 0
    for dropped, turn in _turns(batches.modalities, len(places), sees):
        for group in _groups((n, examples[places[n]]) for n in turn):
            number += 1
            if number % team.count == team.index:
                yield from _answered(batches, group, dropped=dropped, sees=sees)


def _answered(
    batches: Batches,
    group: Sequence[tuple[int, Example]],
    *,
    dropped: tuple[Modality, ...],
    sees: Sees,
) -> Iterator[tuple[int, Answered]]:
    """The lists of a group in one pass."""
    examples = tuple(example for _, example in group)
    picked = [unmasked(example) for example in examples]
    longest = max(map(len, picked))
    drawn = Drawn(
        sees=sees,
        dropped=dropped,
        examples=examples,
        picked=tuple((*one, *(one[-1:] * (longest - len(one)))) for one in picked),
    )
    with torch.no_grad():
        priors_BN, logits_BN = (one.cpu().numpy() for one in batches.answers(drawn))
    for row, ((number, example), own) in enumerate(zip(group, picked, strict=True)):
        item_ids = tuple(example.candidates[n].item_id for n in own)
        yield (
            number,
            Answered(
                item_ids=item_ids,
                priors_N=priors_BN[row, : len(own)],
                logits_N=logits_BN[row, : len(own)],
                is_chosen_N=np.array([one in example.chosen for one in item_ids]),
            ),
        )


def look(
    batches: Batches,
    examples: Sequence[Example],
    *,
    stage: Stage,
    step: int,
    kind: Loss,
    team: Team,
) -> Look:
    """Measure the model as it is; every process of a team gets the same numbers.

    Raises:
        ValueError: there are no examples.
    """
    if not examples:
        raise ValueError("no held-out moments to look at")
    found_E2 = np.zeros((len(examples), 2))
    places = range(len(examples))
    for number, answered in answer(batches, examples, places, sees=stage.sees, team=team):
        found_E2[number] = loss_of(answered, kind), ndcg_of(answered)
    loss, ndcg = team.filled(found_E2, device=batches.device).mean(axis=0).tolist()
    return Look(stage=stage.name, step=step, loss=loss, ndcg=ndcg)


def calibrated(
    batches: Batches, examples: Sequence[Example], *, limit: int, team: Team
) -> Calibrator | None:
    """A calibrator fitted on whole lists; None where there are too few.

    Args:
        limit: Of more examples than this, so many are taken, evenly.
    """
    places = spread(examples, limit)
    if not places:
        return None
    picked = [unmasked(examples[place]) for place in places]
    ends = np.cumsum([len(one) for one in picked])
    found_C3 = np.zeros((ends[-1], 3))
    for number, one in answer(batches, examples, places, sees="all", team=team):
        rows = slice(ends[number] - len(one.item_ids), ends[number])
        found_C3[rows] = np.stack([one.priors_N, one.logits_N, one.is_chosen_N], axis=1)
    found_C3 = team.filled(found_C3, device=batches.device)
    owners_C = np.repeat(np.arange(len(places)), [len(one) for one in picked])
    behaviors = {number: examples[place].behavior for number, place in enumerate(places)}
    return fit(found_C3[:, 0], found_C3[:, 1], found_C3[:, 2] > 0, owners_C, behaviors=behaviors)


def loss_of(answered: Answered, kind: Loss) -> float:
    """One moment's; see `Look`."""
    is_spoken = kind in ("answer", "sequence")
    scores_N = (answered.logits_N if is_spoken else answered.scores).astype(np.float64)
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
    modalities: Sequence[Modality], count: int, sees: Sees
) -> Iterator[tuple[tuple[Modality, ...], Iterable[int]]]:
    """What is dropped, and for which numbers."""
    if sees != "single":
        yield (), range(count)
        return
    for turn, kept in enumerate(modalities):
        dropped = tuple(one for one in modalities if one is not kept)
        yield dropped, range(turn, count, len(modalities))


def _groups(numbered: Iterable[tuple[int, Example]]) -> Iterator[list[tuple[int, Example]]]:
    """As many lists at once as a step of training has branches."""
    group: list[tuple[int, Example]] = []
    longest = 0
    for number, example in numbered:
        longest = max(longest, len(example.candidates))
        if group and longest * (len(group) + 1) > BRANCHES:
            yield group
            group, longest = [], len(example.candidates)
        group.append((number, example))
    if group:
        yield group
