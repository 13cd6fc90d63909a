"""Examples in, a batch's scores out: many users at once, each with a prefix and a few branches.

The batch is a dense mask over whole sequences (`ranker.attention.Masked`): slower than the packed
pass of serving, yet differentiable everywhere, and equal to it, which a test shows.

Shape legend: B examples, N branches of an example, T tokens, H the LLM's width, M modalities.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from embedders import torchaudio_cpu

torchaudio_cpu.load()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from torch import Tensor  # noqa: E402

from embedders.items import Modality  # noqa: E402
from ranker import attention  # noqa: E402
from ranker.attention import Masked  # noqa: E402
from ranker.curriculum import Sees, Stage  # noqa: E402
from ranker.evidence import features, without  # noqa: E402
from ranker.examples import Example  # noqa: E402
from ranker.layout import Layout, lay_out  # noqa: E402
from ranker.model import RankerModel, tensors  # noqa: E402
from ranker.packing import AnswerHead  # noqa: E402
from ranker.prompts import ITEM, STRIDE, Codes  # noqa: E402
from ranker.surprise import Spoken, WordHead, labels, surprise  # noqa: E402
from ranker.survey import unmasked  # noqa: E402
from retrieval.concatenated import ItemVectors  # noqa: E402
from retrieval.pooled import visible_history  # noqa: E402


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A batch that is drawn and not run yet; parts of it are batches as well."""

    sees: Sees
    dropped: tuple[Modality, ...]
    """What fusion does not see; of evidence, `sees` decides."""
    examples: tuple[Example, ...]
    picked: tuple[tuple[int, ...], ...]
    """Of each example, the places of N candidates; in training the first is a chosen one."""

    def __len__(self) -> int:
        return len(self.examples)

    def part(self, rows: slice) -> "Drawn":
        """Only these of the examples."""
        return replace(self, examples=self.examples[rows], picked=self.picked[rows])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Passed:
    """A batch that went through the LLM."""

    layout: Layout
    priors_BN: Tensor
    hidden_BTH: Tensor


