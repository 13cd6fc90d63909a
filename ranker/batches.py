"""Examples in, a batch's scores out: many users at once, each with a prefix and a few branches.

The batch is a dense mask over whole sequences (`ranker.attention.Masked`): slower than the packed
pass of serving, yet differentiable everywhere, and equal to it, which a test shows.

Shape legend: B examples, N branches of an example, T tokens, H the LLM's width, M modalities.
"""

from collections.abc import Mapping, Sequence

from embedders import torchaudio_cpu

torchaudio_cpu.load()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from torch import Tensor  # noqa: E402

from embedders.items import Modality  # noqa: E402
from ranker import attention  # noqa: E402
from ranker.attention import Masked  # noqa: E402
from ranker.evidence import features, without  # noqa: E402
from ranker.examples import Example  # noqa: E402
from ranker.model import RankerModel, tensors  # noqa: E402
from ranker.packing import AnswerHead  # noqa: E402
from ranker.prompts import ITEM, STRIDE, Codes  # noqa: E402
from retrieval.concatenated import ItemVectors  # noqa: E402
from retrieval.pooled import visible_history  # noqa: E402


class Batches:
    """Draws batches of a model's training examples, and runs the model on them."""

    def __init__(
        self,
        model: RankerModel,
        examples: Sequence[Example],
        *,
        items: ItemVectors,
        titles: Mapping[str, str],
    ) -> None:
        self._model = model
        self._examples = examples
        self._items = items
        self._prompter = model.prompter(items, titles)
        self._head = AnswerHead(model.llm.model, yes=model.llm.yes, no=model.llm.no)
        self._prefixes: dict[int, Codes] = {}
        self._queue: list[int] = []
        if model.causal_lm.config._attn_implementation != attention.NAME:
            attention.switch(model.causal_lm, attention.NAME)

    def logits(self, rng: np.random.Generator, *, is_single: bool) -> Tensor:
        """The scores of one drawn batch, [B, N]; the first branch of each example is chosen.

        Args:
            rng: What examples, branches and dropped modalities are drawn with.
            is_single: All modalities but one are dropped; else each with the configured chance.
        """
        training = self._model.config.training
        dropped = self._drop(rng, is_single)
        unseen = self._unseen(dropped) if is_single else dropped
        places = [self._next(rng) for _ in range(training.batch_size)]
        prefixes: list[Codes] = []
        branches: list[list[Codes]] = []
        evidence: list[NDArray[np.float32]] = []
        for place in places:
            example = self._examples[place]
            drawn = self._draw(example, rng, training.num_negatives)
            found = features([example.candidates[n] for n in drawn], self._model.blocks)
            found = without(found, self._model.blocks, unseen, example.weights)
            slot = sum(map(len, evidence))
            evidence.append(found)
            prefixes.append(self._prefix(place))
            branches.append(
                [
                    self._prompter.branch(example.candidates[n].item_id, slot=slot + row)
                    for row, n in enumerate(drawn)
                ]
            )
        return self._run(prefixes, branches, np.concatenate(evidence), dropped)

    def start_over(self) -> None:
        """Forget which examples are due, so that a stage draws the same whatever ran before."""
        self._queue = []

    def _next(self, rng: np.random.Generator) -> int:
        if not self._queue:
            self._queue = rng.permutation(len(self._examples)).tolist()
        return self._queue.pop()

    def _prefix(self, place: int) -> Codes:
        if place not in self._prefixes:
            history = visible_history(self._examples[place].query)
            self._prefixes[place] = self._prompter.prefix(history)
        return self._prefixes[place]

    def _drop(self, rng: np.random.Generator, is_single: bool) -> list[Modality]:
        modalities = self._model.modalities
        if is_single:
            kept = modalities[int(rng.integers(len(modalities)))]
            return [modality for modality in modalities if modality is not kept]
        chance = self._model.config.fusion.modality_dropout
        dropped = [modality for modality in modalities if rng.random() < chance]
        return dropped if len(dropped) < len(modalities) else []

    def _unseen(self, dropped: Sequence[Modality]) -> list[str]:
        """Every block but the modality's that is left; the sequence's is made of all of them."""
        kept = set(self._model.modalities) - set(dropped)
        return [name for name in self._model.blocks if name not in kept]

    @staticmethod
    def _draw(example: Example, rng: np.random.Generator, num_negatives: int) -> list[int]:
        """One chosen candidate, and others that were not; fewer repeat, so that all have N."""
        is_chosen = [candidate.item_id in example.chosen for candidate in example.candidates]
        positives, negatives = np.flatnonzero(is_chosen), np.flatnonzero(np.logical_not(is_chosen))
        drawn = rng.choice(negatives, size=num_negatives, replace=len(negatives) < num_negatives)
        return [int(rng.choice(positives)), *drawn.tolist()]

    def _run(
        self,
        prefixes: Sequence[Codes],
        branches: Sequence[Sequence[Codes]],
        evidence_EF: NDArray[np.float32],
        dropped: Sequence[Modality],
    ) -> Tensor:
        layout = _lay_out(prefixes, branches)
        items_RH = self._fuse(layout.codes_BT, dropped)
        evidence_EH, priors_E = self._model.evidence(torch.from_numpy(evidence_EF))
        inputs_BTH = self._model.embed(layout.codes_BT, items_RH, evidence_EH)
        hidden_BTH = (
            self._model.causal_lm.get_decoder()(
                inputs_embeds=inputs_BTH,
                position_ids=torch.from_numpy(layout.positions_BT),
                use_cache=False,
                packing=Masked(mask=torch.from_numpy(layout.mask_BTT)[:, None]),
            )
        ).last_hidden_state
        rows_B1 = torch.arange(len(prefixes))[:, None]
        answers_BNH = hidden_BTH[rows_B1, torch.from_numpy(layout.ends_BN)]
        priors_BN: Tensor = priors_E.view(len(prefixes), -1)
        return self._head(answers_BNH) + priors_BN

    def _fuse(self, codes_BT: Codes, dropped: Sequence[Modality]) -> Tensor:
        """Fuse the batch's items once; the item codes are rewritten to count in the result."""
        num_tokens = self._model.config.fusion.num_tokens
        is_item_BT = codes_BT // STRIDE == ITEM
        places = codes_BT[is_item_BT] % STRIDE
        rows, inverse = np.unique(places // num_tokens, return_inverse=True)
        codes_BT[is_item_BT] = ITEM * STRIDE + inverse * num_tokens + places % num_tokens
        vectors, is_present_NM = tensors(self._items, rows)
        for modality in dropped:
            is_present_NM[:, self._model.modalities.index(modality)] = False
        return self._model.fuse(vectors, is_present_NM).flatten(0, 1)


class _Layout:
    """Where every token of the batch stands."""

    codes_BT: Codes
    positions_BT: NDArray[np.int64]
    mask_BTT: NDArray[np.bool_]
    ends_BN: NDArray[np.int64]


def _lay_out(prefixes: Sequence[Codes], branches: Sequence[Sequence[Codes]]) -> _Layout:
    """Sequences side by side: a prefix, then its branches, then padding."""
    whole = [np.concatenate([prefix, *own]) for prefix, own in zip(prefixes, branches, strict=True)]
    longest = max(len(one) for one in whole)
    layout = _Layout()
    shape = (len(whole), longest)
    layout.codes_BT = np.zeros(shape, dtype=np.int64)  # padding is the word 0, seen by nobody
    layout.positions_BT = np.zeros(shape, dtype=np.int64)
    segments_BT = np.full(shape, -1)  # 0 for the prefix, from 1 for each branch
    layout.ends_BN = np.zeros((len(whole), len(branches[0])), dtype=np.int64)
    for row, (prefix, own) in enumerate(zip(prefixes, branches, strict=True)):
        layout.codes_BT[row, : len(whole[row])] = whole[row]
        lengths = [len(prefix), *(len(branch) for branch in own)]
        segments_BT[row, : len(whole[row])] = np.repeat(np.arange(len(lengths)), lengths)
        positions = [np.arange(len(prefix)), *(len(prefix) + np.arange(n) for n in lengths[1:])]
        layout.positions_BT[row, : len(whole[row])] = np.concatenate(positions)
        layout.ends_BN[row] = np.cumsum(lengths)[1:] - 1
    asks, seen = segments_BT[:, :, None], segments_BT[:, None, :]
    is_earlier_TT = np.tri(longest, dtype=bool)
    layout.mask_BTT = is_earlier_TT & (seen >= 0) & ((seen == 0) | (seen == asks))
    layout.mask_BTT |= np.eye(longest, dtype=bool)  # padding sees itself, lest it become NaN
    return layout
