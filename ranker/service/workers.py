"""Work that waits in, a free worker for each out: a bounded line, deadlines kept, advice given.

The line lives in the event loop: a request whose caller gives up while waiting leaves it at once,
and every worker (a thread, a process) is known to be free before work is handed to it. What would
still be waiting when its deadline passes is refused when it comes, not when it is too late: under
overload the workers otherwise spend their time on answers that nobody waits for any more.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Generic, TypeVar

from ranker.service import statuses

Worker = TypeVar("Worker")

MEMORY = 0.8  # the share of the past in the running mean of how long work takes
FIRST_GUESS_S = 0.1  # of one piece of work, for advice before any was measured
LEAST_RETRY_S = 0.05
HURRY_S = 0.03  # before its deadline an `anytime` call stops waiting: retrieval alone fits in
BASE_SIZE = 32  # what a request costs besides its candidates, in candidates


class Job:
    """One computation's life: until when anybody waits for it, and whether all have given up."""

    def __init__(self, deadline_s: float | None = None) -> None:
        """`deadline_s` counts from now; None waits for ever."""
        self._until = _moment(deadline_s)
        self.is_dropped = False
        """Whether the result would be thrown away. Read from any thread."""
        self._on_extended: Callable[[], None] | None = None

    @property
    def time_left_s(self) -> float:
        """Seconds until nobody waits any more; negative when that is past, else perhaps inf."""
        return self._until - time.monotonic()

    def ends_after(self, other: "Job") -> bool:
        """Whether this one waits at least as long as the other."""
        return self._until >= other._until

    def extend(self, other: "Job") -> None:
        """Waits at least as long as the other does."""
        if self._until < other._until:
            self._until = other._until
            if self._on_extended is not None:
                self._on_extended()

    def extend_to(self, deadline_s: float | None) -> None:
        """Waits this long from now; None, for ever."""
        self._until = _moment(deadline_s)

    def when_extended(self, tell: Callable[[], None] | None) -> None:
        """Who wants to know that there is more time, because the work is done elsewhere."""
        self._on_extended = tell

    def drop(self) -> None:
        """Nobody waits for the result any more."""
        self.is_dropped = True

    def check(self, stage: str) -> None:
        """Called before each stage, so that none begins in vain.

        Raises:
            StatusError: DEADLINE_EXCEEDED.
            CancelledError: the caller has given up; the result would be thrown away.
        """
        if self.is_dropped:
            raise CancelledError(f"dropped before {stage}")
        if self.time_left_s <= 0:
            raise statuses.deadline_exceeded(stage)


