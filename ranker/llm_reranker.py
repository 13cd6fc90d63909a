"""Candidates in, a ranking out: retrieval's calibrated score plus the LLM's yes minus no.

How much the LLM counts beside retrieval was learned from held-out lists (`ranker.calibration`).
Fused tokens come ready from the store, so that a request costs one packed pass of the LLM and no
fusion. Candidates are put in the order of their ids before they are packed: the order in which
they were given cannot change a bit of any score.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest

from embedders import torchaudio_cpu

torchaudio_cpu.load()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from embedders.items import Modality  # noqa: E402
from ranker.base import Reranker  # noqa: E402
from ranker.evidence import features  # noqa: E402
from ranker.explaining import Branches, Explainer  # noqa: E402
from ranker.model import RankerModel  # noqa: E402
from ranker.packing import AnswerHead, read, score_packed  # noqa: E402
from ranker.prefixes import Prefix, PrefixCache, prefix_key  # noqa: E402
from ranker.prompts import Codes  # noqa: E402
from ranker.ranking import Explanation, RankedItem, Ranking, Status  # noqa: E402
from ranker.serving import unaskable  # noqa: E402
from retrieval.candidates import Candidate, Query  # noqa: E402
from retrieval.pooled import visible_history  # noqa: E402


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
            generation_id: Whose answers these are.
            explainer: Of the same model and items; without it nothing can be explained.
            prefixes: Where histories that the LLM has read are kept, of this reranker alone;
                None keeps none.
        """
        row_of = {item_id: row for row, item_id in enumerate(item_ids)}
        self._model = model
        self._tokens_RH = torch.from_numpy(tokens_ND).view(-1, model.llm.hidden_size)
        self._prompter = model.prompter(row_of, titles)
        self._present = present
        self._generation_id = generation_id
        self._explainer = explainer
        self._prefixes = PrefixCache(0) if prefixes is None else prefixes
        self._head = AnswerHead(model.causal_lm, yes=model.llm.yes, no=model.llm.no)

    def rerank(
        self, query: Query, candidates: Sequence[Candidate], *, num_explained: int = 0
    ) -> Ranking:
        item_ids = [candidate.item_id for candidate in candidates]
        if len(set(item_ids)) < len(item_ids):
            raise ValueError("a candidate occurs twice")
        if query.behavior and (wrong := unaskable(query.behavior, self._model.asked)):
            raise ValueError(f"behavior: {wrong}")
        by_id = sorted(candidates, key=lambda one: one.item_id)
        known = [one for one in by_id if one.item_id in self._prompter.row_of]
        ranked: list[RankedItem] = []
        if known:
            ranked = self._ranked(query, known, num_explained=num_explained)
        unknown = [
            RankedItem(
                item_id=one.item_id,
                rank=0,
                score=0.0,
                logit=0.0,
                status=Status.UNKNOWN_ITEM,
                retrieval_rank=one.rank,
                retrieval_score=one.score,
            )
            for one in by_id
            if one.item_id not in self._prompter.row_of
        ]
        calibrator = self._model.calibrator
        return Ranking(
            items=(*ranked, *unknown),
            generation_id=self._generation_id,
            judged_by="llm",
            logit_weight=1.0 if calibrator is None else calibrator.logit_weight,
        )

    @torch.inference_mode()
    def _ranked(
        self, query: Query, candidates: Sequence[Candidate], *, num_explained: int
    ) -> list[RankedItem]:
        """Known candidates, which come by id, best first."""
        prefix = self._prefix(query)
        branches = Branches(
            item_ids=[candidate.item_id for candidate in candidates],
            features_RF=features(candidates, self._model.blocks),
        )
        scores, logits = self._scores(query, prefix, branches)
        order = sorted(range(len(scores)), key=lambda n: (-scores[n], candidates[n].item_id))
        first = order[:num_explained]
        explanations: list[Explanation] = []
        if first:
            explanations = self._needed_explainer.explain(
                query,
                [candidates[n] for n in first],
                [scores[n] for n in first],
                score=lambda coalitions: self._scores(query, prefix, coalitions)[0],
            )
        chances = self._probabilities(scores, behavior=query.behavior)
        return [
            self._item(
                candidates[n],
                rank=rank,
                score=scores[n],
                logit=logits[n],
                probability=chances[n],
                explanation=explanation,
            )
            for rank, (n, explanation) in enumerate(zip_longest(order, explanations), start=1)
        ]

    @property
    def _needed_explainer(self) -> Explainer:
        if self._explainer is None:
            raise ValueError("nothing can be explained: this reranker holds no item vectors")
        return self._explainer

    def _prefix(self, query: Query) -> Prefix:
        """The history as the LLM has read it, perhaps for an earlier request."""
        codes = self._prompter.prefix(visible_history(query), text=query.text)
        key = prefix_key(self._generation_id, codes)
        prefix = self._prefixes.get(key)
        if prefix is None:
            embedded_PH = self._model.embed(codes, self._tokens_RH, torch.zeros(0))
            prefix = read(self._model.causal_lm, embedded_PH)
            self._prefixes.put(key, prefix)
        return prefix

    def _scores(
        self, query: Query, prefix: Prefix, branches: Branches
    ) -> tuple[list[float], list[float]]:
        """What each branch behind a query's prefix is worth, and the LLM's part of it."""
        evidence_RH, priors_R = self._model.evidence(torch.from_numpy(branches.features_RF))
        codes = self._codes(query, branches)
        tokens_RH = self._tokens_RH
        if branches.tokens_RTH is not None:
            tokens_RH = branches.tokens_RTH.flatten(0, 1)
        embedded_TH = self._model.embed(np.concatenate(codes), tokens_RH, evidence_RH)
        logits_R = score_packed(
            self._model.causal_lm,
            prefix,
            embedded_TH.split([len(branch) for branch in codes]),
            self._head,
        )
        calibrator = self._model.calibrator
        if calibrator is None:
            return (priors_R + logits_R).tolist(), logits_R.tolist()
        scores_R = calibrator.scores(priors_R.cpu().numpy(), logits_R.cpu().numpy())
        return scores_R.tolist(), logits_R.tolist()

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

    def _probabilities(
        self, scores: Sequence[float], *, behavior: str | None
    ) -> list[float | None]:
        calibrator = self._model.calibrator
        if calibrator is None:
            return [None] * len(scores)
        chances_N = calibrator.probabilities(np.array(scores), behavior=behavior)
        return list(chances_N.tolist())

    def _item(
        self,
        candidate: Candidate,
        *,
        rank: int,
        score: float,
        logit: float,
        probability: float | None,
        explanation: Explanation | None,
    ) -> RankedItem:
        present = self._present.get(candidate.item_id, ())
        return RankedItem(
            item_id=candidate.item_id,
            rank=rank,
            score=score,
            logit=logit,
            status=Status.OK if present else Status.MISSING_VECTORS,
            retrieval_rank=candidate.rank,
            retrieval_score=candidate.score,
            present=present,
            probability=probability,
            explanation=explanation,
        )
