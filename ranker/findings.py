"""A query's candidates and the logits known so far in, their ranking so far out.

Whatever is scored stands first, by its score; the rest follows in retrieval's order. So a ranking
that is cut short differs from the complete one only in what it could not know yet.

Shape legend: N known candidates, S those that are scored: the first ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedders.items import Modality
from ranker.calibration import Calibrator, Numbers
from ranker.ranking import RankedItem, Ranking, Status
from retrieval.candidates import Candidate


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What is known of one query's candidates before the LLM has read them."""

    generation_id: str
    known: Sequence[Candidate]
    """In the order in which they are scored."""
    unknown: Sequence[Candidate]
    """What cannot be ranked, by id."""
    present: Mapping[str, tuple[Modality, ...]]
    """The modalities of each known item that has any."""
    cut: frozenset[str]
    """The items whose text is not read to its end."""
    priors_N: NDArray[np.float32]
    """What retrieval's findings are worth alone."""
    calibrator: Calibrator | None
    behavior: str | None
    """What is asked about."""

    def ranking(self, logits_S: NDArray[np.float32], *, tokens_ahead: int = 0) -> Ranking:
        """Best first, ties by item id; then what is not scored; then what is not known.

        Args:
            logits_S: Of the first known candidates.
            tokens_ahead: What has to be computed until there is a better ranking.
        """
        num_scored = len(logits_S)
        scores = worths(self.priors_N[:num_scored], logits_S, self.calibrator).tolist()
        chances = self._probabilities(scores)
        logits = logits_S.tolist()
        order = sorted(range(num_scored), key=lambda n: (-scores[n], self.known[n].item_id))
        items = [
            self._item(self.known[n], rank, score=scores[n], logit=logits[n], chance=chances[n])
            for rank, n in enumerate(order, start=1)
        ]
        for n in range(num_scored, len(self.known)):
            prior = float(self.priors_N[n])
            items.append(self._item(self.known[n], n + 1, score=prior, status=Status.NOT_SCORED))
        items += [self._item(one, 0, status=Status.UNKNOWN_ITEM) for one in self.unknown]
        return Ranking(
            items=tuple(items),
            generation_id=self.generation_id,
            judged_by="llm" if num_scored or not self.known else "retrieval_order",
            logit_weight=1.0 if self.calibrator is None else self.calibrator.logit_weight,
            num_scored=num_scored,
            tokens_ahead=tokens_ahead,
        )

    def _probabilities(self, scores: Sequence[float]) -> list[float | None]:
        if self.calibrator is None:
            return [None] * len(scores)
        chances_S = self.calibrator.probabilities(np.array(scores), behavior=self.behavior)
        return list(chances_S.tolist())

    def _item(
        self,
        candidate: Candidate,
        rank: int,
        *,
        score: float = 0.0,
        logit: float = 0.0,
        chance: float | None = None,
        status: Status | None = None,
    ) -> RankedItem:
        present = self.present.get(candidate.item_id, ())
        if status is None:
            is_cut = candidate.item_id in self.cut
            status = Status.TRUNCATED if is_cut else Status.OK
            status = status if present else Status.MISSING_VECTORS
        return RankedItem(
            item_id=candidate.item_id,
            rank=rank,
            score=score,
            logit=logit,
            status=status,
            retrieval_rank=candidate.rank,
            retrieval_score=candidate.score,
            present=present,
            probability=chance,
        )


def worths(
    priors_R: NDArray[np.float32], logits_R: NDArray[np.float32], calibrator: Calibrator | None
) -> Numbers:
    """The final scores: what whoever is scored is put in order by, [R]."""
    if calibrator is None:
        summed_R: NDArray[np.float32] = priors_R + logits_R
        return summed_R
    return calibrator.scores(priors_R, logits_R)