class Line(Generic[Worker]):
    """Who waits for a worker, first come, first served. Used from one event loop.

    How long work takes is learned per candidate, from what was done before.
    """

    def __init__(self, *, limit: int) -> None:
        """At most `limit` may wait; with 0, whatever cannot start at once is refused."""
        self._limit = limit
        self._free: list[Worker] = []
        self._waiting: deque[asyncio.Future[Worker]] = deque()
        self._num_workers = 0
        self._pace_s: float | None = None  # seconds of one candidate
        self._mean_s = FIRST_GUESS_S
        self._size_waiting = 0
        self._is_closed = False

    @property
    def num_waiting(self) -> int:
        """How many wait for a worker."""
        return len(self._waiting)

    @property
    def num_workers(self) -> int:
        """How many can work: those that are free, and those that are at it."""
        return self._num_workers

    @property
    def num_busy(self) -> int:
        """How many are at work."""
        return self._num_workers - len(self._free)

    def add(self, worker: Worker) -> None:
        """One more, free."""
        self._num_workers += 1
        self._give(worker)

    def remove(self, worker: Worker) -> None:
        """One fewer: it may be free or at work, but will not be `release`d any more."""
        self._num_workers -= 1
        if worker in self._free:
            self._free.remove(worker)

    def close(self) -> None:
        """Whoever comes or waits is refused from now on."""
        self._is_closed = True
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_exception(statuses.shutting_down())

    async def turn(
        self, job: Job, *, size: int, likes: Worker | None = None, is_anytime: bool = False
    ) -> Worker:
        """A worker, to be given back by `release`.

        Args:
            job: Whose deadline counts.
            size: How many candidates the work has.
            likes: Who is taken if free.
            is_anytime: Whether any time that is left is enough; such a call waits no longer than
                leaves the time to answer it without a worker.

        Raises:
            StatusError: RESOURCE_EXHAUSTED where the line is full or too slow for the deadline,
                DEADLINE_EXCEEDED where too little time is left, UNAVAILABLE after `close`.
        """
        if self._is_closed:
            raise statuses.shutting_down()
        job.check("queueing")
        if self._free and not self._waiting:
            return self._taken(likes)
        self._admit(job, 0 if is_anytime else size)
        worker = await self._waited_in_time(job, size) if is_anytime else await self._waited(size)
        try:
            job.check("the work began")
            if not is_anytime and job.time_left_s < MEMORY * self._expected_s(size):
                raise statuses.deadline_exceeded("the work, begun now, could be done")
        except BaseException:
            self._give(worker)
            raise
        return worker

    def release(self, worker: Worker, *, size: int, seconds: float) -> None:
        """The worker is free again, after work of this size and length."""
        pace_s = seconds / (BASE_SIZE + size)
        former_s = pace_s if self._pace_s is None else self._pace_s
        self._pace_s = MEMORY * former_s + (1 - MEMORY) * pace_s
        self._mean_s = MEMORY * self._mean_s + (1 - MEMORY) * seconds
        self._give(worker)

    def _taken(self, likes: Worker | None) -> Worker:
        if likes is not None and likes in self._free:
            self._free.remove(likes)
            return likes
        return self._free.pop()

    def _admit(self, job: Job, size: int) -> None:
        if len(self._waiting) >= self._limit:
            raise statuses.queue_full(
                num_waiting=len(self._waiting), retry_after_s=self._retry_after_s()
            )
        # Those at work are half done, on the whole.
        ahead = self._size_waiting + BASE_SIZE * len(self._waiting)
        wait_s = self._mean_s / 2 + (self._pace_s or 0.0) * ahead / max(1, self._num_workers)
        if self._pace_s is not None and wait_s + self._expected_s(size) > job.time_left_s:
            raise statuses.queue_slow(wait_s=wait_s, retry_after_s=self._retry_after_s())

    async def _waited_in_time(self, job: Job, size: int) -> Worker:
        wait_s = max(0.0, job.time_left_s - HURRY_S)
        try:
            async with asyncio.timeout(None if math.isinf(wait_s) else wait_s):
                return await self._waited(size)
        except TimeoutError:
            raise statuses.queue_slow(
                wait_s=self._mean_s, retry_after_s=self._retry_after_s()
            ) from None

    async def _waited(self, size: int) -> Worker:
        waiting: asyncio.Future[Worker] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        self._size_waiting += size
        try:
            return await waiting
        except asyncio.CancelledError:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
            elif waiting.done() and not waiting.cancelled() and waiting.exception() is None:
                self._give(waiting.result())  # given in the moment of giving up
            raise
        finally:
            self._size_waiting -= size

    def _give(self, worker: Worker) -> None:
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(worker)
                return
        self._free.append(worker)

    def _expected_s(self, size: int) -> float:
        return (self._pace_s or 0.0) * (BASE_SIZE + size) if size else 0.0

    def _retry_after_s(self) -> float:
        """How long the present queue will take, by the mean of the recent past."""
        num_workers = max(1, self._num_workers)
        return max(LEAST_RETRY_S, self._mean_s * (len(self._waiting) + 1) / num_workers)


def _moment(deadline_s: float | None) -> float:
    return math.inf if deadline_s is None else time.monotonic() + deadline_s
