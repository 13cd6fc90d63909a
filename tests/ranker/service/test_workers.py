"""Bounded work: who runs, who waits, who is turned away."""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import TypeVar

import grpc
import pytest

from ranker.service.statuses import Reason, StatusError
from ranker.service.workers import Job, Workers

PATIENCE_S = 10
Result = TypeVar("Result")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.001)


def gated(gate: threading.Event, result: Result) -> Callable[[], Result]:
    def work() -> Result:
        assert gate.wait(PATIENCE_S)
        return result

    return work


def test_first_come_is_first_served_by_one_worker() -> None:
    async def live() -> list[int]:
        workers, order = Workers(num_workers=1, queue_limit=9), list[int]()
        await asyncio.gather(
            *(workers.run(lambda n=number: order.append(n), job=Job()) for number in range(9))
        )
        await workers.close()
        return order

    assert asyncio.run(live()) == list(range(9))


def test_no_more_run_at_once_than_there_are_workers() -> None:
    lock, now, most = threading.Lock(), [0], [0]

    def work() -> None:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.01)
        with lock:
            now[0] -= 1

    async def live() -> None:
        workers = Workers(num_workers=2, queue_limit=9)
        await asyncio.gather(*(workers.run(work, job=Job()) for _ in range(8)))
        await workers.close()

    asyncio.run(live())
    assert most == [2]


def test_a_queue_of_none_refuses_whatever_cannot_start_at_once() -> None:
    async def live() -> StatusError:
        workers, gate = Workers(num_workers=1, queue_limit=0), threading.Event()
        first = asyncio.create_task(workers.run(gated(gate, 1), job=Job()))
        await asyncio.sleep(0)
        with pytest.raises(StatusError) as refused:
            await workers.run(lambda: 2, job=Job())
        gate.set()
        assert await first == 1
        await asyncio.sleep(0)
        assert await workers.run(lambda: 3, job=Job()) == 3
        await workers.close()
        return refused.value

    error = asyncio.run(live())
    assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, Reason.QUEUE_FULL)


def test_a_deadline_is_looked_at_before_queueing_and_again_before_work_begins() -> None:
    async def live() -> list[str]:
        workers, gate = Workers(num_workers=1, queue_limit=9), threading.Event()
        stages = []
        with pytest.raises(StatusError) as before_queueing:
            await workers.run(lambda: pytest.fail("worked in vain"), job=Job(0))
        first = asyncio.create_task(workers.run(gated(gate, 1), job=Job()))
        late = asyncio.create_task(
            workers.run(lambda: pytest.fail("worked in vain"), job=Job(0.02))
        )
        await until(lambda: workers.num_waiting == 1)
        await asyncio.sleep(0.03)
        gate.set()
        with pytest.raises(StatusError) as before_work:
            await late
        assert await first == 1
        assert await workers.run(lambda: 2, job=Job(PATIENCE_S)) == 2
        for refused in (before_queueing, before_work):
            assert refused.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
            stages.append(refused.value.message)
        await workers.close()
        return stages

    first, second = asyncio.run(live())
    assert first.startswith("the deadline passed before queueing")
    assert second.startswith("the deadline passed before the work began")


def test_a_worker_whose_caller_has_left_is_not_free_until_its_work_ends() -> None:
    async def live() -> None:
        workers, gate, job = Workers(num_workers=1, queue_limit=9), threading.Event(), Job()
        left = asyncio.create_task(workers.run(gated(gate, 1), job=job))
        await asyncio.sleep(0)
        left.cancel()
        with pytest.raises(asyncio.CancelledError):
            await left
        with pytest.raises(CancelledError, match="dropped before reranking"):
            job.check("reranking")
        following = asyncio.create_task(workers.run(lambda: 2, job=Job()))
        await asyncio.sleep(0.02)
        assert workers.num_waiting == 1
        gate.set()
        assert await following == 2
        await workers.close()

    asyncio.run(live())


def test_closing_ends_what_runs_and_refuses_what_waits() -> None:
    async def live() -> StatusError:
        workers, gate = Workers(num_workers=1, queue_limit=9), threading.Event()
        first = asyncio.create_task(workers.run(gated(gate, 1), job=Job()))
        waiting = asyncio.create_task(workers.run(lambda: 2, job=Job()))
        await until(lambda: workers.num_waiting == 1)
        closing = asyncio.create_task(workers.close())
        await asyncio.sleep(0.01)
        assert not closing.done()
        gate.set()
        assert await first == 1
        await closing
        with pytest.raises(StatusError) as refused:
            await waiting
        return refused.value

    error = asyncio.run(live())
    assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, Reason.SHUTTING_DOWN)


def test_work_that_fails_frees_its_worker() -> None:
    def fail() -> None:
        raise KeyError("x")

    async def live() -> int:
        workers = Workers(num_workers=1, queue_limit=9)
        with pytest.raises(KeyError):
            await workers.run(fail, job=Job())
        result = await workers.run(lambda: 2, job=Job())
        await workers.close()
        return result

    assert asyncio.run(live()) == 2
