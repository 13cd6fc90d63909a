"""Answers at any time, over a real server: in steps, cut short, given up; in the end the same."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ranker.answers import Answer, RankerError
from ranker.client import RankerClient
from ranker.limits import ServiceLimits
from ranker.ranking import RankedItem, Status
from ranker.service.server import RankerServer, running
from tests.ranker import model_serving, model_world
from tests.ranker.serving_world import BEST_FIRST, TableServing

PATIENCE_S = 20
ALL = ["a", "b", "c", "d", "e"]  # in retrieval's order; two of them are scored in a pass
ENDLESS = 10**15  # tokens that nobody has the time for
ASKED = model_world.IDS[:20]


class Passes:
    """The passes that were begun; each can be held until it may go on."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.held: dict[int, threading.Event] = {}

    def __call__(self, number: int) -> None:
        self.begun.append(number)
        if number in self.held:
            assert self.held[number].wait(PATIENCE_S), "the test never let the pass go on"


@pytest.fixture
def passes() -> Passes:
    return Passes()


@pytest.fixture
def serving(passes: Passes) -> TableServing:
    made = TableServing()
    made.before_pass = passes
    return made


@pytest.fixture
def server(serving: TableServing) -> Iterator[RankerServer]:
    with running(serving, grace_s=0) as started:
        yield started


@pytest.fixture
def client(server: RankerServer) -> Iterator[RankerClient]:
    with RankerClient(server.address, timeout_s=PATIENCE_S) as opened:
        yield opened


