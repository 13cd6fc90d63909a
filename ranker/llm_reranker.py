"""Candidates in, a ranking out: retrieval's calibrated score plus the LLM's yes minus no.

How much the LLM counts beside retrieval was learned from held-out lists (`ranker.calibration`).
Fused tokens come ready from the store, so that a request costs few packed passes of the LLM, and
fusion only for items whose vectors it brings. Candidates are packed in the order (retrieval's rank,
id): the order in which they were given cannot change a bit of any score, and whoever must stop
early has scored the likeliest.
"""

import operator
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace

from embedders import torchaudio_cpu

torchaudio_cpu.load()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from torch import Tensor  # noqa: E402

from embedders.items import Modality  # noqa: E402
from feature_repo.base import CacheCounts  # noqa: E402
from ranker.base import Reranker  # noqa: E402
from ranker.brought import Brought  # noqa: E402
from ranker.calibration import Numbers  # noqa: E402
from ranker.evidence import features  # noqa: E402
from ranker.explaining import Branches, Explainer, Question  # noqa: E402
from ranker.findings import Findings, worths  # noqa: E402
from ranker.model import RankerModel  # noqa: E402
from ranker.packing import (  # noqa: E402
    FIRST_BUDGET,
    AnswerHead,
    read,
    score_passes,
    split,
)
from ranker.prefixes import Prefix, PrefixCache, prefix_key  # noqa: E402
from ranker.prompts import Codes  # noqa: E402
from ranker.ranking import RankedItem, Ranking  # noqa: E402
from ranker.serving import unaskable  # noqa: E402
from retrieval.candidates import Candidate, Query  # noqa: E402
from retrieval.pooled import visible_history  # noqa: E402

NOTHING = np.zeros(0, dtype=np.float32)  # the logits before the first pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """Branches as the LLM will read them, and what they are worth without it."""

    codes: Sequence[Codes]
    tokens_RH: Tensor
    """The fused tokens that item codes count in."""
    evidence_RH: Tensor
    priors_R: NDArray[np.float32]
    passes: Sequence[slice]
    """Which branches share a pass."""

    def num_tokens(self, number: int) -> int:
        """Of the branches of one pass."""
        return sum(map(len, self.codes[self.passes[number]]))


