"""Ranked candidates in, what each block of vectors adds to their scores out.

The players are the blocks that an item is in: its modalities, and "sequence" where a network over
histories compared it with the query. A coalition is the item as it would be known if it had no
other vectors: its tokens are fused with these modalities alone, the evidence of the other blocks
is gone, and their part is taken off the retriever's score. Every coalition is one more branch
behind the same prefix, so an item costs as much as 2^blocks - 1 further candidates. The history
stays as it is, and so does a title where the prompt writes titles.

What all blocks are worth together is the score itself, so that base and contributions add up to
it; what each adds is its Shapley value (`ranker.shapley`).

Shape legend: K candidates, R coalitions of them all, M modalities, F features, T tokens of an
item, H the LLM's width.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from embedders import torchaudio_cpu

torchaudio_cpu.load()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from torch import Tensor  # noqa: E402

from ranker.calibration import Numbers  # noqa: E402
from ranker.evidence import features, without  # noqa: E402
from ranker.model import RankerModel, tensors  # noqa: E402
from ranker.ranking import Explanation  # noqa: E402
from ranker.shapley import coalitions, shares  # noqa: E402
from retrieval.candidates import Candidate, Query  # noqa: E402
from retrieval.concatenated import ItemVectors  # noqa: E402


@dataclass(frozen=True, slots=True, kw_only=True)
class Branches:
    """What stands behind one prefix, ready to be scored."""

    item_ids: Sequence[str]
    """Known ones; one may come several times."""
    features_RF: NDArray[np.float32]
    """The evidence of each."""
    tokens_RTH: Tensor | None = None
    """The fused tokens of each; None for the items' own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What has to be scored before these candidates are explained."""

    query: Query
    candidates: Sequence[Candidate]
    """Known items."""
    players: Sequence[Sequence[str]]
    """The blocks that each candidate is in."""

    @property
    def counts(self) -> list[int]:
        """How many branches each candidate takes: its coalitions but the whole one."""
        return [2 ** len(names) - 1 for names in self.players]


Weights = Callable[[Query], Mapping[str, float]]


class Explainer:
    """Explains scores of one model on one set of items."""

    def __init__(self, model: RankerModel, items: ItemVectors, *, weights: Weights) -> None:
        """Join a model with the vectors of its items.

        Args:
            model: That ranks.
            items: Of the spaces that it was trained on.
            weights: What the cosine in each block counts in the retrieval scores of a query.
        """
        self._model = model
        self._items = items
        self._weights = weights

    def over(self, items: ItemVectors) -> "Explainer":
        """The same for other items of the same spaces."""
        return Explainer(self._model, items, weights=self._weights)

    def question(self, query: Query, candidates: Sequence[Candidate]) -> Question:
        """What explaining these known items, found for this query, takes; nothing is fused yet."""
        players = [self._players(one) for one in candidates]
        return Question(query=query, candidates=candidates, players=players)

    def branches(self, question: Question) -> Branches:
        """All coalitions but the whole ones: candidate by candidate, each by their numbers.

        Args:
            question: With at least one item that is in a block.

        Raises:
            ValueError: an item is in more blocks than can be explained exactly.
        """
        weights = self._weights(question.query)
        return self._coalitions(question.candidates, question.players, weights)

    def explanations(
        self, question: Question, worths_R: Numbers, *, scores: Sequence[float]
    ) -> list[Explanation]:
        """How each candidate's score comes about.

        Args:
            question: What was asked.
            worths_R: Of its branches, scored as the candidates were.
            scores: Of the candidates, as they were ranked by.
        """
        worths_R = worths_R.astype(np.float64)
        explained = []
        for names, own, score in zip(question.players, question.counts, scores, strict=True):
            worths_C, worths_R = np.append(worths_R[:own], score), worths_R[own:]
            found = shares(worths_C[None])[0].tolist()
            contributions = dict.fromkeys(self._model.blocks, 0.0)
            contributions |= dict(zip(names, found, strict=True))
            base = float(worths_C[0])
            explained.append(Explanation(base=base, contributions=contributions))
        return explained

    def _players(self, candidate: Candidate) -> list[str]:
        """The blocks that this item is in; those that it lacks can add nothing."""
        row = self._items.row_of[candidate.item_id]
        fused = {str(one) for one in self._items.modalities if self._items.is_present(one)[row]}
        return [one for one in self._model.blocks if one in fused or one in candidate.evidence]

    def _coalitions(
        self,
        candidates: Sequence[Candidate],
        players: Sequence[Sequence[str]],
        weights: Mapping[str, float],
    ) -> Branches:
        blocks = self._model.blocks
        found_KF = features(candidates, blocks)
        item_ids, features_RF, has_RM = [], [], []
        for place, (candidate, names) in enumerate(zip(candidates, players, strict=True)):
            for is_in_P in coalitions(len(names))[:-1].tolist():
                members = {name for name, is_in in zip(names, is_in_P, strict=True) if is_in}
                absent = [name for name in blocks if name not in members]
                features_RF.append(without(found_KF[place : place + 1], blocks, absent, weights))
                has_RM.append([str(one) in members for one in self._items.modalities])
                item_ids.append(candidate.item_id)
        return Branches(
            item_ids=item_ids,
            features_RF=np.concatenate(features_RF),
            tokens_RTH=self._tokens(item_ids, has_RM),
        )

    def _tokens(self, item_ids: Sequence[str], has_RM: Sequence[Sequence[bool]]) -> Tensor:
        rows_R = np.array([self._items.row_of[one] for one in item_ids])
        vectors, is_present_RM = tensors(self._items, rows_R)
        return self._model.fuse(vectors, is_present_RM & torch.tensor(has_RM))
