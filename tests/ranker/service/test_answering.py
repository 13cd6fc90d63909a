"""One request's blocking work, without any server around it."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import grpc
import pytest

from embedders.items import Interaction
from feature_repo.base import Unreachable
from ranker.ranking import Ranking, Status
from ranker.service.answering import Plan, Stopwatch, carry_out, steps
from ranker.service.statuses import Reason, StatusError
from ranker.service.workers import Job
from retrieval.candidates import Candidate, Query
from tests.ranker.serving_world import SEEN, TableServing


class Forgetful(TableServing):
    """Cannot rank `c`, and says so at the head of its ranking."""

    def refine(
        self, query: Query, candidates: Sequence[Candidate], **wishes: Any
    ) -> Iterator[Ranking]:
        for ranking in super().refine(query, candidates, **wishes):
            unranked = [
                replace(item, rank=0, status=Status.UNKNOWN_ITEM)
                for item in ranking.items
                if item.item_id == "c"
            ]
            others = [item for item in ranking.items if item.item_id != "c"]
            yield replace(ranking, items=(*unranked, *others))


class Counting(TableServing):
    """Counts how often histories are looked up."""

    num_asked = 0

    def history(self, user_id: str) -> tuple[Interaction, ...] | None:
        self.num_asked += 1
        return super().history(user_id)


def plan(serving: TableServing, *asked: str, user_id: str = "ada", top_k: int = 9) -> Plan:
    query = Query(user_id=user_id)
    return Plan(
        method="Rerank",
        serving=serving,
        query=query,
        find=lambda query: serving.score(query, asked),
        asked=asked,
        top_k=top_k,
    )


def test_whatever_could_not_be_ranked_comes_last_by_id() -> None:
    outcome = carry_out(plan(Forgetful(), "c", "zz", "b", "aa", "a"), Job(), Stopwatch())
    assert [(item.item_id, item.rank) for item, _ in outcome.items] == [
        ("b", 2),
        ("a", 3),
        ("aa", 0),
        ("c", 0),
        ("zz", 0),
    ]
    assert [title for _, title in outcome.items] == ["The b", "The a", "", "The c", ""]
    assert outcome.num_candidates == 3


def test_the_cut_takes_ranked_items_first() -> None:
    outcome = carry_out(plan(TableServing(), "aa", "b", "a", top_k=2), Job(), Stopwatch())
    assert [item.item_id for item, _ in outcome.items] == ["b", "a"]


def test_an_unknown_user_is_refused_before_any_candidate_is_looked_for() -> None:
    serving = TableServing()
    with pytest.raises(StatusError) as refused:
        carry_out(plan(serving, "a", user_id="bob"), Job(), Stopwatch())
    assert refused.value.reason is Reason.UNKNOWN_USER
    assert not serving.entered.acquire(blocking=False)


def test_a_history_is_looked_up_once_and_read_by_all_that_follows() -> None:
    serving = Counting()
    outcome = carry_out(plan(serving, "a", "b"), Job(), Stopwatch())
    assert serving.num_asked == 1
    assert [query.history for query in serving.reranked] == [(SEEN,)]
    assert not outcome.degraded


def test_an_answer_from_an_old_history_says_that_it_is_degraded() -> None:
    serving = TableServing()
    serving.is_degraded = True
    assert carry_out(plan(serving, "a"), Job(), Stopwatch()).degraded
    assert all(outcome.degraded for outcome in steps(plan(serving, "a"), Job(), Stopwatch()))
    inline = plan(serving, "a", user_id="")
    inline = replace(inline, query=Query(history=()))
    assert not carry_out(inline, Job(), Stopwatch()).degraded, "nothing of the store is in it"


def test_a_store_that_does_not_answer_is_no_fault_of_the_caller() -> None:
    serving = TableServing()
    serving.history_error = Unreachable("the online store (redis) failed")
    with pytest.raises(StatusError) as refused:
        carry_out(plan(serving, "a"), Job(), Stopwatch())
    assert refused.value.reason is Reason.STORE_UNAVAILABLE
    assert refused.value.code is grpc.StatusCode.UNAVAILABLE
    assert not serving.entered.acquire(blocking=False)


def test_reranking_does_not_begin_after_the_deadline() -> None:
    serving = TableServing()
    with pytest.raises(StatusError) as refused:
        carry_out(plan(serving, "a"), Job(0), Stopwatch())
    assert refused.value.reason is Reason.DEADLINE_EXCEEDED
    assert refused.value.message.startswith("the deadline passed before reranking")
    assert serving.reranked == []


def test_every_stage_is_timed() -> None:
    watch = Stopwatch()
    carry_out(plan(TableServing(), "a"), Job(), watch)
    assert set(watch.seconds) == {"queue", "retrieve", "rerank"}
    assert all(seconds > 0 for seconds in watch.seconds.values())
