"""Equal calls at the same time: one computation, and whom it ends for."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from ranker.service.flights import Flights
from ranker.service.workers import Job

PATIENCE_S = 10


class Work:
    """Tells `n` replies, the next one whenever it is let."""

    def __init__(self, *replies: int, error: Exception | None = None) -> None:
        self.num_begun = self.num_left = 0
        self._replies, self._error = replies, error
        self._gate = asyncio.Semaphore(0)

    def let(self, count: int = 1) -> None:
        for _ in range(count):
            self._gate.release()

    async def __call__(self) -> AsyncIterator[int]:
        self.num_begun += 1
        try:
            for reply in self._replies:
                await self._gate.acquire()
                yield reply
            if self._error is not None:
                raise self._error
        finally:
            self.num_left += 1


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.001)


async def collected(
    flights: Flights[int], key: str, work: Work, *, job: Job | None = None, is_anytime: bool = False
) -> list[int]:
    flight = flights.join(key, job or Job(), work, is_anytime=is_anytime)
    return [reply async for reply in flight.replies()]


def test_equal_calls_get_all_replies_of_one_computation_whenever_they_join() -> None:
    async def live() -> tuple[list[list[int]], int, int]:
        flights, work = Flights[int](), Work(1, 2, 3)
        first = asyncio.create_task(collected(flights, "k", work))
        await asyncio.sleep(0)
        work.let(2)
        await asyncio.sleep(0.01)
        second = asyncio.create_task(collected(flights, "k", work))
        await asyncio.sleep(0.01)
        work.let()
        return [await first, await second], work.num_begun, flights.num_coalesced

    assert asyncio.run(live()) == ([[1, 2, 3], [1, 2, 3]], 1, 1)


def test_other_calls_and_later_ones_are_computed_anew() -> None:
    async def live() -> int:
        flights, work = Flights[int](), Work(1)
        work.let(3)
        await asyncio.gather(collected(flights, "k", work), collected(flights, "l", work))
        await collected(flights, "k", work)
        return work.num_begun

    assert asyncio.run(live()) == 3


def test_an_error_reaches_all_who_wait_and_nobody_later() -> None:
    async def live() -> None:
        flights, work = Flights[int](), Work(1, error=KeyError("x"))
        calls = [asyncio.create_task(collected(flights, "k", work)) for _ in range(2)]
        await asyncio.sleep(0)
        work.let()
        for call in calls:
            with pytest.raises(KeyError):
                await call
        again = Work(2)
        again.let()
        assert await collected(flights, "k", again) == [2]

    asyncio.run(live())


def test_the_work_stops_when_the_last_caller_has_given_up_and_not_before() -> None:
    async def live() -> None:
        flights, work, job = Flights[int](), Work(1), Job()
        first = asyncio.create_task(collected(flights, "k", work, job=job))
        second = asyncio.create_task(collected(flights, "k", work))
        await until(lambda: work.num_begun == 1)
        first.cancel()
        await asyncio.sleep(0.01)
        assert (job.is_dropped, work.num_left) == (False, 0)
        second.cancel()
        await until(lambda: work.num_left == 1)
        assert job.is_dropped
        fresh = Work(5)
        fresh.let()
        assert await collected(flights, "k", fresh) == [5]

    asyncio.run(live())


def test_the_computation_has_until_the_latest_of_its_callers_deadlines() -> None:
    async def live() -> Job:
        flights, work, job = Flights[int](), Work(1), Job(1.0)
        calls = [
            asyncio.create_task(collected(flights, "k", work, job=one))
            for one in (job, Job(PATIENCE_S), Job(2.0))
        ]
        await until(lambda: flights.num_coalesced == 2)
        work.let()
        await asyncio.gather(*calls)
        return job

    assert PATIENCE_S - 1 < asyncio.run(live()).time_left_s <= PATIENCE_S


def test_who_is_answered_at_any_time_joins_only_what_ends_in_time() -> None:
    async def live() -> tuple[int, float]:
        flights, work, job = Flights[int](), Work(1), Job(5.0)
        calls = [
            asyncio.create_task(collected(flights, "k", work, job=one, is_anytime=True))
            for one in (job, Job(PATIENCE_S), Job(1.0))
        ]
        await until(lambda: work.num_begun == 2)
        work.let(2)
        await asyncio.gather(*calls)
        return flights.num_coalesced, job.time_left_s

    num_coalesced, time_left_s = asyncio.run(live())
    assert num_coalesced == 1
    assert time_left_s <= 5.0


def test_who_wants_only_the_last_reply_gets_it_or_the_error_once_it_is_over() -> None:
    async def live() -> int:
        flights, work = Flights[int](), Work(1, 2, 3)
        last = asyncio.create_task(flights.join("k", Job(), work).last())
        work.let(2)
        await asyncio.sleep(0.01)
        assert not last.done()
        work.let()
        failing = Work(1, error=KeyError("x"))
        failing.let()
        with pytest.raises(KeyError):
            await flights.join("l", Job(), failing).last()
        return await last

    assert asyncio.run(live()) == 3


def test_who_gives_up_on_the_last_reply_ends_the_work_when_nobody_else_waits() -> None:
    async def live() -> bool:
        flights, work, job = Flights[int](), Work(1), Job()
        flight = flights.join("k", job, work)
        waiting = [asyncio.create_task(flight.last()) for _ in range(2)]
        await until(lambda: work.num_begun == 1)
        waiting[0].cancel()
        await asyncio.sleep(0.01)
        assert not job.is_dropped
        waiting[1].cancel()
        await until(lambda: work.num_left == 1)
        return job.is_dropped

    assert asyncio.run(live())
