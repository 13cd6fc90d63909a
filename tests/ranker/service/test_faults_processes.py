"""Workers that are killed while callers ask: nobody who tries again goes without their answer."""

import os
import random
import signal
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedders.items import Interaction
from ranker import calls
from ranker.client import RankerClient
from ranker.limits import ServiceLimits
from ranker.pb import ranker_pb2 as pb
from ranker.pb import ranker_pb2_grpc as pb_grpc
from ranker.service.processes import Launch
from retrieval.candidates import Query
from tests.ranker import model_serving, model_world
from tests.ranker.fault_world import PATIENCE_S, until
from tests.ranker.process_world import LOADER
from tests.ranker.served_processes import served
from tests.ranker.serving_world import BEST_FIRST

TABLE = Launch(loader=LOADER, arguments={})
ROOMY = ServiceLimits(queue=64)


class Killer:
    """Kills one worker after the other, at random, each while others are asked."""

    def __init__(self, backend: Any, *, num_deaths: int) -> None:
        self._backend, self._num_deaths = backend, num_deaths
        self.is_done = threading.Event()
        self._thread = threading.Thread(target=self._kill)
        self._thread.start()

    def join(self) -> None:
        self._thread.join()

    def _kill(self) -> None:
        chance = random.Random(3)
        try:
            for number in range(1, self._num_deaths + 1):
                until(lambda: len(self._backend.pids) > 0)
                os.kill(chance.choice(self._backend.pids), signal.SIGKILL)
                until(lambda number=number: self._backend.counts.num_deaths == number)  # type: ignore[misc]
        finally:
            self.is_done.set()


def test_workers_killed_under_load_cost_a_client_that_tries_again_nothing() -> None:
    """Each has the answer of its own question: calls are not mixed up where workers change."""
    numbers = count()
    with served(TABLE, num=2, limits=ROOMY) as (server, backend):
        killer = Killer(backend, num_deaths=4)

        def ask_on() -> int:
            num_asked = 0
            with RankerClient(server.address, timeout_s=PATIENCE_S) as client:
                while not killer.is_done.is_set():
                    mark = f"unknown-{next(numbers)}"
                    answer = client.rerank([mark, *BEST_FIRST[::-1]], user_id="ada")
                    assert [item.item_id for item in answer.items] == [*BEST_FIRST, mark]
                    num_asked += 1
            return num_asked

        with ThreadPoolExecutor(6) as pool:
            asking = [pool.submit(ask_on) for _ in range(6)]
            assert sum(call.result() for call in asking) > 4
        killer.join()
        until(lambda: backend.counts.num_alive == 2)
        assert server.num_waiting == 0


def test_whoever_does_not_try_again_learns_that_the_worker_died() -> None:
    """Never an answer that is another's or half, nor a status of another kind."""
    errors = []
    with (
        served(TABLE, num=2, limits=ROOMY) as (server, backend),
        grpc.insecure_channel(server.address, options=[("grpc.enable_retries", 0)]) as channel,
    ):
        killer = Killer(backend, num_deaths=4)
        stub = pb_grpc.RankerServiceStub(channel)
        numbers = count()
        while not killer.is_done.is_set():
            mark = f"unknown-{next(numbers)}"
            rerank = pb.RerankRequest(user=pb.User(user_id="ada"), item_ids=[*BEST_FIRST, mark])
            try:
                *_, last = stub.StreamRerank(
                    pb.StreamRerankRequest(rerank=rerank), timeout=PATIENCE_S
                )
            except grpc.RpcError as error:
                errors.append(calls.read_error(error, address=server.address))
                continue
            assert last.is_final
            assert [item.item_id for item in last.ranking.items] == [*BEST_FIRST, mark]
        killer.join()
    assert {(error.code, error.reason) for error in errors} <= {("UNAVAILABLE", "WORKER_DIED")}


History = tuple[Interaction, ...]
Question = tuple[History, Sequence[str]]
HISTORIES = st.lists(st.sampled_from(model_world.IDS), max_size=6).map(
    lambda ids: model_world.history(*ids)
)
ITEM_IDS = st.lists(st.sampled_from(model_world.IDS), min_size=1, max_size=20, unique=True)


@pytest.mark.slow
def test_worker_processes_give_the_bits_of_one_call_alone(adapter: Path) -> None:
    """Whichever worker, with whichever histories kept, in whatever company."""
    alone = model_serving.load(str(adapter))
    launch = Launch(
        loader="tests.ranker.model_serving:load",
        arguments={"adapter": str(adapter), "prefix_cache_bytes": 60_000},
    )

    def expected(question: Question) -> list[tuple[str, float]]:
        query = Query(history=question[0])
        ranking = alone.rerank(query, alone.score(query, question[1]))
        return [(item.item_id, item.score) for item in ranking.items]

    with (
        served(launch, num=2, limits=ROOMY) as (server, _),
        RankerClient(server.address, timeout_s=PATIENCE_S) as client,
        ThreadPoolExecutor(8) as pool,
    ):

        def asked(question: Question) -> list[tuple[str, float]]:
            answer = client.rerank(question[1], history=question[0])
            return [(item.item_id, item.score) for item in answer.items]

        @settings(max_examples=15, deadline=None, derandomize=True, database=None)
        @given(st.lists(st.tuples(HISTORIES, ITEM_IDS), min_size=2, max_size=8))
        def hold(questions: list[Question]) -> None:
            assert list(pool.map(asked, questions)) == list(map(expected, questions))

        hold()
