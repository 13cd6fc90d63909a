"""A small served generation whose right answers are known: scores come from a table.

Items `a` to `e`; the reranker reverses what retrieval thinks of them, except that `c` and `d` tie.
`e` has no vectors. Two items are scored in a pass, at one token each, after a pass that reads the
history. An item whose vectors a request brings is known, and scores 0 where it is not in the table.
Work can be held at a gate, to see what happens to requests meanwhile, and a test can step
in before every pass.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

from embedders.items import Interaction, Modality
from embedders.vectors import Space
from feature_repo.base import CacheCounts
from ranker.inline import InlineVectors
from ranker.ranking import Explanation, RankedItem, Ranking, Status
from ranker.serving import ServingInfo
from retrieval.attributes import Attributes, Texts
from retrieval.candidates import Candidate, Query

SCORES = {"a": 0.1, "b": 0.2, "c": 1 / 3, "d": 1 / 3, "e": 0.5}
RETRIEVAL_SCORES = {"a": 0.9, "b": 0.8, "c": 0.7, "d": 0.6, "e": 0.5}
BEST_FIRST = ["e", "c", "d", "b", "a"]
TITLES = {item_id: f"The {item_id}" for item_id in SCORES}
TEXT_SPACE = Space(modality=Modality.TEXT, encoder="table", revision="1", dim=3)
FUSED_SPACE = Space(modality=None, encoder="tokens", revision="1", dim=2, is_normalized=False)
BEHAVIORS = ("purchase", "view")
BLOCKS = ("sequence", "text")
ATTRIBUTES = Attributes.of(
    Texts(
        item_id=item_id,
        attributes={"kind": "vowel" if item_id in "ae" else "consonant", "price": str(price)},
    )
    for price, item_id in enumerate(SCORES, start=1)
)
LOGIT_WEIGHT = 0.7
PASS_SIZE = 2
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
        self.brought: list[InlineVectors | None] = []
        self.error: Exception | None = None
        self.info_error: Exception | None = None
        self.behaviors = BEHAVIORS
        self.is_degraded = False
        self.caches: dict[str, CacheCounts] = {}
        self.history_error: Exception | None = None
        self.before_pass: Callable[[int], None] = lambda number: None
        """Called before each pass, which are counted from 0: the history's."""
        self.tokens_of_pass: dict[int, int] = {}
        """What passes say of themselves, where that is not the truth."""

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
            blocks=BLOCKS,
            filterable=ATTRIBUTES.columns,
            comparable=ATTRIBUTES.numeric_columns,
        )

    def history(self, user_id: str) -> tuple[Interaction, ...] | None:
        if self.history_error is not None:
            raise self.history_error
        return (SEEN,) if user_id == "ada" else None

    def title(self, item_id: str) -> str | None:
        return TITLES.get(item_id)

    def retrieve(self, query: Query, *, limit: int) -> list[Candidate]:
        hidden = set(query.exclude)
        if query.exclude_seen:
            history = query.history or self.history(query.user_id) or ()
            hidden |= {event.item_id for event in (*history, *query.recent)}
        allowed = _allowed(query, SCORES)
        return _candidates([item_id for item_id in allowed if item_id not in hidden][:limit])

    def score(
        self, query: Query, item_ids: Sequence[str], *, vectors: InlineVectors | None = None
    ) -> list[Candidate]:
        self.entered.release()
        assert self._gate.wait(timeout=120), "the test never opened the gate"
        if self.error is not None:
            raise self.error
        brought = () if vectors is None else sorted(vectors.item_ids - SCORES.keys())
        known = [item_id for item_id in (*SCORES, *brought) if item_id in item_ids]
        return _candidates(_allowed(query, known))

    def rerank(
        self,
        query: Query,
        candidates: Sequence[Candidate],
        *,
        num_explained: int = 0,
        vectors: InlineVectors | None = None,
    ) -> Ranking:
        *_, last = self.refine(query, candidates, num_explained=num_explained, vectors=vectors)
        return last

    def refine(
        self,
        query: Query,
        candidates: Sequence[Candidate],
        *,
        num_explained: int = 0,
        vectors: InlineVectors | None = None,
    ) -> Iterator[Ranking]:
        """Passes: the history, then two items each, then the explanations."""
        self.reranked.append(query)
        self.brought.append(vectors)
        waiting = sorted(candidates, key=lambda each: (each.rank, each.item_id))
        done: list[Candidate] = []
        yield self._ranking(done, waiting, tokens_ahead=self._tokens(0, 1))
        self.before_pass(0)
        yield self._ranking(done, waiting, tokens_ahead=self._tokens(1, PASS_SIZE))
        number = 1
        while waiting:
            self.before_pass(number)
            done, waiting = done + waiting[:PASS_SIZE], waiting[PASS_SIZE:]
            number += 1
            if waiting or num_explained:
                tokens = self._tokens(number, len(waiting[:PASS_SIZE]) or num_explained)
                yield self._ranking(done, waiting, tokens_ahead=tokens)
        if num_explained:
            self.before_pass(number)
        yield self._ranking(done, waiting, num_explained=num_explained)

    def _tokens(self, number: int, truth: int) -> int:
        return self.tokens_of_pass.get(number, truth)

    def _ranking(
        self,
        done: Sequence[Candidate],
        waiting: Sequence[Candidate],
        *,
        num_explained: int = 0,
        tokens_ahead: int = 0,
    ) -> Ranking:
        order = sorted(done, key=lambda each: (-_score(each.item_id), each.item_id))
        scored = [
            _ranked(each, rank, is_explained=rank <= num_explained)
            for rank, each in enumerate(order, start=1)
        ]
        others = [_not_scored(each, rank) for rank, each in enumerate(waiting, start=len(done) + 1)]
        return Ranking(
            items=(*scored, *others),
            generation_id=self._generation_id,
            judged_by="table" if done else "retrieval_order",
            logit_weight=LOGIT_WEIGHT,
            num_scored=len(done),
            tokens_ahead=tokens_ahead,
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
        Candidate(item_id=item_id, score=RETRIEVAL_SCORES.get(item_id, 0.0), rank=rank)
        for rank, item_id in enumerate(item_ids, start=1)
    ]


