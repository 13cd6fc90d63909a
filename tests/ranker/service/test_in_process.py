"""Threads of this process behind a real server: equal calls, and the end of a former generation."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from ranker.pb import ranker_pb2 as pb
from ranker.pb import ranker_pb2_grpc as pb_grpc
from ranker.service.server import RankerServer, running
from tests.ranker.serving_world import TableServing

PATIENCE_S = 10


@pytest.fixture
def serving() -> TableServing:
    return TableServing()


@pytest.fixture
def server(serving: TableServing) -> Iterator[RankerServer]:
    with running(serving, grace_s=0) as started:
        yield started


@pytest.fixture
def stub(server: RankerServer) -> Iterator[pb_grpc.RankerServiceStub]:
    with grpc.insecure_channel(server.address) as channel:
        yield pb_grpc.RankerServiceStub(channel)


def rerank(*item_ids: str, **more: Any) -> pb.RerankRequest:
    return pb.RerankRequest(user=pb.User(user_id="ada"), item_ids=item_ids, **more)


def counted(server: RankerServer, name: str, **labels: str) -> float | None:
    return server.metrics.registry.get_sample_value(name, labels)


def until(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up, "it never came true"
        time.sleep(0.005)


def test_equal_requests_at_once_are_computed_once_and_each_gets_its_own_id(
    stub: Any, server: RankerServer, serving: TableServing
) -> None:
    with ThreadPoolExecutor() as pool:
        with serving.held():
            calls = [
                pool.submit(stub.Rerank, rerank("a", "b", request_id=name), timeout=PATIENCE_S)
                for name in ("r1", "r2", "r3")
            ]
            until(lambda: counted(server, "sommelier_coalesced_total") == 2)
        answers = [call.result() for call in calls]
    assert [answer.request_id for answer in answers] == ["r1", "r2", "r3"]
    assert [[item.item_id for item in answer.items] for answer in answers] == [["b", "a"]] * 3
    assert len(serving.reranked) == 1


def test_of_equal_requests_one_may_give_up_without_taking_the_others_along(
    stub: Any, server: RankerServer, serving: TableServing
) -> None:
    with ThreadPoolExecutor() as pool:
        with serving.held():
            leaving = stub.Rerank.future(rerank("a"), timeout=PATIENCE_S)
            assert serving.entered.acquire(timeout=PATIENCE_S)
            staying = pool.submit(stub.Rerank, rerank("a"), timeout=PATIENCE_S)
            until(lambda: counted(server, "sommelier_coalesced_total") == 1)
            assert leaving.cancel()
            cancelled = {"method": "Rerank", "code": "CANCELLED"}
            until(lambda: counted(server, "sommelier_requests_total", **cancelled) == 1)
        assert len(staying.result().items) == 1
    assert len(serving.reranked) == 1


def test_after_a_switch_the_former_generation_ends_once_it_has_answered_what_it_began(
    stub: Any, server: RankerServer, serving: TableServing
) -> None:
    with ThreadPoolExecutor() as pool:
        with serving.held():
            under_way = pool.submit(stub.Rerank, rerank("a"), timeout=PATIENCE_S)
            waiting = pool.submit(stub.Rerank, rerank("b"), timeout=PATIENCE_S)
            until(lambda: server.num_waiting == 1)
            drained = server.switch(TableServing(generation_id="g2"))
            assert stub.Rerank(rerank("a"), timeout=PATIENCE_S).generation_id == "g2"
            assert not drained.done()
        assert under_way.result().generation_id == waiting.result().generation_id == "g1"
        drained.result(timeout=PATIENCE_S)
