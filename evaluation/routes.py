"""Queries in, two runs out: the candidates as retrieved, and the same candidates reranked.

Both runs hold exactly the same items for each user, so that their difference is the reranker's
doing alone. An item that retrieval missed stays missed: no right answer is ever put in.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from evaluation.runs import Run
from ranker.ranking import Ranking
from retrieval.candidates import Candidate, Query

Retrieve = Callable[[Sequence[Query]], list[list[Candidate]]]
Rerank = Callable[[Query, Sequence[Candidate]], Ranking]
Route = tuple[Retrieve, Rerank]
OnProgress = Callable[[str, int, int], None]
"""Called with what is being done, how many users are done, and of how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traveled:
    """What came of sending every query along one route."""

    retrieved: Run
    calibrated: Run
    """By the reranker's score without the LLM's logit: what the retriever's findings alone say."""
    reranked: Run
    retrieve_s: float
    rerank_s: float
    num_candidates: int
    generation_ids: frozenset[str]


def travel(
    queries: Sequence[Query],
    route: Route,
    *,
    name: str,
    limit: int,
    batch_size: int,
    on_progress: OnProgress,
) -> Traveled:
    """Retrieve in batches, keep the first `limit` candidates, rerank user by user.

    Raises:
        ValueError: retrieval answers fewer queries than asked, or the reranker drops, adds or
            repeats an item.
    """
    retrieve, rerank = route
    retrieved: dict[str, list[str]] = {}
    calibrated: dict[str, list[str]] = {}
    reranked: dict[str, list[str]] = {}
    generation_ids: set[str] = set()
    retrieve_s = rerank_s = 0.0
    for start in range(0, len(queries), batch_size):
        batch = queries[start : start + batch_size]
        started = time.perf_counter()
        lists = retrieve(batch)
        retrieve_s += time.perf_counter() - started
        if len(lists) != len(batch):
            raise ValueError(f"{name}: {len(batch)} queries gave {len(lists)} candidate lists")
        started = time.perf_counter()
        for done, (query, found) in enumerate(zip(batch, lists, strict=True), start=start + 1):
            candidates = found[:limit]
            ranking = rerank(query, candidates)
            retrieved[query.user_id] = [candidate.item_id for candidate in candidates]
            reranked[query.user_id] = [item.item_id for item in ranking.items]
            by_prior = sorted(ranking.items, key=lambda one: (one.logit - one.score, one.item_id))
            calibrated[query.user_id] = [item.item_id for item in by_prior]
            generation_ids.add(ranking.generation_id)
            _check(name, query, retrieved[query.user_id], reranked[query.user_id])
            on_progress(name, done, len(queries))
        rerank_s += time.perf_counter() - started
    return Traveled(
        retrieved=Run(name=f"{name}, retrieval order", rankings=retrieved),
        calibrated=Run(name=f"{name}, calibrated", rankings=calibrated),
        reranked=Run(name=f"{name}, reranked", rankings=reranked),
        retrieve_s=retrieve_s,
        rerank_s=rerank_s,
        num_candidates=sum(map(len, retrieved.values())),
        generation_ids=frozenset(generation_ids),
    )


def _check(name: str, query: Query, before: list[str], after: list[str]) -> None:
    if sorted(before) == sorted(after):
        return
    lost = sorted(set(before) - set(after))[:3]
    added = sorted(set(after) - set(before))[:3]
    raise ValueError(
        f"{name}: reranking for user {query.user_id!r} returned other items than it was given "
        f"({len(before)} in, {len(after)} out; lost {lost}, added {added}); a reranker returns "
        "every candidate exactly once"
    )
