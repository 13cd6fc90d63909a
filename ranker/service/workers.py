"""Blocking work in, its result out: few threads, a bounded queue, deadlines kept.

The queue lives in the event loop, not in the thread pool: a request whose caller gives up while
waiting leaves the queue at once, and every thread is known to be free before work is handed to it.
Work that already runs cannot be stopped from outside; it asks `Job.check` between its stages.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import TypeVar

from ranker.service import statuses

Result = TypeVar("Result")

MEMORY = 0.8  # the share of the past in the running mean of how long work takes
FIRST_GUESS_S = 0.1  # before any work was measured
LEAST_RETRY_S = 0.05


class Job:
    """One request's life: when its caller stops waiting, and whether they have given up."""

    def __init__(self, deadline_s: float | None = None) -> None:
        """`deadline_s` counts from now; None waits for ever."""
        self._until = None if deadline_s is None else time.monotonic() + deadline_s
        self._is_dropped = threading.Event()

    def drop(self) -> None:
        """Nobody waits for the result any more."""
        self._is_dropped.set()

    def check(self, stage: str) -> None:
        """Called before each stage, so that none begins in vain.

        Raises:
            StatusError: DEADLINE_EXCEEDED.
            CancelledError: the caller has given up; the result would be thrown away.
        """
        if self._is_dropped.is_set():
            raise CancelledError(f"dropped before {stage}")
        if self._until is not None and time.monotonic() >= self._until:
            raise statuses.deadline_exceeded(stage)


class Workers:
    """A fixed number of threads, first come, first served. Used from one event loop."""

    def __init__(self, *, num_workers: int, queue_limit: int) -> None:
        self._num_workers = num_workers
        self._queue_limit = queue_limit
        self._executor = ThreadPoolExecutor(num_workers, thread_name_prefix="ranker")
        self._free = asyncio.Semaphore(num_workers)
        self._mean_s = FIRST_GUESS_S
        self._is_closed = False
        self.num_waiting = 0

    async def run(self, work: Callable[[], Result], *, job: Job) -> Result:
        """The result of `work`, called in a worker thread once one is free.

        Raises:
            StatusError: RESOURCE_EXHAUSTED where the queue is full, DEADLINE_EXCEEDED where the
                deadline passed before work began, UNAVAILABLE after `close`.
        """
        job.check("queueing")
        if self._free.locked() and self.num_waiting >= self._queue_limit:
            raise statuses.queue_full(
                num_waiting=self.num_waiting, retry_after_s=self._retry_after_s()
            )
        await self._turn()
        try:
            if self._is_closed:
                raise statuses.shutting_down()
            job.check("the work began")
            future = self._executor.submit(self._timed, work)
        except BaseException:
            self._free.release()
            raise
        loop = asyncio.get_running_loop()
        # Also where the caller, and so this coroutine, is gone long before the work ends.
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._free.release))
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            job.drop()
            raise

    async def close(self) -> None:
        """Refuses what waits, and returns once the work that runs has ended."""
        self._is_closed = True
        await asyncio.to_thread(self._executor.shutdown, wait=True, cancel_futures=True)

    async def _turn(self) -> None:
        self.num_waiting += 1
        try:
            await self._free.acquire()
        finally:
            self.num_waiting -= 1

    def _timed(self, work: Callable[[], Result]) -> Result:
        began = time.monotonic()
        try:
            return work()
        finally:
            self._mean_s = MEMORY * self._mean_s + (1 - MEMORY) * (time.monotonic() - began)

    def _retry_after_s(self) -> float:
        """How long the present queue will take, by the mean of the recent past."""
        return max(LEAST_RETRY_S, self._mean_s * (self.num_waiting + 1) / self._num_workers)
