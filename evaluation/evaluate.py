"""Judgements and a route in, a report out: what retrieval finds, what reranking makes of it, and
where the rest got lost.

Every user is ranked over the whole catalog: negatives are never sampled, since sampled metrics do
not even keep the order of two systems (Krichene and Rendle, KDD 2020). The candidates are
retrieved once and measured twice, in retrieval's order and reranked, so that the difference is
the reranker's alone. All intervals share one set of resampled users.

Memory grows by some hundred bytes for each candidate of each judged user's, and by nothing else
that is per user: batches are measured and dropped.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evaluation.example import Example
from evaluation.findings import Background, Findings
from evaluation.journal import Journal
from evaluation.judgements import Judgement, drawn
from evaluation.ledger import Positive
from evaluation.protocol import EvaluationConfig
from evaluation.report import Report
from evaluation.routes import (
    ExactRanks,
    OnProgress,
    Rerank,
    Retrieve,
    Route,
    Traveled,
    travel,
    travel_back,
)
from evaluation.runs import Run
from retrieval.candidates import Query


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """A report, and the rankings that it was made from."""

    report: Report
    judgements: tuple[Judgement, ...]
    runs: Mapping[str, Run]
    """Route -> run, but for the ceiling, which follows from the others. `calibrated` and `rerank`
    hold those users alone whose candidates were reranked, and are missing where nobody's were."""
    positives: tuple[Positive, ...]
    """What became of each chosen item; empty where exact search was not asked."""


def evaluate(
    judgements: Sequence[Judgement],
    *,
    retrieve: Retrieve,
    rerank: Rerank,
    background: Background,
    exact_ranks: ExactRanks | None = None,
    ablations: Mapping[str, Route] | None = None,
    queries: Sequence[Query] | None = None,
    config: EvaluationConfig | None = None,
    counts: Mapping[str, int] | None = None,
    manifest: Mapping[str, Any] | None = None,
    example: Example | None = None,
    journal: Journal | None = None,
    on_progress: OnProgress | None = None,
) -> Evaluation:
    """Send every judged user along the route, and along each ablated one, and measure.

    Args:
        judgements: Who is judged by what, in any order; one for each user. Their moments may
            differ, as a warm-up makes them.
        retrieve: A batch of queries -> their candidates, best first, at least
            `config.num_candidates` each where there are so many.
        rerank: One query and its candidates -> every candidate exactly once. Not called where
            `config.max_reranked` is 0.
        background: What was known when the users were asked.
        exact_ranks: Where items stand in an exact search of the whole catalog, as
            `Retriever.exact_ranks`. None: neither the index's loss nor the ledger is reported.
        ablations: Modality -> the same route without it in retrieval and in fusion; asked for
            those users whose candidates are reranked, or for all where nobody's are.
        queries: Aligned to `judgements`, and sliced batch by batch, so that it may be lazy; None
            asks for each user as of the judgement's time.
        counts, manifest: Further facts to report, such as `Split.counts` and the generation's id.
            Where users are warmed up give the manifest its `cut`, which otherwise is the earliest
            moment at which anybody is asked.
        journal: Where finished batches are kept, and found again after a kill.
        on_progress: Called after every user.

    Raises:
        ValueError: nobody is judged, a user is judged twice, queries of other users, or a route
            that breaks its contract.
    """
    config = config or EvaluationConfig()
    asked = _queries(judgements, queries)
    journey = _Journey(
        judgements=tuple(judgements),
        queries=asked,
        config=config,
        reranked=drawn(judgements, config.max_reranked, config.seed),
        journal=journal,
        on_progress=on_progress or _say_nothing,
    )
    full = journey.full((retrieve, rerank), exact_ranks)
    ablated = {name: journey.ablated(name, one) for name, one in (ablations or {}).items()}
    findings = Findings(
        judgements=journey.judgements,
        measured=journey.measured,
        full=full,
        ablated=ablated,
        background=background,
        config=config,
    )
    return Evaluation(
        report=findings.report(counts or {}, manifest or {}, example),
        judgements=journey.judgements,
        runs=findings.runs,
        positives=findings.positives,
    )


