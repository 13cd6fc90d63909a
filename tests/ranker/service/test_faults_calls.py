"""Callers who give up or come too late, and clocks that jump: nothing is lost, nothing kept."""

import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import grpc
import pytest

from embedders.items import Interaction
from ranker.client import RankerClient, RankerError
from ranker.pb import ranker_pb2 as pb
from ranker.pb import ranker_pb2_grpc as pb_grpc
from ranker.service.server import RankerServer, running
from retrieval.candidates import Candidate, Query
from tests.ranker.fault_world import PATIENCE_S, ServerProcess, serving_apart, until
from tests.ranker.serving_world import BEST_FIRST, TableServing

ADA = pb.User(user_id="ada")
BURST, KEPT = 52, (0, 21)
WARM, CANCELLED, STORMS = 3_000, 10_000, 3
COUNTED = 'sommelier_requests_total{code="CANCELLED"'


def storm(server: ServerProcess, *, num_cancelled: int) -> None:
    """Bursts of calls, given up at random moments: on their way, waiting, running, answered.

    Every other call is unlike all before it, the others are all alike. Two of each burst are not
    given up, and must have their whole answer.
    """
    moments, numbers = random.Random(7), count()
    with grpc.insecure_channel(server.address) as channel:
        stub = pb_grpc.RankerServiceStub(channel)
        for _ in range(num_cancelled // (BURST - len(KEPT))):
            calls = []
            for n in range(BURST):
                seen = pb.Interaction(item_id=f"item-{next(numbers)}", behavior="view")
                alone = pb.User(history=pb.History(interactions=[seen]))
                request = pb.RerankRequest(user=alone if n % 2 else ADA, item_ids=BEST_FIRST[::-1])
                calls.append(stub.Rerank.future(request, timeout=PATIENCE_S))
            calls[KEPT[0]].result()  # so the others are on their way at least
            time.sleep(moments.random() * 0.03)
            for n, call in enumerate(calls):
                if n not in KEPT:
                    call.cancel()
            for n in KEPT:
                assert [item.item_id for item in calls[n].result().items] == BEST_FIRST


@pytest.mark.slow
def test_ten_thousand_calls_that_are_given_up_leave_nothing_behind() -> None:
    with serving_apart(work_s=0.01) as server:
        storm(server, num_cancelled=WARM)
        num_files, num_threads = server.num_files, server.num_threads
        counted = server.metric(COUNTED)
        held = server.held()
        for _ in range(STORMS):  # a leak grows with each, an allocator's moods do not
            storm(server, num_cancelled=CANCELLED)
            before, held = held, server.held()
            if held[0] <= 1.002 * before[0] and held[1] <= 1.02 * before[1]:
                break  # gRPC itself keeps some 40 bytes of each call
        else:
            pytest.fail(f"blocks and bytes grew from {before} to {held} in storm {STORMS}")
        until(lambda: server.num_files <= num_files)
        assert server.num_threads == num_threads
        assert server.metric("sommelier_queue_depth") == 0
        assert server.metric(COUNTED) - counted > CANCELLED / 100  # others were never begun
        assert server.metric('sommelier_requests_total{code="INTERNAL"') == 0


class Stalling(TableServing):
    """Stops at one place of its work until it is let go on, and notes what it came to."""

    def __init__(self, place: str) -> None:
        super().__init__()
        self._place = place
        self.reached: list[str] = []
        self.let_go = threading.Event()
        self.before_pass = lambda number: self._come_to(f"pass {number}")

    def history(self, user_id: str) -> tuple[Interaction, ...] | None:
        self._come_to("history")
        return super().history(user_id)

    def score(self, query: Query, item_ids: Sequence[str], **brought: Any) -> list[Candidate]:
        self._come_to("candidates")
        return super().score(query, item_ids, **brought)

    def _come_to(self, place: str) -> None:
        self.reached.append(place)
        if place == self._place:
            assert self.let_go.wait(PATIENCE_S), "the test never let it go on"


PLACES = ["history", "candidates", "pass 0", "pass 1", "pass 2", "pass 3", "pass 4"]
REQUEST = pb.RerankRequest(user=ADA, item_ids=BEST_FIRST[::-1], explain=True)


def counted(server: RankerServer, code: str, *, method: str = "Rerank") -> float:
    labels = {"method": method, "code": code}
    return server.metrics.registry.get_sample_value("sommelier_requests_total", labels) or 0.0


@pytest.mark.parametrize("place", PLACES)
def test_a_deadline_that_passes_at_any_stage_ends_the_call_and_the_work_before_the_next(
    place: str,
) -> None:
    serving = Stalling(place)
    with running(serving) as server, RankerClient(server.address) as client:
        try:
            with pytest.raises(RankerError) as late:
                client.rerank(BEST_FIRST, user_id="ada", explain=True, timeout_s=0.3)
            assert late.value.code == "DEADLINE_EXCEEDED"
            until(lambda: counted(server, "DEADLINE_EXCEEDED") == 1)
            assert counted(server, "CANCELLED") == 0
        finally:
            serving.let_go.set()
        # The one worker is free again, and has begun nothing more of what was late.
        answer = client.rerank(BEST_FIRST, user_id="ada", explain=True, timeout_s=PATIENCE_S)
        assert [item.item_id for item in answer.items] == BEST_FIRST
        assert server.num_waiting == 0
    assert serving.reached == [*PLACES[: PLACES.index(place) + 1], *PLACES]


@pytest.mark.parametrize("place", PLACES)
def test_a_call_that_is_given_up_at_any_stage_ends_the_work_before_the_next(place: str) -> None:
    """Also where any answer beats none: there is nobody to give it to."""
    serving = Stalling(place)
    request = pb.RerankRequest(user=ADA, item_ids=BEST_FIRST, explain=True, anytime=True)
    with running(serving) as server, grpc.insecure_channel(server.address) as channel:
        stub = pb_grpc.RankerServiceStub(channel)
        try:
            call = stub.Rerank.future(request, timeout=PATIENCE_S)
            until(lambda: place in serving.reached)
            call.cancel()
            until(lambda: counted(server, "CANCELLED") == 1)
        finally:
            serving.let_go.set()
        request.anytime = False
        assert len(stub.Rerank(request, timeout=PATIENCE_S).items) == len(BEST_FIRST)
    assert serving.reached == [*PLACES[: PLACES.index(place) + 1], *PLACES]


def test_a_deadline_that_is_over_at_once_is_told_and_holds_up_nobody() -> None:
    """Whether the call reaches the server at all is a race; where it does, it may have begun."""
    serving = Stalling("nowhere")
    with running(serving) as server, RankerClient(server.address) as client:
        assert client.info(timeout_s=PATIENCE_S).generation_id == "g1"  # connected
        with pytest.raises(RankerError) as late:
            client.rerank(BEST_FIRST, user_id="ada", timeout_s=1e-9)
        assert late.value.code == "DEADLINE_EXCEEDED"
        assert client.rerank(["a"], user_id="ada", timeout_s=PATIENCE_S).items
    assert serving.reached[-4:] == ["history", "candidates", "pass 0", "pass 1"]


@pytest.mark.parametrize("jump_s", [-30 * 86_400.0, 86_400.0])
def test_a_clock_that_jumps_while_calls_are_under_way_moves_no_deadline(
    jump_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither do those that run or wait end early, nor does one that is late go on for ever."""
    serving, clock = Stalling("pass 1"), time.time
    with (
        running(serving) as server,
        RankerClient(server.address) as client,
        ThreadPoolExecutor() as pool,
    ):
        patient = [
            pool.submit(client.rerank, [*BEST_FIRST, f"unknown-{n}"], user_id="ada", timeout_s=20)
            for n in range(3)
        ]
        until(lambda: server.num_waiting == 2)
        hasty = pool.submit(client.rerank, ["a"], user_id="ada", timeout_s=0.5)
        until(lambda: server.num_waiting == 3)
        try:
            with monkeypatch.context() as patch:
                patch.setattr(time, "time", lambda: clock() + jump_s)
                with pytest.raises(RankerError, match="DEADLINE_EXCEEDED"):
                    hasty.result(PATIENCE_S)
                serving.let_go.set()
                found = [call.result(PATIENCE_S).items[:5] for call in patient]
        finally:
            serving.let_go.set()
        assert [[item.item_id for item in items] for items in found] == [BEST_FIRST] * 3
        until(lambda: counted(server, "DEADLINE_EXCEEDED") == 1)
        assert counted(server, "OK") == 3
        assert client.rerank(["a"], user_id="ada").items
