"""Queries in, runs out: the candidates as retrieved, the same ones reranked, and where exact
search would have put the right answers.

Both runs hold exactly the same items for each user, so that their difference is the reranker's
doing alone. An item that retrieval missed stays missed: no right answer is ever put in. Users go
in batches; of a batch nothing stays but ids, scores and ranks.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from evaluation.journal import Batch, Journal, Outcome
from evaluation.judgements import Judgement
from evaluation.packed import RunPacker
from evaluation.runs import Run
from ranker.ranking import Ranking
from retrieval.candidates import Candidate, Query

Retrieve = Callable[[Sequence[Query]], list[list[Candidate]]]
Rerank = Callable[[Query, Sequence[Candidate]], Ranking]
Route = tuple[Retrieve, Rerank]
ExactRanks = Callable[[Sequence[Query], Sequence[Collection[str]]], list[dict[str, int]]]
"""Queries and, for each, item ids -> the rank that each has where the whole catalog is searched
exactly; hidden items and those without any vector are absent. As `Retriever.exact_ranks`."""
OnProgress = Callable[[str, int, int], None]
"""Called with what is being done, how many users are done, and of how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exact:
    """What an exact search of the whole catalog would have done."""

    ranks: dict[str, dict[str, int]]
    """User -> judged item -> its rank, from 1; absent where no search can find it."""
    overlap: dict[str, float]
    """User -> which share of what it would have put among the first `limit` the index found, of
    the users who were compared and can be answered at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traveled:
    """What came of sending every query along one route."""

    retrieved: Run
    calibrated: Run
    """By the reranker's score without the LLM's logit: what the retriever's findings alone say."""
    reranked: Run
    """Like `calibrated` of those users alone whose candidates were reranked."""
    exact: Exact | None
    retrieve_s: float
    rerank_s: float
    exact_s: float
    num_candidates: int
    generation_ids: frozenset[str]

    @property
    def final(self) -> Run:
        """The order that is delivered: reranked, or retrieval's where nobody reranks."""
        return self.reranked if self.reranked.rankings else self.retrieved


def travel(
    queries: Sequence[Query],
    route: Route,
    *,
    name: str,
    limit: int,
    batch_size: int,
    on_progress: OnProgress,
    reranked: AbstractSet[str] | None = None,
    judgements: Sequence[Judgement] | None = None,
    exact_ranks: ExactRanks | None = None,
    compared: AbstractSet[str] = frozenset(),
    journal: Journal | None = None,
) -> Traveled:
    """Retrieve in batches, keep the first `limit` candidates, rerank user by user.

    Args:
        queries: Whom to ask for, each user once; sliced by batches, so that a lazy sequence
            stays lazy.
        route: How to retrieve and how to rerank.
        name: Of the route, for messages, progress and the journal.
        limit: How many candidates are kept.
        batch_size: Queries that are retrieved at a time, and become durable together.
        on_progress: Called after every user.
        reranked: The users whose candidates are reranked; None takes all.
        judgements: Aligned to the queries.
        exact_ranks: Asked for the ranks of what is judged; None asks nobody.
        compared: The users whose candidates' exact ranks are asked for as well, to compare them
            with what an exact search finds first.
        journal: Where finished batches are kept and found again.

    Raises:
        ValueError: queries of other users than judged, or of one user twice; retrieval answers
            fewer queries than asked; the reranker drops, adds or repeats an item.
    """
    trip = _Trip(
        name=name,
        retrieve=route[0],
        rerank=route[1],
        limit=limit,
        num_queries=len(queries),
        on_progress=on_progress,
        reranked=reranked,
        exact_ranks=exact_ranks,
        compared=compared,
    )
    packing = _Packing(name)
    for start in range(0, len(queries), batch_size):
        asked = queries[start : start + batch_size]
        judged = () if judgements is None else judgements[start : start + batch_size]
        users = [query.user_id for query in asked]
        if judgements is not None and users != [one.user_id for one in judged]:
            raise ValueError("queries and judgements must name the same users in the same order")
        batch = journal.read(name, start=start, user_ids=users) if journal else None
        if batch is None:
            batch = trip.go(asked, judged, start=start)
            if journal:
                journal.write(name, batch, start=start)
        packing.add(batch)
        on_progress(name, start + len(asked), len(queries))
    return packing.traveled()


