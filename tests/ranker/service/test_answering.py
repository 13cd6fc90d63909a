"""One request's blocking work, without any server around it."""

from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from dataclasses import replace
from typing import Any

import grpc
import pytest

from embedders.items import Interaction
from feature_repo.base import Unreachable
from ranker.ranking import Ranking, Status
from ranker.service import answering
from ranker.service.answering import RESERVE_S, Outcome, Plan, Stopwatch, carry_out, steps
from ranker.service.pace import Pace
from ranker.service.statuses import Reason, StatusError
from ranker.service.workers import Job
from retrieval.candidates import Candidate, Query
from retrieval.filters import Filter
from tests.ranker.serving_world import BEST_FIRST, SEEN, TableServing


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


def test_retrieval_does_not_begin_after_the_deadline() -> None:
    serving = TableServing()
    with pytest.raises(StatusError) as refused:
        carry_out(plan(serving, "a"), Job(0), Stopwatch())
    assert refused.value.reason is Reason.DEADLINE_EXCEEDED
    assert refused.value.message.startswith("the deadline passed before retrieval")
    assert serving.reranked == []


def test_every_stage_is_timed() -> None:
    watch = Stopwatch()
    carry_out(plan(TableServing(), "a"), Job(), watch)
    assert set(watch.seconds) == {"queue", "retrieve", "rerank"}
    assert all(seconds > 0 for seconds in watch.seconds.values())


ALL = ("a", "b", "c", "d", "e")  # in retrieval's order; two of them are scored in a pass
TOKEN_S = 0.01


class Clock:
    """Time that passes only where a test lets it."""

    def __init__(self) -> None:
        self.now = 50.0

    def perf_counter(self) -> float:
        return self.now


class Timed(Job):
    """A job by such a clock."""

    def __init__(self, clock: Clock, deadline_s: float) -> None:
        super().__init__()
        self._clock = clock
        self.ends = clock.now + deadline_s

    @property
    def time_left_s(self) -> float:
        return self.ends - self._clock.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(answering, "time", made)
    return made


@pytest.fixture
def serving(clock: Clock) -> TableServing:
    """Its passes take so long for each token that they say they have."""
    made = TableServing()
    made.tokens_of_pass = {0: 7 + 2, 1: 2, 2: 2, 3: 1, 4: 155}
    own = {0: 7, 1: 2, 2: 2, 3: 1, 4: 155}  # reading the history comes with the first pass

    def passed(number: int) -> None:
        clock.now += own[number] * TOKEN_S

    made.before_pass = passed
    return made


@pytest.fixture
def pace(clock: Clock) -> Pace:
    known = Pace(clock=clock.perf_counter)
    known.learn(num_tokens=1, seconds=TOKEN_S)
    return known


def anytime(serving: TableServing, pace: Pace, **more: Any) -> Plan:
    return replace(plan(serving, *ALL), anytime=True, pace=pace, **more)


def scored(outcome: Outcome) -> list[str]:
    return [item.item_id for item, _ in outcome.items if item.status is not Status.NOT_SCORED]


@pytest.mark.parametrize(
    ("num_tokens", "expected"),
    [
        (0, []),
        (8.9, []),  # the history alone would be read in time, but nothing comes of that
        (9.1, ["b", "a"]),
        (10.9, ["b", "a"]),
        (11.1, ["c", "d", "b", "a"]),
        (12.1, BEST_FIRST),
    ],
)
def test_out_of_time_what_is_scored_comes_first_and_then_retrievals_order(
    num_tokens: float, expected: list[str], serving: TableServing, pace: Pace, clock: Clock
) -> None:
    job = Timed(clock, num_tokens * TOKEN_S + RESERVE_S)
    outcome = carry_out(anytime(serving, pace), job, Stopwatch())
    assert scored(outcome) == expected
    rest = [item.item_id for item, _ in outcome.items[len(expected) :]]
    assert rest == [one for one in ALL if one not in expected]
    assert [item.rank for item, _ in outcome.items] == [1, 2, 3, 4, 5]
    assert outcome.num_scored == len(expected)
    assert outcome.degraded == (expected != BEST_FIRST)
    assert outcome.judged_by == ("table" if expected else "retrieval_order")
    assert clock.now <= job.ends - RESERVE_S or num_tokens == 0


def test_a_deadline_that_passed_while_waiting_still_leaves_retrievals_order(
    serving: TableServing, pace: Pace, clock: Clock
) -> None:
    outcome = carry_out(anytime(serving, pace), Timed(clock, -1), Stopwatch())
    assert [item.item_id for item, _ in outcome.items] == list(ALL)
    assert outcome.degraded