def _allowed(query: Query, item_ids: Iterable[str]) -> list[str]:
    return list(item_ids) if query.filters is None else ATTRIBUTES.passing(query.filters, item_ids)


def _score(item_id: str) -> float:
    return SCORES.get(item_id, 0.0)


def explained(item_id: str) -> Explanation:
    """Text is all that tells one item from another; `e` has none."""
    contributions = {"text": SCORES[item_id] - 0.05 if item_id != "e" else 0.0, "sequence": 0.0}
    return Explanation(base=0.05 if item_id != "e" else SCORES["e"], contributions=contributions)


def _ranked(candidate: Candidate, rank: int, *, is_explained: bool) -> RankedItem:
    has_vectors = candidate.item_id != "e"
    return RankedItem(
        item_id=candidate.item_id,
        rank=rank,
        score=_score(candidate.item_id),
        logit=_score(candidate.item_id) - candidate.score,
        status=Status.OK if has_vectors else Status.MISSING_VECTORS,
        retrieval_rank=candidate.rank,
        retrieval_score=candidate.score,
        present=(Modality.TEXT,) if has_vectors else (),
        probability=_score(candidate.item_id) / 2 if has_vectors else None,
        explanation=explained(candidate.item_id) if is_explained else None,
    )


def _not_scored(candidate: Candidate, rank: int) -> RankedItem:
    item = _ranked(candidate, rank, is_explained=False)
    prior = item.score - LOGIT_WEIGHT * item.logit
    return replace(item, score=prior, logit=0.0, status=Status.NOT_SCORED, probability=None)