def until(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up, "it never came true"
        time.sleep(0.001)


def order(answer: Answer) -> list[str]:
    return [item.item_id for item in answer.items]


def not_scored(answer: Answer) -> list[str]:
    return [item.item_id for item in answer.items if item.status is Status.NOT_SCORED]


def test_a_stream_begins_with_retrievals_order_and_gets_better(client: RankerClient) -> None:
    answers = list(client.stream_rerank(ALL, user_id="ada", request_id="r1"))
    assert [order(one) for one in answers] == [
        ALL,
        ["b", "a", "c", "d", "e"],
        ["c", "d", "b", "a", "e"],
        BEST_FIRST,
    ]
    assert [not_scored(one) for one in answers] == [ALL, ["c", "d", "e"], ["e"], []]
    assert [one.num_scored for one in answers] == [0, 2, 4, 5]
    assert [one.is_final for one in answers] == [False, False, False, True]
    assert [one.judged_by for one in answers] == ["retrieval_order", "table", "table", "table"]
    assert {one.request_id for one in answers} == {"r1"}
    assert not any(one.is_degraded for one in answers)


@pytest.mark.parametrize("explain", [False, True])
def test_the_end_of_a_stream_is_what_rerank_answers(explain: bool, client: RankerClient) -> None:
    asked = [*ALL, "zz"]
    plain = client.rerank(asked, user_id="ada", explain=explain, request_id="r")
    hurried = client.rerank(asked, user_id="ada", explain=explain, request_id="r", anytime=True)
    *_, last = client.stream_rerank(asked, user_id="ada", explain=explain, request_id="r")
    for one in (hurried, last):
        assert replace(one, timings=plain.timings) == plain


def test_the_first_answer_does_not_wait_for_the_llm(client: RankerClient, passes: Passes) -> None:
    passes.held[0] = threading.Event()
    answers = client.stream_rerank(ALL, user_id="ada")
    assert order(next(answers)) == ALL
    until(lambda: passes.begun == [0])
    passes.held[0].set()
    assert order(list(answers)[-1]) == BEST_FIRST


def test_without_time_for_the_next_pass_an_answer_is_cut_short(
    client: RankerClient, serving: TableServing, passes: Passes
) -> None:
    serving.tokens_of_pass = {2: ENDLESS}
    answer = client.rerank(ALL, user_id="ada", anytime=True)
    assert order(answer) == ["b", "a", "c", "d", "e"]
    assert not_scored(answer) == ["c", "d", "e"]
    assert answer.is_degraded
    assert answer.num_scored == 2
    assert passes.begun == [0, 1]
    *_, last = client.stream_rerank(ALL, user_id="ada")
    assert (last.items, last.is_final, last.is_degraded) == (answer.items, True, True)
    recommended = client.recommend(user_id="ada", top_k=3, include_seen=True, anytime=True)
    assert order(recommended) == ["b", "a", "c"]
    assert recommended.is_degraded
    assert order(client.rerank(ALL, user_id="ada")) == BEST_FIRST, "all or nothing: it tries"


def test_a_page_is_never_empty_when_nothing_can_be_scored(
    client: RankerClient, serving: TableServing, passes: Passes
) -> None:
    client.rerank(ALL, user_id="ada")  # from here on it is known how long a token takes
    passes.begun.clear()
    serving.tokens_of_pass = {0: ENDLESS}
    answer = client.rerank(["e", "d", "zz"], user_id="ada", anytime=True)
    assert [(item.item_id, item.rank, item.status) for item in answer.items] == [
        ("d", 1, Status.NOT_SCORED),
        ("e", 2, Status.NOT_SCORED),
        ("zz", 0, Status.UNKNOWN_ITEM),
    ]
    assert answer.judged_by == "retrieval_order"
    assert answer.is_degraded
    assert passes.begun == []


def test_explanations_are_left_out_when_they_would_take_too_long(
    client: RankerClient, serving: TableServing, passes: Passes
) -> None:
    serving.tokens_of_pass = {4: ENDLESS}
    answer = client.rerank(ALL, user_id="ada", explain=True, anytime=True)
    assert order(answer) == BEST_FIRST
    assert answer.is_degraded
    assert answer.num_scored == 5
    assert not any(item.explanation for item in answer.items)
    assert passes.begun == [0, 1, 2, 3]


def test_who_leaves_a_stream_stops_the_work_before_the_next_pass(
    client: RankerClient, server: RankerServer, passes: Passes
) -> None:
    passes.held[1] = threading.Event()
    answers = client.stream_rerank(ALL, user_id="ada")
    next(answers)
    until(lambda: passes.begun == [0, 1])
    answers.close()
    left = {"method": "StreamRerank", "code": "CANCELLED"}
    count = server.metrics.registry.get_sample_value
    until(lambda: count("sommelier_requests_total", left) == 1)
    passes.held.pop(1).set()
    assert order(client.rerank(["a"], user_id="ada")) == ["a"], "the one worker is free again"
    assert passes.begun[:2] == [0, 1]
    assert passes.begun[2:] == [0, 1], "the second call's: the first one's third was never begun"


def test_a_deadline_that_passes_during_a_pass_begins_no_other(
    client: RankerClient, passes: Passes
) -> None:
    passes.held[1] = threading.Event()
    with pytest.raises(RankerError) as refused:
        client.rerank(ALL, user_id="ada", timeout_s=1)
    assert refused.value.code == "DEADLINE_EXCEEDED"
    assert passes.begun == [0, 1]
    passes.held.pop(1).set()
    assert order(client.rerank(["a"], user_id="ada")) == ["a"]
    assert passes.begun == [0, 1, 0, 1]


def by_id(items: tuple[RankedItem, ...]) -> dict[str, RankedItem]:
    return {item.item_id: item for item in items}


def test_an_llm_streams_to_the_bits_that_it_answers_at_once(
    adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ranker.llm_reranker.FIRST_BUDGET", 20)
    loaded = model_serving.load(str(adapter))
    with (
        running(loaded, limits=ServiceLimits(workers=2), grace_s=0) as server,
        RankerClient(server.address, timeout_s=PATIENCE_S) as client,
    ):
        plain = client.rerank(ASKED, user_id="ann", explain=True, request_id="r")
        *steps, last = client.stream_rerank(
            list(reversed(ASKED)), user_id="ann", explain=True, request_id="r"
        )
        hurried = client.rerank(ASKED, user_id="ann", explain=True, request_id="r", anytime=True)
    for one in (hurried, last):
        assert replace(one, timings=plain.timings) == plain
    assert len(steps) > 3
    final = by_id(plain.items)
    for answer in steps:
        for item in answer.items[: answer.num_scored]:
            whole = final[item.item_id]
            assert (item.score, item.logit) == (whole.score, whole.logit)
        assert not_scored(answer) == order(answer)[answer.num_scored :]


def asked_beside_a_held_call(client: RankerClient, passes: Passes, **more: Any) -> Answer:
    """What is answered while the one worker is busy."""
    passes.held[1] = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(client.rerank, ALL, user_id="ada")
        until(lambda: passes.begun == [0, 1])
        try:
            return client.rerank(["c", "b", "zz"], user_id="ada", anytime=True, **more)
        finally:
            passes.held.pop(1).set()
            assert order(held.result()) == BEST_FIRST


def test_who_waits_for_a_worker_in_vain_gets_retrievals_order(
    client: RankerClient, passes: Passes
) -> None:
    answer = asked_beside_a_held_call(client, passes, timeout_s=1)
    assert order(answer) == ["b", "c", "zz"]
    assert not_scored(answer) == ["b", "c"]
    assert answer.is_degraded
    assert passes.begun[:2] == [0, 1]
    assert 0 not in passes.begun[1:], "the LLM was not asked"


def test_with_no_place_to_wait_the_answer_comes_at_once(
    serving: TableServing, passes: Passes
) -> None:
    limits = ServiceLimits(queue=1)
    with (
        running(serving, limits=limits, grace_s=0) as server,
        RankerClient(server.address, timeout_s=PATIENCE_S) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        passes.held[1] = threading.Event()
        held = [pool.submit(client.rerank, ALL, user_id="ada")]
        until(lambda: passes.begun == [0, 1])
        with ThreadPoolExecutor(1) as other:
            held.append(other.submit(client.rerank, ALL, user_id="ada", top_k=1))
            until(lambda: server.num_waiting == 1)
            with pytest.raises(RankerError) as refused:
                client.rerank(["a"], user_id="ada")
            assert refused.value.reason == "QUEUE_FULL"
            answer = client.rerank(["a"], user_id="ada", anytime=True)
            *_, last = client.stream_rerank(["a"], user_id="ada")
            passes.held.pop(1).set()
    assert answer.is_degraded
    assert answer.judged_by == "retrieval_order"
    assert (last.items, last.is_final, last.is_degraded) == (answer.items, True, True)
    assert [len(one.result().items) for one in held] == [5, 1]
