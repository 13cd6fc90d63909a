"""Several ranked lists in, one list out, by the sum of reciprocal ranks (Cormack et al., 2009).

For lists whose scores do not compare: a rank means the same in each of them. Where all blocks are
searched at once, as in the concatenated space, the weighted sum of cosines is the better choice.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrieval.candidates import Candidate
from retrieval.fusion import Fusion, Listed

DAMPING = 60  # the paper's constant; larger ones flatten the lead of the first ranks


@dataclass(frozen=True)
class ByRank(Fusion):
    """The sum of 1 / (DAMPING + rank) over the lists that hold an item."""

    def scores(self, listed: Listed) -> NDArray[np.float64]:
        is_held_KM = listed.ranks_KM > 0
        reciprocal_KM = np.where(is_held_KM, 1 / (DAMPING + listed.ranks_KM), 0.0)
        scores_K: NDArray[np.float64] = reciprocal_KM.sum(axis=1)
        return scores_K


def fuse(lists: Iterable[Sequence[Candidate]], *, limit: int) -> list[Candidate]:
    """Merge lists that are each best first.

    Args:
        lists: One for each search; only the order within a list is read, not its scores.
        limit: How many candidates to keep.

    Returns:
        At most `limit` candidates, scored by the sum of 1 / (DAMPING + rank) over the lists that
        hold them; ties fall by item id. Evidence is united; where two lists show the same
        block, the larger cosine stays.

    Raises:
        ValueError: an item occurs twice in one list, or a limit below 1.
    """
    if limit < 1:
        raise ValueError(f"limit must be at least 1, got {limit}")
    scores: dict[str, float] = {}
    evidence: dict[str, dict[str, float]] = {}
    for candidates in lists:
        item_ids = [candidate.item_id for candidate in candidates]
        if len(set(item_ids)) < len(item_ids):
            twice = sorted({one for one in item_ids if item_ids.count(one) > 1})
            raise ValueError(f"items occur twice in one list: {twice[:5]}")
        for rank, candidate in enumerate(candidates, start=1):
            scores[candidate.item_id] = scores.get(candidate.item_id, 0) + 1 / (DAMPING + rank)
            _unite(evidence.setdefault(candidate.item_id, {}), candidate.evidence)
    best = sorted(scores, key=lambda item_id: (-scores[item_id], item_id))[:limit]
    return [
        Candidate(item_id=item_id, score=scores[item_id], rank=rank, evidence=evidence[item_id])
        for rank, item_id in enumerate(best, start=1)
    ]


def _unite(known: dict[str, float], more: Mapping[str, float]) -> None:
    for name, cosine in more.items():
        known[name] = max(cosine, known.get(name, cosine))
