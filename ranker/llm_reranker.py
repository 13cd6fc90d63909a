"""Candidates in, a ranking out: retrieval's calibrated score plus the LLM's yes minus no.

Fused tokens come ready from the store, so that a request costs one packed pass of the LLM and no
fusion. Candidates are put in the order of their ids before they are packed: the order in which
they were given cannot change a bit of any score.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from embedders import torchaudio_cpu

torchaudio_cpu.load()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from torch import Tensor  # noqa: E402

from embedders.items import Modality  # noqa: E402
from ranker.base import Reranker  # noqa: E402
from ranker.evidence import features  # noqa: E402
from ranker.explaining import Coalitions, Explainer  # noqa: E402
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
        explainer: Explainer | None = None,
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
        """
        row_of = {item_id: row for row, item_id in enumerate(item_ids)}
        self._model = model
        self._tokens_RH = torch.from_numpy(tokens_ND).view(-1, model.llm.hidden_size)
        self._prompter = model.prompter(row_of, titles)
        self._present = present
        self._generation_id = generation_id
        self._explainer = explainer
        self._head = AnswerHead(model.causal_lm, yes=model.llm.yes, no=model.llm.no)

    def rerank(
        self, query: Query, candidates: Sequence[Candidate], *, num_explained: int = 0
    ) -> Ranking:
        item_ids = [candidate.item_id for candidate in candidates]
        if len(set(item_ids)) < len(item_ids):
            raise ValueError("a candidate occurs twice")
        by_id = sorted(candidates, key=lambda one: one.item_id)
        known = [one for one in by_id if one.item_id in self._prompter.row_of]
        scores, logits = self._score(query, known)
        order = sorted(range(len(known)), key=lambda n: (-scores[n], known[n].item_id))
        ranked = [
            self._ranked(known[n], rank=rank, score=scores[n], logit=logits[n])
            for rank, n in enumerate(order, start=1)
        ]
        explained = ranked[:num_explained]
        if explained:
            explained = self._explained(query, [known[n] for n in order], explained)
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
        return Ranking(
            items=(*explained, *ranked[num_explained:], *unknown),
            generation_id=self._generation_id,
            judged_by="llm",
        )

    def _explained(
        self, query: Query, candidates: Sequence[Candidate], ranked: Sequence[RankedItem]
    ) -> list[RankedItem]:
        """The first of the candidates, each with its explanation."""
        if self._explainer is None:
            raise ValueError("nothing can be explained: this reranker holds no item vectors")

        def score(games: Coalitions) -> list[float]:
            return self._scored(
                query, games.item_ids_R, games.features_RF, games.tokens_RTH.flatten(0, 1)
            )[0]

        with torch.inference_mode():
            explanations = self._explainer.explain(
                query, candidates[: len(ranked)], [one.score for one in ranked], score=score
            )
        return [
            replace(item, explanation=explanation)
            for item, explanation in zip(ranked, explanations, strict=True)
        ]

    @torch.inference_mode()
    def _score(
        self, query: Query, candidates: Sequence[Candidate]
    ) -> tuple[list[float], list[float]]:
        if not candidates:
            return [], []
        found_NF = features(candidates, self._model.blocks)
        item_ids = [candidate.item_id for candidate in candidates]
        return self._scored(query, item_ids, found_NF, None)

    def _scored(
        self,
        query: Query,
        item_ids: Sequence[str],
        features_NF: NDArray[np.float32],
        tokens_RH: Tensor | None,
    ) -> tuple[list[float], list[float]]:
        """Scores and logits of one branch for each item id, which may come several times.

        Args:
            query: Whose history is the prefix.
            item_ids: Known ones.
            features_NF: The evidence of each.
            tokens_RH: The fused tokens of each, in order; None for the items' own.
        """
        evidence_NH, priors_N = self._model.evidence(torch.from_numpy(features_NF))
        prefix = self._prompter.prefix(visible_history(query), text=query.text)
        prefix_PH = self._model.embed(prefix, self._tokens_RH, evidence_NH)
        branches = [
            (
                self._prompter
                if tokens_RH is None
                else replace(self._prompter, row_of={item_id: slot})
            ).branch(item_id, slot=slot)
            for slot, item_id in enumerate(item_ids)
        ]
        embedded_TH = self._model.embed(
            np.concatenate(branches),
            self._tokens_RH if tokens_RH is None else tokens_RH,
            evidence_NH,
        )
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
