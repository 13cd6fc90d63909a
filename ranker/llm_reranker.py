"""Candidates in, a ranking out: retrieval's calibrated score plus the LLM's yes minus no.

Fused tokens come ready from the store, so that a request costs one packed pass of the LLM and no
fusion. Candidates are put in the order of their ids before they are packed: the order in which
they were given cannot change a bit of any score.
"""

from collections.abc import Mapping, Sequence

from embedders import torchaudio_cpu

torchaudio_cpu.load()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from embedders.items import Modality  # noqa: E402
from ranker.base import Reranker  # noqa: E402
from ranker.evidence import features  # noqa: E402
from ranker.model import RankerModel  # noqa: E402
from ranker.packing import AnswerHead, score_packed  # noqa: E402
from ranker.ranking import RankedItem, Ranking, Status  # noqa: E402
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
    ) -> None:
        """Join a model with its items.

        Args:
            model: As `ranker.model.load` gives it.
            item_ids: The items that can be ranked.
            tokens_ND: Their fused tokens, flattened, by `ranker.tokens` with this very model.
            present: The modalities that each item has.
            titles: Of the items, for prompts that write them.
            generation_id: Whose answers these are.
        """
        row_of = {item_id: row for row, item_id in enumerate(item_ids)}
        hidden = model.llm.hidden_size
        self._model = model
        self._tokens_RH = torch.from_numpy(tokens_ND).view(-1, hidden)
        self._prompter = model.prompter(row_of, titles)
        self._present = present
        self._generation_id = generation_id
        self._head = AnswerHead(model.causal_lm, yes=model.llm.yes, no=model.llm.no)

    def rerank(self, query: Query, candidates: Sequence[Candidate]) -> Ranking:
        item_ids = [candidate.item_id for candidate in candidates]
        if len(set(item_ids)) < len(item_ids):
            raise ValueError("a candidate occurs twice")
        known = sorted(
            (one for one in candidates if one.item_id in self._prompter.row_of),
            key=lambda one: one.item_id,
        )
        scores, logits = self._score(query, known)
        order = sorted(range(len(known)), key=lambda n: (-scores[n], known[n].item_id))
        ranked = [
            self._ranked(known[n], rank=rank, score=scores[n], logit=logits[n])
            for rank, n in enumerate(order, start=1)
        ]
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
            for one in sorted(candidates, key=lambda one: one.item_id)
            if one.item_id not in self._prompter.row_of
        ]
        return Ranking(
            items=(*ranked, *unknown), generation_id=self._generation_id, judged_by="llm"
        )

    @torch.inference_mode()
    def _score(
        self, query: Query, candidates: Sequence[Candidate]
    ) -> tuple[list[float], list[float]]:
        if not candidates:
            return [], []
        found = torch.from_numpy(features(candidates, self._model.blocks))
        evidence_NH, priors_N = self._model.evidence(found)
        prefix = self._prompter.prefix(visible_history(query))
        prefix_PH = self._model.embed(prefix, self._tokens_RH, evidence_NH)
        branches = [
            self._prompter.branch(candidate.item_id, slot=slot)
            for slot, candidate in enumerate(candidates)
        ]
        embedded_TH = self._model.embed(np.concatenate(branches), self._tokens_RH, evidence_NH)
        logits_N = score_packed(
            self._model.causal_lm,
            prefix_PH,
            embedded_TH.split([len(branch) for branch in branches]),
            self._head,
        )
        return (priors_N + logits_N).tolist(), logits_N.tolist()

    def _ranked(self, candidate: Candidate, *, rank: int, score: float, logit: float) -> RankedItem:
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
        )
