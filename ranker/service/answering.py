"""One request's blocking work: candidates found, reranked and named, each stage timed.

Runs in a worker thread and touches neither gRPC's context nor the event loop. Before every pass of
the LLM it asks whether anybody still waits, and whether there is time: a request that may be
answered at any time is answered with what is known once the next pass is likely to take too long.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from feature_repo.base import Unreachable
from ranker.inline import InlineVectors
from ranker.ranking import RankedItem, Ranking, Status
from ranker.service import statuses
from ranker.service.pace import Pace
from ranker.service.workers import Job
from ranker.serving import Serving
from retrieval.candidates import Candidate, Query

RESERVE_S = 0.005  # kept of a caller's time for writing the answer and bringing it there


class Stopwatch:
    """Seconds of named stages; it runs from its making."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self.seconds: dict[str, float] = {"queue": 0.0, "retrieve": 0.0, "rerank": 0.0}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times what happens inside, on top of what the stage took before."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - began

    def lap(self, name: str) -> None:
        """Books everything since the making under this stage."""
        self.seconds[name] = time.perf_counter() - self._began


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a checked request asks of one generation."""

    method: str
    serving: Serving
    query: Query
    find: Callable[[Query], Sequence[Candidate]]
    """The candidates, given the query with the history that was found in the store."""
    asked: tuple[str, ...] = ()
    """The items that the caller brought; those that are not found are reported."""
    vectors: InlineVectors | None = None
    """What the caller brought for some of them."""
    top_k: int
    explains: bool = False
    """Whether all that is returned is explained."""
    anytime: bool = False
    """Whether an answer that is not complete is better than none."""
    pace: Pace = field(default_factory=Pace)
    """Of those who carry out; what it learns serves the next request."""
    is_stale: bool = False
    """Whether the stored history may be older than it should be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What goes into the response."""

    items: tuple[tuple[RankedItem, str], ...]
    """Each with its title, which is empty for an unknown item."""
    judged_by: str
    logit_weight: float
    num_candidates: int
    num_scored: int
    is_final: bool
    """Whether none follows."""
    degraded: bool
    """Whether time ran out before it was complete, or history or preference may be too old."""


def carry_out(plan: Plan, job: Job, watch: Stopwatch) -> Outcome:
    """The last of `steps`; none of the others is made.

    Raises:
        StatusError: an unknown user, a deadline that passed, or a store that does not answer.
    """
    plan = _with_history(plan, watch)
    candidates = _found(plan, job, watch)
    *_, (last, _) = _rankings(plan, candidates, job, watch)
    return _outcome(plan, candidates, last, is_final=True)


def steps(plan: Plan, job: Job, watch: Stopwatch) -> Iterator[Outcome]:
    """Finds and reranks, better with each outcome; the last one says that it is final.

    The deadline and the caller's patience are looked at between all stages and passes. Where the
    plan is `anytime`, a deadline that comes near ends the steps, after the retriever's order at
    least; else it ends the request.

    Raises:
        StatusError: an unknown user, a deadline that passed, or a store that does not answer.
    """
    plan = _with_history(plan, watch)
    candidates = _found(plan, job, watch)
    num_scored = -1
    for ranking, is_final in _rankings(plan, candidates, job, watch):
        if is_final or ranking.num_scored > num_scored:
            num_scored = ranking.num_scored
            yield _outcome(plan, candidates, ranking, is_final=is_final)


def _with_history(plan: Plan, watch: Stopwatch) -> Plan:
    """Looks a stored user's history up, once for all that follows."""
    watch.lap("queue")
    user_id, serving = plan.query.user_id, plan.serving
    if not user_id:
        return plan
    with watch.stage("retrieve"):
        try:
            history = serving.history(user_id)
        except Unreachable as error:
            raise statuses.store_unavailable(user_id) from error
    if history is None:
        raise statuses.unknown_user(user_id)
    query = replace(plan.query, history=history)
    return replace(plan, query=query, is_stale=serving.is_degraded)


def _found(plan: Plan, job: Job, watch: Stopwatch) -> Sequence[Candidate]:
    _check(plan, job, "retrieval")
    with watch.stage("retrieve"):
        return plan.find(plan.query)


