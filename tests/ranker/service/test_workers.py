"""A line before workers: who is served, who waits, who is turned away."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import CancelledError

import grpc
import pytest

from ranker.service.statuses import Reason, StatusError
from ranker.service.workers import HURRY_S, Job, Line

PATIENCE_S = 10


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.001)


def line_of(*workers: str, limit: int = 9) -> Line[str]:
    line = Line[str](limit=limit)
    for worker in workers:
        line.add(worker)
    return line


def turn(line: Line[str], job: Job | None = None, **more: object) -> asyncio.Task[str]:
    return asyncio.create_task(line.turn(job or Job(), **{"size": 1, **more}))  # type: ignore[arg-type]


def release(line: Line[str], worker: str, *, seconds: float = 0.001, size: int = 1) -> None:
    line.release(worker, size=size, seconds=seconds)


def test_first_come_is_first_served() -> None:
    async def live() -> list[int]:
        line, order = line_of("w"), list[int]()

        async def one(number: int) -> None:
            worker = await line.turn(Job(), size=1)
            order.append(number)
            await asyncio.sleep(0)
            release(line, worker)

        await asyncio.gather(*map(one, range(9)))
        return order

    assert asyncio.run(live()) == list(range(9))


def test_a_free_worker_that_is_liked_is_taken_and_else_any() -> None:
    async def live() -> list[str]:
        line = line_of("a", "b", "c")
        first = await line.turn(Job(), size=1, likes="b")
        second = await line.turn(Job(), size=1, likes="b")
        return [first, second]

    first, second = asyncio.run(live())
    assert first == "b"
    assert second in {"a", "c"}


def test_no_place_in_the_line_refuses_whatever_cannot_start_at_once() -> None:
    async def live() -> StatusError:
        line = line_of("w", limit=0)
        worker = await line.turn(Job(), size=1)
        with pytest.raises(StatusError) as refused:
            await line.turn(Job(), size=1)
        release(line, worker)
        assert await line.turn(Job(), size=1) == "w"
        return refused.value

    error = asyncio.run(live())
    assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, Reason.QUEUE_FULL)


def test_whom_the_deadline_would_find_still_waiting_is_refused_when_coming() -> None:
    async def live() -> StatusError:
        line = line_of("w")
        release(line, await line.turn(Job(), size=10), size=10, seconds=1.0)
        worker = await line.turn(Job(0.5), size=10)  # a free worker is worth a try
        waiting = turn(line, Job(PATIENCE_S), size=10)
        await until(lambda: line.num_waiting == 1)
        with pytest.raises(StatusError) as refused:
            await line.turn(Job(0.5), size=10)
        release(line, worker)
        await waiting
        return refused.value

    error = asyncio.run(live())
    assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, Reason.QUEUE_FULL)
    assert "longer than the deadline allows" in error.message


def test_what_can_no_longer_be_done_in_time_is_not_begun_but_at_any_time_it_is() -> None:
    async def live(*, is_anytime: bool) -> str:
        line = line_of("w")
        worker = await line.turn(Job(), size=10)
        waiting = turn(line, Job(0.5), size=10, is_anytime=is_anytime)
        await until(lambda: line.num_waiting == 1)
        release(line, worker, size=10, seconds=5.0)
        return await waiting

    with pytest.raises(StatusError) as refused:
        asyncio.run(live(is_anytime=False))
    assert refused.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert asyncio.run(live(is_anytime=True)) == "w"


def test_a_deadline_is_looked_at_before_queueing_and_again_before_work_begins() -> None:
    async def live() -> list[str]:
        line, stages = line_of("w"), []
        with pytest.raises(StatusError) as before_queueing:
            await line.turn(Job(0), size=1)
        worker = await line.turn(Job(), size=1)
        late = turn(line, Job(0.02))
        await until(lambda: line.num_waiting == 1)
        await asyncio.sleep(0.03)
        release(line, worker)
        with pytest.raises(StatusError) as before_work:
            await late
        assert await line.turn(Job(PATIENCE_S), size=1) == "w"
        for refused in (before_queueing, before_work):
            assert refused.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
            stages.append(refused.value.message)
        return stages

    first, second = asyncio.run(live())
    assert first.startswith("the deadline passed before queueing")
    assert second.startswith("the deadline passed before the work began")


def test_whoever_gives_up_leaves_the_line_and_the_next_is_served() -> None:
    async def live() -> str:
        line = line_of("w")
        worker = await line.turn(Job(), size=1)
        leaving, staying = turn(line), turn(line)
        await until(lambda: line.num_waiting == 2)
        leaving.cancel()
        await until(lambda: line.num_waiting == 1)
        release(line, worker)
        return await staying

    assert asyncio.run(live()) == "w"


def test_a_worker_given_to_someone_in_the_moment_of_giving_up_is_not_lost() -> None:
    async def live() -> str:
        line = line_of("w")
        worker = await line.turn(Job(), size=1)
        leaving = turn(line)
        await until(lambda: line.num_waiting == 1)
        release(line, worker)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        return await line.turn(Job(), size=1)

    assert asyncio.run(live()) == "w"


def test_a_worker_that_is_gone_is_given_to_nobody_and_a_new_one_serves_who_waits() -> None:
    async def live() -> str:
        line = line_of("w")
        line.remove(await line.turn(Job(), size=1))
        waiting = turn(line)
        await until(lambda: line.num_waiting == 1)
        assert (line.num_workers, line.num_busy) == (0, 0)
        line.add("v")
        return await waiting

    assert asyncio.run(live()) == "v"


def test_closing_refuses_what_waits_and_what_comes() -> None:
    async def live() -> list[StatusError]:
        line, errors = line_of("w"), []
        await line.turn(Job(), size=1)
        waiting = turn(line)
        await until(lambda: line.num_waiting == 1)
        line.close()
        for one in (waiting, turn(line)):
            with pytest.raises(StatusError) as refused:
                await one
            errors.append(refused.value)
        return errors

    for error in asyncio.run(live()):
        assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, Reason.SHUTTING_DOWN)


def test_a_job_that_was_dropped_begins_no_further_stage() -> None:
    job = Job()
    job.check("reranking")
    job.drop()
    with pytest.raises(CancelledError, match="dropped before reranking"):
        job.check("reranking")


def test_a_job_waits_as_long_as_the_most_patient_of_its_callers() -> None:
    job, told = Job(0.0), list[float]()
    job.when_extended(lambda: told.append(job.time_left_s))
    job.extend(Job(PATIENCE_S))
    job.check("reranking")
    job.extend(Job(1.0))
    assert len(told) == 1
    assert PATIENCE_S - 1 < told[0] <= PATIENCE_S
    assert Job().ends_after(job)
    assert not job.ends_after(Job())


def test_a_deadline_does_not_move_with_the_clock_on_the_wall(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = Job(PATIENCE_S)
    monkeypatch.setattr(time, "time", lambda: 1e12)
    job.check("reranking")


def test_whoever_takes_any_answer_stops_waiting_while_there_is_time_for_one() -> None:
    async def live() -> tuple[StatusError, float]:
        line = line_of("w")
        worker = await line.turn(Job(), size=1)
        job = Job(HURRY_S + 0.05)
        with pytest.raises(StatusError) as refused:
            await line.turn(job, size=1, is_anytime=True)
        left_s = job.time_left_s
        assert line.num_waiting == 0
        release(line, worker)
        assert await line.turn(Job(), size=1) == "w", "it waits for nobody who is gone"
        return refused.value, left_s

    error, left_s = asyncio.run(live())
    assert error.reason is Reason.QUEUE_FULL
    assert left_s <= HURRY_S


def test_a_worker_that_is_given_in_the_moment_of_giving_up_is_not_lost() -> None:
    async def live() -> str:
        line = line_of("w")
        worker = await line.turn(Job(), size=1)
        waiting = turn(line, Job(HURRY_S), is_anytime=True)  # no time to wait at all
        await asyncio.sleep(0)
        release(line, worker)
        await asyncio.gather(waiting, return_exceptions=True)
        if not waiting.exception():
            release(line, waiting.result())
        async with asyncio.timeout(PATIENCE_S):
            return await line.turn(Job(), size=1)

    assert asyncio.run(live()) == "w"