class LlmReranker(Reranker):
    """Reranks with a loaded model. One call at a time: the LLM is shared."""

    def __init__(
        self,
        model: RankerModel,
        *,
        item_ids: Sequence[str],
        tokens_ND: NDArray[np.float32],
        present: Mapping[str, tuple[Modality, ...]],
        titles: Mapping[str, str],
        summaries: Mapping[str, str] | None = None,
        generation_id: str,
        explainer: Explainer | None = None,
        prefixes: PrefixCache | None = None,
    ) -> None:
        """Join a model with its items.

        Args:
            model: As `ranker.model.load` gives it.
            item_ids: The items that can be ranked.
            tokens_ND: Their fused tokens, flattened, by `ranker.tokens` with this very model.
            present: The modalities that each item has.
            titles: Of the items, for prompts that write them.
            summaries: Of the items, likewise.
            generation_id: Whose answers these are.
            explainer: Of the same model and items; without it nothing can be explained.
            prefixes: Where histories that the LLM has read are kept, of this reranker alone;
                None keeps none.
        """
        row_of = {item_id: row for row, item_id in enumerate(item_ids)}
        self._model = model
        self._tokens_RH = torch.from_numpy(tokens_ND).view(-1, model.llm.hidden_size)
        self._prompter = model.prompter(row_of, titles, summaries=summaries)
        self._present = present
        self._generation_id = generation_id
        self._explainer = explainer
        self._prefixes = PrefixCache(0) if prefixes is None else prefixes
        self._head = AnswerHead(model.causal_lm, yes=model.llm.yes, no=model.llm.no)
        self._brought: Mapping[str, Tensor] = {}

    @property
    def cached(self) -> CacheCounts:
        """Of the histories that the LLM has read."""
        return self._prefixes.counts

    def bringing(self, brought: Brought) -> "LlmReranker":
        """The same for one request's candidates, some with tokens of their own; histories are read
        with those that are held all the same, so that kept ones serve."""
        other = copy(self)
        other._brought = brought.tokens
        other._present = brought.items.modalities_of
        if self._explainer is not None:
            other._explainer = self._explainer.over(brought.items)
        return other

    @torch.inference_mode()
    def refine(
        self,
        query: Query,
        candidates: Sequence[Candidate],
        *,
        num_explained: int = 0,
        by_steps: bool = True,
    ) -> Iterator[Ranking]:
        """As in `base.py`; without `by_steps`, what is known before all passes are through is
        not told, which saves whoever waits for the end some of the time."""
        if num_explained and self._explainer is None:
            raise ValueError("nothing can be explained: this reranker holds no item vectors")
        findings, packed = self._found(query, candidates)
        if not findings.known:
            yield findings.ranking(NOTHING)
            return
        codes = self._prompter.prefix(
            visible_history(query), text=query.text, preference=query.preference
        )
        key = prefix_key(self._generation_id, codes)
        prefix = self._prefixes.get(key)
        if prefix is None:
            if by_steps:
                yield findings.ranking(NOTHING, tokens_ahead=len(codes) + packed.num_tokens(0))
            embedded_PH = self._model.embed(codes, self._tokens_RH, torch.zeros(0))
            prefix = read(self._model.causal_lm, embedded_PH)
            self._prefixes.put(key, prefix)
        if by_steps:
            yield findings.ranking(NOTHING, tokens_ahead=packed.num_tokens(0))
        logits_S = NOTHING
        for number, logits_B in enumerate(self._passes(prefix, packed), start=1):
            logits_S = np.concatenate([logits_S, logits_B])
            if by_steps and number < len(packed.passes):
                yield findings.ranking(logits_S, tokens_ahead=packed.num_tokens(number))
        complete = findings.ranking(logits_S)
        if num_explained:
            first = complete.items[: min(num_explained, len(findings.known))]
            yield from self._explained(query, complete, first, known=findings.known, prefix=prefix)
        else:
            yield complete

    def _found(self, query: Query, candidates: Sequence[Candidate]) -> tuple[Findings, "Packed"]:
        """What is known before the LLM is asked, and what it will be asked."""
        item_ids = [candidate.item_id for candidate in candidates]
        if len(set(item_ids)) < len(item_ids):
            raise ValueError("a candidate occurs twice")
        if query.behavior and (wrong := unaskable(query.behavior, self._model.asked)):
            raise ValueError(f"behavior: {wrong}")
        ordered = sorted(candidates, key=lambda one: (one.rank, one.item_id))
        known = [one for one in ordered if self._is_known(one)]
        branches = self._branches(known, features(known, self._model.blocks))
        # A GPU is not kept busy by small passes.
        first = FIRST_BUDGET if self._model.device.type == "cpu" else None
        packed = self._packed(query, branches, first=first)
        findings = Findings(
            generation_id=self._generation_id,
            known=known,
            unknown=sorted(
                (one for one in ordered if not self._is_known(one)), key=lambda one: one.item_id
            ),
            present=self._present,
            cut=frozenset(filter(self._prompter.is_cut, branches.item_ids)),
            priors_N=packed.priors_R,
            calibrator=self._model.calibrator,
            behavior=query.behavior,
        )
        return findings, packed

    def _is_known(self, candidate: Candidate) -> bool:
        return candidate.item_id in self._prompter.row_of or candidate.item_id in self._brought

    def _explained(
        self,
        query: Query,
        ranking: Ranking,
        first: Sequence[RankedItem],
        *,
        known: Sequence[Candidate],
        prefix: Prefix,
    ) -> Iterator[Ranking]:
        """The ranking as it is until its first items are explained, then with that."""
        explainer = self._explainer
        assert explainer is not None
        candidate_of = {candidate.item_id: candidate for candidate in known}
        question = explainer.question(query, [candidate_of[one.item_id] for one in first])
        worths_R: Numbers = NOTHING
        if ahead := self._num_tokens(query, question):
            yield replace(ranking, tokens_ahead=ahead)
            packed, logits_R = self._packed(query, explainer.branches(question)), NOTHING
            for number, logits_B in enumerate(self._passes(prefix, packed)):
                logits_R = np.concatenate([logits_R, logits_B])
                ahead -= packed.num_tokens(number)
                if ahead:
                    yield replace(ranking, tokens_ahead=ahead)
            worths_R = worths(packed.priors_R, logits_R, self._model.calibrator)
        explanations = explainer.explanations(
            question, worths_R, scores=[item.score for item in first]
        )
        explained = (
            replace(item, explanation=explanation)
            for item, explanation in zip(first, explanations, strict=True)
        )
        yield replace(ranking, items=(*explained, *ranking.items[len(first) :]))

    def _num_tokens(self, query: Query, question: Question) -> int:
        """Of all the branches that a question needs: each is as long as its item's own."""
        own = self._branches(question.candidates, np.zeros((0, 0), dtype=np.float32))
        lengths = map(len, self._codes(query, own))
        return sum(map(operator.mul, question.counts, lengths))

    def _branches(
        self, candidates: Sequence[Candidate], features_RF: NDArray[np.float32]
    ) -> Branches:
        """One for each candidate, with tokens of their own where any was brought."""
        item_ids, tokens_RTH = [one.item_id for one in candidates], None
        if self._brought and candidates:
            row_of, held_NTH = (
                self._prompter.row_of,
                self._tokens_RH.view(-1, self._prompter.num_tokens, self._tokens_RH.shape[1]),
            )
            tokens_RTH = torch.stack(
                [
                    self._brought[one] if one in self._brought else held_NTH[row_of[one]]
                    for one in item_ids
                ]
            )
        return Branches(item_ids=item_ids, features_RF=features_RF, tokens_RTH=tokens_RTH)

    def _packed(self, query: Query, branches: Branches, *, first: int | None = None) -> "Packed":
        evidence_RH, priors_R = self._model.evidence(torch.from_numpy(branches.features_RF))
        tokens_RH = self._tokens_RH
        if branches.tokens_RTH is not None:
            tokens_RH = branches.tokens_RTH.flatten(0, 1)
        codes = self._codes(query, branches)
        return Packed(
            codes=codes,
            tokens_RH=tokens_RH,
            evidence_RH=evidence_RH,
            priors_R=priors_R.cpu().numpy(),
            passes=split([len(branch) for branch in codes], first=first),
        )

    def _passes(self, prefix: Prefix, packed: "Packed") -> Iterator[NDArray[np.float32]]:
        """The logits of each pass, computed when they are asked for."""
        embedded_TH = self._model.embed(
            np.concatenate(packed.codes), packed.tokens_RH, packed.evidence_RH
        )
        branches = embedded_TH.split([len(branch) for branch in packed.codes])
        for logits_B in score_passes(
            self._model.causal_lm, prefix, branches, self._head, passes=packed.passes
        ):
            yield logits_B.cpu().numpy()

    def _codes(self, query: Query, branches: Branches) -> list[Codes]:
        has_evidence, prompter = self._model.config.has_evidence, self._prompter
        written = []
        for slot, item_id in enumerate(branches.item_ids):
            if branches.tokens_RTH is not None:
                prompter = replace(self._prompter, row_of={item_id: slot})
            written.append(
                prompter.branch(
                    item_id, slot=slot if has_evidence else None, behavior=query.behavior
                )
            )
        return written
