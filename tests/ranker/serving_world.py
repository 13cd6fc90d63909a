"""A small served generation whose right answers are known: scores come from a table.

Items `a` to `e`; the reranker reverses what retrieval thinks of them, except that `c` and `d` tie.
`e` has no vectors. Work can be held at a gate, to see what happens to requests meanwhile.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from embedders.items import Interaction, Modality
from embedders.vectors import Space
from ranker.ranking import Explanation, RankedItem, Ranking, Status
from ranker.serving import ServingInfo
from retrieval.candidates import Candidate, Query

SCORES = {"a": 0.1, "b": 0.2, "c": 1 / 3, "d": 1 / 3, "e": 0.5}
RETRIEVAL_SCORES = {"a": 0.9, "b": 0.8, "c": 0.7, "d": 0.6, "e": 0.5}
BEST_FIRST = ["e", "c", "d", "b", "a"]
TITLES = {item_id: f"The {item_id}" for item_id in SCORES}
TEXT_SPACE = Space(modality=Modality.TEXT, encoder="table", revision="1", dim=3)
FUSED_SPACE = Space(modality=None, encoder="tokens", revision="1", dim=2, is_normalized=False)
BEHAVIORS = ("purchase", "view")
LOGIT_WEIGHT = 0.7
BORN = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
SEEN = Interaction(item_id="a", behavior="view", timestamp=BORN)


class TableServing:
    """A `Serving` over the tables above; it notes the queries it was asked."""

    def __init__(self, *, generation_id: str = "g1") -> None:
        self._generation_id = generation_id
        self._gate = threading.Event()
        self._gate.set()
        self.entered = threading.Semaphore(0)
        self.reranked: list[Query] = []
        self.error: Exception | None = None
        self.info_error: Exception | None = None
        self.behaviors = BEHAVIORS

    @property
    def info(self) -> ServingInfo:
        if self.info_error is not None:
            raise self.info_error
        return ServingInfo(
            generation_id=self._generation_id,
            model="TableForCausalLM",
            num_items=len(SCORES),
            spaces=(TEXT_SPACE, FUSED_SPACE),
            as_of=BORN,
            behaviors=self.behaviors,
            calibrator="c0ffee",
        )

    def history(self, user_id: str) -> tuple[Interaction, ...] | None:
        return (SEEN,) if user_id == "ada" else None

    def title(self, item_id: str) -> str | None:
        return TITLES.get(item_id)

    def retrieve(self, query: Query, *, limit: int) -> list[Candidate]:
        hidden = set(query.exclude)
        if query.exclude_seen:
            history = query.history or self.history(query.user_id) or ()
            hidden |= {event.item_id for event in history}
        return _candidates([item_id for item_id in SCORES if item_id not in hidden][:limit])

    def score(self, query: Query, item_ids: Sequence[str]) -> list[Candidate]:
        self.entered.release()
        assert self._gate.wait(timeout=20), "the test never opened the gate"
        if self.error is not None:
            raise self.error
        return _candidates([item_id for item_id in SCORES if item_id in item_ids])

    def rerank(
        self, query: Query, candidates: Sequence[Candidate], *, num_explained: int = 0
    ) -> Ranking:
        self.reranked.append(query)
        order = sorted(candidates, key=lambda each: (-SCORES[each.item_id], each.item_id))
        return Ranking(
            items=tuple(
                _ranked(each, rank, is_explained=rank <= num_explained)
                for rank, each in enumerate(order, start=1)
            ),
            generation_id=self._generation_id,
            judged_by="table",
            logit_weight=LOGIT_WEIGHT,
        )

    @contextmanager
    def held(self) -> Iterator[None]:
        """Work that begins inside waits until the end of it."""
        self._gate.clear()
        try:
            yield
        finally:
            self._gate.set()


def _candidates(item_ids: Sequence[str]) -> list[Candidate]:
    return [
        Candidate(item_id=item_id, score=RETRIEVAL_SCORES[item_id], rank=rank)
        for rank, item_id in enumerate(item_ids, start=1)
    ]


def explained(item_id: str) -> Explanation:
    """Text is all that tells one item from another; `e` has none."""
    contributions = {"text": SCORES[item_id] - 0.05 if item_id != "e" else 0.0, "sequence": 0.0}
    return Explanation(base=0.05 if item_id != "e" else SCORES["e"], contributions=contributions)


def _ranked(candidate: Candidate, rank: int, *, is_explained: bool) -> RankedItem:
    has_vectors = candidate.item_id != "e"
    return RankedItem(
        item_id=candidate.item_id,
        rank=rank,
        score=SCORES[candidate.item_id],
        logit=SCORES[candidate.item_id] - candidate.score,
        status=Status.OK if has_vectors else Status.MISSING_VECTORS,
        retrieval_rank=candidate.rank,
        retrieval_score=candidate.score,
        present=(Modality.TEXT,) if has_vectors else (),
        probability=SCORES[candidate.item_id] / 2 if has_vectors else None,
        explanation=explained(candidate.item_id) if is_explained else None,
    )
