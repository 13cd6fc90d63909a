"""One request's blocking work: candidates found, reranked and named, each stage timed.

Runs in a worker thread and touches neither gRPC's context nor the event loop.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from ranker.ranking import RankedItem, Ranking, Status
from ranker.service import statuses
from ranker.service.workers import Job
from ranker.serving import Serving
from retrieval.candidates import Candidate, Query


class Stopwatch:
    """Seconds of named stages; it runs from its making."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self.seconds: dict[str, float] = {"queue": 0.0, "retrieve": 0.0, "rerank": 0.0}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times what happens inside."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = time.perf_counter() - began

    def lap(self, name: str) -> None:
        """Books everything since the making under this stage."""
        self.seconds[name] = time.perf_counter() - self._began


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a checked request asks of one generation."""

    method: str
    serving: Serving
    query: Query
    find: Callable[[], Sequence[Candidate]]
    asked: tuple[str, ...] = ()
    """The items that the caller brought; those that are not found are reported."""
    top_k: int
    explains: bool = False
    """Whether all that is returned is explained."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What goes into the response."""

    items: tuple[tuple[RankedItem, str], ...]
    """Each with its title, which is empty for an unknown item."""
    judged_by: str
    logit_weight: float
    num_candidates: int


def carry_out(plan: Plan, job: Job, watch: Stopwatch) -> Outcome:
    """Finds and reranks; the deadline and the caller's patience are looked at between.

    Raises:
        StatusError: an unknown user, or a deadline that passed.
    """
    watch.lap("queue")
    user_id, serving = plan.query.user_id, plan.serving
    if user_id and serving.history(user_id) is None:
        raise statuses.unknown_user(user_id)
    with watch.stage("retrieve"):
        candidates = plan.find()
    job.check("reranking")
    ranking = None
    if candidates:
        with watch.stage("rerank"):
            ranking = serving.rerank(
                plan.query, candidates, num_explained=plan.top_k if plan.explains else 0
            )
    items = _complete(ranking, plan, found={candidate.item_id for candidate in candidates})
    return Outcome(
        items=tuple((item, serving.title(item.item_id) or "") for item in items),
        judged_by=ranking.judged_by if ranking else "",
        logit_weight=ranking.logit_weight if ranking else 1.0,
        num_candidates=len(candidates),
    )


def _complete(ranking: Ranking | None, plan: Plan, *, found: set[str]) -> list[RankedItem]:
    """The ranking, then by id what could not be ranked, cut to what was asked for."""
    judged = ranking.items if ranking else ()
    ranked = [item for item in judged if item.rank > 0]
    unranked = [item for item in judged if item.rank == 0]
    unranked += [_unknown(item_id) for item_id in plan.asked if item_id not in found]
    unranked.sort(key=lambda item: item.item_id)
    return (ranked + unranked)[: plan.top_k]


def _unknown(item_id: str) -> RankedItem:
    return RankedItem(
        item_id=item_id,
        rank=0,
        score=0.0,
        logit=0.0,
        status=Status.UNKNOWN_ITEM,
        retrieval_rank=0,
        retrieval_score=0.0,
    )