def _check(plan: Plan, job: Job, stage: str) -> None:
    """What an `anytime` plan gets however late it is, it gets only while somebody waits for it."""
    if job.is_dropped or not plan.anytime:
        job.check(stage)


def _rankings(
    plan: Plan, candidates: Sequence[Candidate], job: Job, watch: Stopwatch
) -> Iterator[tuple[Ranking, bool]]:
    """Every ranking of the candidates, and whether it is the final one.

    The first costs no pass of the LLM: an `anytime` plan gets it however late it is.
    """
    serving = plan.serving
    if not candidates:
        yield Ranking(items=(), generation_id=serving.info.generation_id, judged_by=""), True
        return
    _check(plan, job, "reranking")
    refined = serving.refine(
        plan.query,
        candidates,
        num_explained=plan.top_k if plan.explains else 0,
        vectors=plan.vectors,
    )
    with watch.stage("rerank"):
        ranking = next(refined)
    while ranking.tokens_ahead and not _is_short(plan, job, ranking):
        yield ranking, False
        job.check("the next pass of the LLM")
        began = time.perf_counter()
        with watch.stage("rerank"):
            better = next(refined)
        plan.pace.learn(num_tokens=_done(ranking, better), seconds=time.perf_counter() - began)
        ranking = better
    yield ranking, True


def _is_short(plan: Plan, job: Job, ranking: Ranking) -> bool:
    """Whether the next better ranking is likely to come too late for whoever would rather stop."""
    if not plan.anytime:
        return False
    return job.time_left_s < RESERVE_S + plan.pace.likely_s(ranking.tokens_ahead)


def _done(before: Ranking, after: Ranking) -> int:
    """How many tokens the pass between two rankings computed."""
    is_better = after.num_scored > before.num_scored
    return before.tokens_ahead - (0 if is_better else after.tokens_ahead)


def _outcome(
    plan: Plan, candidates: Sequence[Candidate], ranking: Ranking, *, is_final: bool
) -> Outcome:
    items = _complete(ranking, plan, candidates)
    return Outcome(
        items=tuple((item, plan.serving.title(item.item_id) or "") for item in items),
        judged_by=ranking.judged_by,
        logit_weight=ranking.logit_weight,
        num_candidates=len(candidates),
        num_scored=ranking.num_scored,
        is_final=is_final,
        degraded=_is_stale(plan) or (is_final and ranking.tokens_ahead > 0),
    )


def _is_stale(plan: Plan) -> bool:
    """Whether what the store told of the user may be too old: what was written of their preference
    is read after the history."""
    return plan.is_stale or (bool(plan.query.user_id) and plan.serving.is_degraded)


def _complete(
    ranking: Ranking, plan: Plan, candidates: Sequence[Candidate]
) -> Sequence[RankedItem]:
    """The ranking, then by id what could not be ranked, cut to what was asked for."""
    first = ranking.items[: plan.top_k]
    if len(first) == plan.top_k and all(item.rank > 0 for item in first):
        return first  # a page of a long list: the rest need not be looked at
    found = {candidate.item_id for candidate in candidates}
    ranked = [item for item in ranking.items if item.rank > 0]
    unranked = [item for item in ranking.items if item.rank == 0]
    unranked += [_left_out(item_id, plan) for item_id in plan.asked if item_id not in found]
    unranked.sort(key=lambda item: item.item_id)
    return (ranked + unranked)[: plan.top_k]


def _left_out(item_id: str, plan: Plan) -> RankedItem:
    """An item that the caller brought and that is no candidate: unknown, or not to be shown."""
    is_brought = plan.vectors is not None and item_id in plan.vectors.item_ids
    is_known = is_brought or plan.serving.title(item_id) is not None
    return RankedItem(
        item_id=item_id,
        rank=0,
        score=0.0,
        logit=0.0,
        status=Status.FILTERED if is_known and plan.query.filters else Status.UNKNOWN_ITEM,
        retrieval_rank=0,
        retrieval_score=0.0,
    )