class Batches:
    """Draws batches of a model's training examples, and runs the model on them."""

    def __init__(
        self,
        model: RankerModel,
        examples: Sequence[Example],
        *,
        items: ItemVectors,
        titles: Mapping[str, str],
        summaries: Mapping[str, str] | None = None,
    ) -> None:
        self._model = model
        self._examples = examples
        self._items = items
        self._prompter = model.prompter(items, titles, summaries=summaries)
        words = replace(model.config.prompt, history="titles", candidates="titles")
        self._titles_prompter = model.prompter(items, titles, summaries=summaries, prompt=words)
        self._head = AnswerHead(model.llm.model, yes=model.llm.yes, no=model.llm.no)
        self._word_head = WordHead(model.llm.model)
        self.queue: list[int] = []
        """Places of the examples that are due, the next one last."""
        if model.causal_lm.config._attn_implementation != attention.NAME:
            attention.switch(model.causal_lm, attention.NAME)

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """What is fused, by name."""
        return self._model.modalities

    @property
    def device(self) -> torch.device:
        """Where scores are computed."""
        return self._model.device

    def draw(self, rng: np.random.Generator, stage: Stage) -> Drawn:
        """The next batch; equal generators and queues draw equal ones, whatever runs them.

        Args:
            rng: What examples, branches and dropped modalities are drawn with.
            stage: Says what the batch sees: for `single`, all modalities but one are dropped; for
                `all`, each with the configured chance.
        """
        training = self._model.config.training
        dropped = self._drop(rng, stage.sees)
        examples = tuple(self._examples[self._next(rng)] for _ in range(training.batch_size))
        picked = tuple(self._pick(one, rng, training.num_negatives) for one in examples)
        return Drawn(sees=stage.sees, dropped=dropped, examples=examples, picked=picked)

    def run(self, drawn: Drawn) -> Tensor:
        """The scores of a drawn batch or of a part of one, [B, N], to learn from.

        With mixed precision the LLM alone computes in bfloat16; scores are in float32.
        """
        is_mixed = self._model.config.training.mixed_precision == "bf16"
        priors_BN, logits_BN = self.answers(drawn, is_mixed=is_mixed)
        return priors_BN + logits_BN

    def surprise(self, drawn: Drawn, kind: Spoken) -> Tensor:
        """How much the words that a drawn batch should say surprise the LLM, a scalar to learn
        from: a mean over the examples, as `ranker.surprise` has it."""
        is_mixed = self._model.config.training.mixed_precision == "bf16"
        passed = self._passed(drawn, is_mixed=is_mixed)
        llm = self._model.llm
        found = labels(passed.layout, kind, yes=llm.yes, no=llm.no)
        return surprise(passed.hidden_BTH, found, self._word_head)

    def answers(self, drawn: Drawn, *, is_mixed: bool = False) -> tuple[Tensor, Tensor]:
        """What retrieval knew, and what the LLM says to it, each [B, N]; by default as serving
        would say."""
        passed = self._passed(drawn, is_mixed=is_mixed)
        ends_BN = torch.from_numpy(passed.layout.ends_BN).to(self._model.device)
        rows_B1 = torch.arange(len(ends_BN), device=self._model.device)[:, None]
        return passed.priors_BN, self._head(passed.hidden_BTH[rows_B1, ends_BN])

    def _passed(self, drawn: Drawn, *, is_mixed: bool) -> _Passed:
        """The prompts of a drawn batch, read by the LLM."""
        prompter = self._titles_prompter if drawn.sees == "titles" else self._prompter
        prefixes: list[Codes] = []
        branches: list[list[Codes]] = []
        evidence: list[NDArray[np.float32]] = []
        for example, picked in zip(drawn.examples, drawn.picked, strict=True):
            slots = range(sum(map(len, evidence)), sum(map(len, evidence)) + len(picked))
            candidates = [example.candidates[n] for n in picked]
            found = features(candidates, self._model.blocks)
            evidence.append(
                without(found, self._model.blocks, self._unseen(drawn), example.weights)
            )
            query = example.query
            prefixes.append(
                prompter.prefix(
                    visible_history(query), text=query.text, preference=query.preference
                )
            )
            branches.append(
                [
                    prompter.branch(
                        one.item_id,
                        slot=slot if self._model.config.has_evidence else None,
                        behavior=example.behavior,
                    )
                    for slot, one in zip(slots, candidates, strict=True)
                ]
            )
        layout = lay_out(prefixes, branches)
        found_EF = np.concatenate(evidence)
        return self._run(layout, found_EF, drawn.dropped, is_mixed=is_mixed)

    def _next(self, rng: np.random.Generator) -> int:
        if not self.queue:
            self.queue = rng.permutation(len(self._examples)).tolist()
        return self.queue.pop()

    def _drop(self, rng: np.random.Generator, sees: Sees) -> tuple[Modality, ...]:
        modalities = self._model.modalities
        if sees == "titles":
            return ()
        if sees == "single":
            kept = modalities[int(rng.integers(len(modalities)))]
            return tuple(modality for modality in modalities if modality is not kept)
        chance = self._model.config.fusion.modality_dropout
        dropped = tuple(modality for modality in modalities if rng.random() < chance)
        return dropped if len(dropped) < len(modalities) else ()

    def _unseen(self, drawn: Drawn) -> list[str]:
        """The blocks that retrieval might as well not have searched.

        Where one modality is left, the sequence's goes with the others: it is made of all.
        """
        if drawn.sees == "all":
            return list(drawn.dropped)
        kept = set(self._model.modalities) - set(drawn.dropped)
        if drawn.sees == "titles":
            kept = {Modality.TEXT}
        return [name for name in self._model.blocks if name not in kept]

    @staticmethod
    def _pick(example: Example, rng: np.random.Generator, num_negatives: int) -> tuple[int, ...]:
        """One chosen candidate, and others that were not; fewer repeat, so that all have N.

        Masked ones are neither.
        """
        positives: list[int] = []
        negatives: list[int] = []
        for place in unmasked(example):
            is_chosen = example.candidates[place].item_id in example.chosen
            (positives if is_chosen else negatives).append(place)
        drawn = rng.choice(negatives, size=num_negatives, replace=len(negatives) < num_negatives)
        return (int(rng.choice(positives)), *drawn.tolist())

    def _run(
        self,
        layout: Layout,
        evidence_EF: NDArray[np.float32],
        dropped: Sequence[Modality],
        *,
        is_mixed: bool,
    ) -> _Passed:
        device = self._model.device
        items_RH = self._fuse(layout.codes_BT, dropped)
        evidence_EH, priors_E = self._model.evidence(torch.from_numpy(evidence_EF))
        inputs_BTH = self._model.embed(layout.codes_BT, items_RH, evidence_EH)
        # Fusion, evidence and answers are small, and stay in float32.
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=is_mixed):
            hidden_BTH = (
                self._model.causal_lm.get_decoder()(
                    inputs_embeds=inputs_BTH,
                    position_ids=torch.from_numpy(layout.positions_BT).to(device),
                    use_cache=False,
                    packing=Masked(mask=torch.from_numpy(layout.mask_BTT)[:, None].to(device)),
                )
            ).last_hidden_state
        priors_BN = priors_E.view(layout.ends_BN.shape)
        return _Passed(layout=layout, priors_BN=priors_BN, hidden_BTH=hidden_BTH)

    def _fuse(self, codes_BT: Codes, dropped: Sequence[Modality]) -> Tensor:
        """Fuse the batch's items once; the item codes are rewritten to count in the result."""
        num_tokens = self._model.config.fusion.num_tokens
        is_item_BT = codes_BT // STRIDE == ITEM
        if not is_item_BT.any():
            return torch.zeros(0, self._model.llm.hidden_size, device=self._model.device)
        places = codes_BT[is_item_BT] % STRIDE
        rows, inverse = np.unique(places // num_tokens, return_inverse=True)
        codes_BT[is_item_BT] = ITEM * STRIDE + inverse * num_tokens + places % num_tokens
        vectors, is_present_NM = tensors(self._items, rows)
        for modality in dropped:
            is_present_NM[:, self._model.modalities.index(modality)] = False
        return self._model.fuse(vectors, is_present_NM).flatten(0, 1)