def make_ahead(
    judgements: Sequence[Judgement],
    *,
    ablations: Mapping[str, Route],
    queries: Sequence[Query],
    config: EvaluationConfig,
    journal: Journal,
    goes_on: Callable[[], bool],
) -> None:
    """Fill the journal with ablations, from the end, for an `evaluate` of the same arguments.

    It may run in another process at the same time: whichever of the two comes to a batch first
    makes it, and both make the same.

    Args:
        goes_on: Asked before each batch; nothing is made once it says no.
    """
    journey = _Journey(
        judgements=tuple(judgements),
        queries=_queries(judgements, queries),
        config=config,
        reranked=drawn(judgements, config.max_reranked, config.seed),
        journal=journal,
        on_progress=_say_nothing,
    )
    for name, route in reversed(list(ablations.items())):
        travel_back(
            journey.ablated_queries,
            route,
            name=journey.ablation_name(name),
            limit=config.num_candidates,
            batch_size=config.batch_size,
            journal=journal,
            reranked=journey.reranked,
            goes_on=goes_on,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Journey:
    """Who goes along each route."""

    judgements: tuple[Judgement, ...]
    queries: Sequence[Query]
    config: EvaluationConfig
    reranked: frozenset[str]
    journal: Journal | None
    on_progress: OnProgress

    @property
    def measured(self) -> tuple[Judgement, ...]:
        """Of those whose candidates are reranked; all of them where nobody's are."""
        if len(self.reranked) in (0, len(self.judgements)):
            return self.judgements
        return tuple(one for one in self.judgements if one.user_id in self.reranked)

    def full(self, route: Route, exact_ranks: ExactRanks | None) -> Traveled:
        config = self.config
        compared = drawn(self.judgements, config.exact_users, config.seed + 1)
        return travel(
            self.queries,
            route,
            name="full",
            limit=config.num_candidates,
            batch_size=config.batch_size,
            on_progress=self.on_progress,
            reranked=self.reranked,
            judgements=self.judgements,
            exact_ranks=exact_ranks,
            compared=compared,
            journal=self.journal,
        )

    @property
    def ablated_queries(self) -> Sequence[Query]:
        """Of those who are measured."""
        measured = {one.user_id for one in self.measured}
        if len(measured) == len(self.judgements):
            return self.queries
        return [self.queries[n] for n, one in enumerate(self.judgements) if one.user_id in measured]

    @staticmethod
    def ablation_name(name: str) -> str:
        """Of a route without a block, for progress and the journal."""
        return f"without {name}"

    def ablated(self, name: str, route: Route) -> Traveled:
        return travel(
            self.ablated_queries,
            route,
            name=self.ablation_name(name),
            limit=self.config.num_candidates,
            batch_size=self.config.batch_size,
            on_progress=self.on_progress,
            reranked=self.reranked,
            judgements=self.measured,
            journal=self.journal,
        )


def _queries(judgements: Sequence[Judgement], queries: Sequence[Query] | None) -> Sequence[Query]:
    if not judgements:
        raise ValueError(
            "nobody is judged: no user with a history chose a new item after the cut; "
            "move the cut to an earlier time or ask for less history"
        )
    if len({judgement.user_id for judgement in judgements}) != len(judgements):
        raise ValueError("a user is judged twice")
    if queries is None:
        return [Query(user_id=one.user_id, as_of=one.as_of) for one in judgements]
    if len(queries) != len(judgements):
        raise ValueError(f"{len(queries)} queries came for {len(judgements)} judgements")
    return queries


def _say_nothing(name: str, done: int, total: int) -> None:
    """The progress of an evaluation that nobody watches."""