def test_with_time_enough_anytime_changes_nothing(
    serving: TableServing, pace: Pace, clock: Clock
) -> None:
    for explains in (False, True):
        plain = replace(plan(serving, *ALL), explains=explains)
        expected = carry_out(plain, Timed(clock, 60), Stopwatch())
        assert carry_out(replace(plain, anytime=True), Timed(clock, 60), Stopwatch()) == expected
        *_, last = steps(replace(plain, anytime=True), Timed(clock, 60), Stopwatch())
        assert last == expected
    assert not expected.degraded
    assert all(item.explanation for item, _ in expected.items)


def test_an_explanation_is_not_begun_that_would_not_be_done(
    serving: TableServing, pace: Pace, clock: Clock
) -> None:
    job = Timed(clock, 100 * TOKEN_S)
    outcome = carry_out(anytime(serving, pace, explains=True), job, Stopwatch())
    assert [item.item_id for item, _ in outcome.items] == BEST_FIRST
    assert not any(item.explanation for item, _ in outcome.items)
    assert outcome.degraded
    assert outcome.num_scored == 5
    assert clock.now < job.ends - 80 * TOKEN_S, "the time was not spent"


def test_without_a_known_pace_the_first_pass_teaches_the_next(
    serving: TableServing, clock: Clock
) -> None:
    pace = Pace(clock=clock.perf_counter)
    late = carry_out(anytime(serving, pace), Timed(clock, 2 * TOKEN_S), Stopwatch())
    assert late.num_scored == 0, "it read the history, and knew then"
    asked = len(serving.reranked)
    began = clock.now
    again = carry_out(anytime(serving, pace), Timed(clock, 2 * TOKEN_S), Stopwatch())
    assert (again.num_scored, clock.now) == (0, began), "nothing was begun"
    assert len(serving.reranked) == asked + 1


def test_the_steps_get_better_and_only_the_last_is_final(
    serving: TableServing, pace: Pace, clock: Clock
) -> None:
    found = list(steps(anytime(serving, pace, explains=True), Timed(clock, 60), Stopwatch()))
    assert [one.num_scored for one in found] == [0, 2, 4, 5, 5]
    assert [one.is_final for one in found] == [False] * 4 + [True]
    assert not any(one.degraded for one in found)
    assert [item.item_id for item, _ in found[0].items] == list(ALL)
    assert found[-2].items != found[-1].items, "explained"
    cut = list(steps(anytime(serving, pace), Timed(clock, 11.1 * TOKEN_S), Stopwatch()))
    assert [(one.num_scored, one.is_final, one.degraded) for one in cut] == [
        (0, False, False),
        (2, True, True),
    ]


def test_a_deadline_between_two_passes_ends_a_request_that_wants_all_or_nothing(
    serving: TableServing, clock: Clock
) -> None:
    passes: list[int] = []
    inner = serving.before_pass
    serving.before_pass = lambda number: (passes.append(number), inner(number))[1]
    with pytest.raises(StatusError) as refused:
        carry_out(plan(serving, *ALL), Timed(clock, 8 * TOKEN_S), Stopwatch())
    assert refused.value.reason is Reason.DEADLINE_EXCEEDED
    assert passes == [0, 1], "the pass in which time ran out was the last"


@pytest.mark.parametrize("is_anytime", [False, True])
def test_whoever_gives_up_between_two_passes_stops_the_work(
    is_anytime: bool, serving: TableServing
) -> None:
    job, passes = Job(), list[int]()

    def given_up(number: int) -> None:
        passes.append(number)
        if number == 1:
            job.drop()

    serving.before_pass = given_up
    with pytest.raises(CancelledError):
        carry_out(replace(plan(serving, *ALL), anytime=is_anytime), job, Stopwatch())
    assert passes == [0, 1]


def test_an_item_that_the_filter_excludes_is_told_from_one_that_nobody_knows() -> None:
    asked = plan(TableServing(), "a", "b", "zz")
    asked = replace(asked, query=Query(user_id="ada", filters=Filter(deny=frozenset("a"))))
    outcome = carry_out(asked, Job(), Stopwatch())
    assert [(item.item_id, item.rank, item.status) for item, _ in outcome.items] == [
        ("b", 1, Status.OK),
        ("a", 0, Status.FILTERED),
        ("zz", 0, Status.UNKNOWN_ITEM),
    ]