def travel_back(
    queries: Sequence[Query],
    route: Route,
    *,
    name: str,
    limit: int,
    batch_size: int,
    journal: Journal,
    reranked: AbstractSet[str] | None = None,
    goes_on: Callable[[], bool],
) -> None:
    """Make the batches that the journal lacks, the last one first, for another process's `travel`
    with the same arguments, which comes from the front and then finds them.

    Args:
        goes_on: Asked before each batch; nothing is made once it says no.
    """
    trip = _Trip(
        name=name,
        retrieve=route[0],
        rerank=route[1],
        limit=limit,
        num_queries=len(queries),
        on_progress=lambda *_: None,
        reranked=reranked,
        exact_ranks=None,
        compared=frozenset(),
    )
    for start in reversed(range(0, len(queries), batch_size)):
        if not goes_on():
            return
        asked = queries[start : start + batch_size]
        users = [query.user_id for query in asked]
        if journal.read(name, start=start, user_ids=users) is None:
            journal.write(name, trip.go(asked, (), start=start), start=start)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trip:
    """How each batch of one route is made."""

    name: str
    retrieve: Retrieve
    rerank: Rerank
    limit: int
    num_queries: int
    on_progress: OnProgress
    reranked: AbstractSet[str] | None
    exact_ranks: ExactRanks | None
    compared: AbstractSet[str]

    def go(self, asked: Sequence[Query], judged: Sequence[Judgement], *, start: int) -> Batch:
        clock = [time.perf_counter()]
        lists = self.retrieve(asked)
        clock.append(time.perf_counter())
        if len(lists) != len(asked):
            raise ValueError(f"{self.name}: {len(asked)} queries gave {len(lists)} candidate lists")
        lists = [found[: self.limit] for found in lists]
        outcomes = [
            Outcome(
                user_id=query.user_id,
                retrieved=[candidate.item_id for candidate in candidates],
                retrieval_score=[candidate.score for candidate in candidates],
            )
            for query, candidates in zip(asked, lists, strict=True)
        ]
        if self.exact_ranks is not None:
            outcomes = self._traced(outcomes, asked, judged)
        clock.append(time.perf_counter())
        generation_ids: set[str] = set()
        for row, (query, candidates) in enumerate(zip(asked, lists, strict=True)):
            if self.reranked is None or query.user_id in self.reranked:
                ranking = self.rerank(query, candidates)
                outcomes[row] = self._reranked(outcomes[row], ranking)
                generation_ids.add(ranking.generation_id)
                self.on_progress(self.name, start + row + 1, self.num_queries)
        clock.append(time.perf_counter())
        return Batch(
            outcomes=tuple(outcomes),
            generation_ids=tuple(sorted(generation_ids)),
            retrieve_s=clock[1] - clock[0],
            exact_s=clock[2] - clock[1],
            rerank_s=clock[3] - clock[2],
        )

    def _traced(
        self,
        outcomes: Sequence[Outcome],
        asked: Sequence[Query],
        judged: Sequence[Judgement],
    ) -> list[Outcome]:
        """With the exact ranks of the judged items, and how many of the first were retrieved."""
        assert self.exact_ranks is not None
        wanted = [
            {*truth.item_ids, *one.retrieved} if one.user_id in self.compared else truth.item_ids
            for one, truth in zip(outcomes, judged, strict=True)
        ]
        answers = self.exact_ranks(asked, wanted)
        return [
            self._with_ranks(one, truth.item_ids, ranks)
            for one, truth, ranks in zip(outcomes, judged, answers, strict=True)
        ]

    def _with_ranks(
        self, outcome: Outcome, items: Collection[str], ranks: Mapping[str, int]
    ) -> Outcome:
        found = [item_id for item_id in sorted(items) if item_id in ranks]
        traced = replace(outcome, traced=found, exact_rank=[ranks[item_id] for item_id in found])
        if outcome.user_id not in self.compared:
            return traced
        # With fewer candidates than asked for, as many are in reach as any known rank says.
        reach = max([len(outcome.retrieved), *ranks.values()])
        is_first = [ranks.get(one, self.limit + 1) <= self.limit for one in outcome.retrieved]
        return replace(traced, num_first=min(self.limit, reach), num_first_found=sum(is_first))

    def _reranked(self, outcome: Outcome, ranking: Ranking) -> Outcome:
        order = [item.item_id for item in ranking.items]
        _check(self.name, outcome.user_id, outcome.retrieved, order)
        return replace(
            outcome,
            reranked=order,
            score=[item.score for item in ranking.items],
            logit=[ranking.logit_weight * item.logit for item in ranking.items],
        )


class _Packing:
    """Finished batches in, runs out."""

    def __init__(self, name: str) -> None:
        self._retrieved = RunPacker(f"{name}, retrieval order")
        self._calibrated = RunPacker(f"{name}, calibrated")
        self._reranked = RunPacker(f"{name}, reranked")
        self._exact = Exact(ranks={}, overlap={})
        self._spent = {"retrieve_s": 0.0, "rerank_s": 0.0, "exact_s": 0.0}
        self._num_candidates = 0
        self._generation_ids: set[str] = set()

    def add(self, batch: Batch) -> None:
        for one in batch.outcomes:
            self._retrieved.add(one.user_id, one.retrieved, one.retrieval_score)
            self._num_candidates += len(one.retrieved)
            self._add_reranked(one)
            self._add_exact(one)
        for name in self._spent:
            self._spent[name] += getattr(batch, name)
        self._generation_ids.update(batch.generation_ids)

    def _add_reranked(self, one: Outcome) -> None:
        ranked = one.reranked
        if ranked is None:
            return
        assert one.score is not None
        assert one.logit is not None
        self._reranked.add(one.user_id, ranked, one.score)
        priors = [score - logit for score, logit in zip(one.score, one.logit, strict=True)]
        order = sorted(range(len(priors)), key=lambda n: (-priors[n], ranked[n]))
        self._calibrated.add(one.user_id, [ranked[n] for n in order], [priors[n] for n in order])

    def _add_exact(self, one: Outcome) -> None:
        if one.traced is None:
            return
        assert one.exact_rank is not None
        self._exact.ranks[one.user_id] = dict(zip(one.traced, one.exact_rank, strict=True))
        if one.num_first:
            assert one.num_first_found is not None
            self._exact.overlap[one.user_id] = one.num_first_found / one.num_first

    def traveled(self) -> Traveled:
        return Traveled(
            retrieved=self._retrieved.run(),
            calibrated=self._calibrated.run(),
            reranked=self._reranked.run(),
            exact=self._exact if self._exact.ranks else None,
            num_candidates=self._num_candidates,
            generation_ids=frozenset(self._generation_ids),
            **self._spent,
        )


def _check(name: str, user_id: str, before: Sequence[str], after: Sequence[str]) -> None:
    if sorted(before) == sorted(after):
        return
    lost = sorted(set(before) - set(after))[:3]
    added = sorted(set(after) - set(before))[:3]
    raise ValueError(
        f"{name}: reranking for user {user_id!r} returned other items than it was given "
        f"({len(before)} in, {len(after)} out; lost {lost}, added {added}); a reranker returns "
        "every candidate exactly once"
    )
