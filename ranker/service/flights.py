"""Equal calls at the same time in, one computation out.

A page that is loaded twice, a caller who hedges, a crowd before one front page: whoever asks what
is being computed already waits along for the same answer. The work stops when the last one has
given up, and has until the latest of their deadlines.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from ranker.service.workers import Job

Reply = TypeVar("Reply")


class Flights(Generic[Reply]):
    """All computations under way, by what they compute. Used from one event loop."""

    def __init__(self) -> None:
        self._under_way: dict[Hashable, Flight[Reply]] = {}
        self.num_coalesced = 0
        """Calls that waited along with an equal one, in total."""

    def join(
        self,
        key: Hashable,
        job: Job,
        start: Callable[[], AsyncIterator[Reply]],
        *,
        is_anytime: bool = False,
    ) -> "Flight[Reply]":
        """What `start` gives, or what it gives to an equal call that is under way.

        Args:
            key: Equal for equal calls.
            job: Of the computation, should it begin here.
            start: Begins it; with this very job.
            is_anytime: Whether the answer depends on the deadline: then only a call that waits
                at least as long joins, and waits no longer.
        """
        flight = self._under_way.get(key)
        if flight is None or (is_anytime and not job.ends_after(flight.job)):
            flight = self._under_way[key] = Flight(job, start, over=lambda: self._over(key))
        else:
            self.num_coalesced += 1
            if not is_anytime:
                flight.job.extend(job)
        return flight

    def _over(self, key: Hashable) -> None:
        flight = self._under_way.get(key)
        if flight is not None and flight.is_over:  # else a later one has taken its place
            del self._under_way[key]


class Flight(Generic[Reply]):
    """One computation and those who wait for it."""

    def __init__(
        self, job: Job, start: Callable[[], AsyncIterator[Reply]], *, over: Callable[[], None]
    ) -> None:
        self.job = job
        self.is_over = False
        self._replies: list[Reply] = []
        self._error: BaseException | None = None
        self._num_waiting = 0
        self._news = asyncio.Event()
        self._over = over
        self._task = asyncio.create_task(self._computed(start))

    async def replies(self) -> AsyncGenerator[Reply, None]:
        """All replies from the first on.

        Raises:
            Exception: what the computation raised.
        """
        num_read = 0
        with self._waited_for():
            while True:
                while num_read < len(self._replies):
                    num_read += 1
                    yield self._replies[num_read - 1]
                if self.is_over:
                    break
                await self._more()
            if self._error is not None:
                raise self._error

    async def last(self) -> Reply:
        """The last reply, once there will be no other.

        Raises:
            Exception: what the computation raised.
        """
        with self._waited_for():
            while not self.is_over:
                await self._more()
            if self._error is not None:
                raise self._error
            return self._replies[-1]

    @contextmanager
    def _waited_for(self) -> Iterator[None]:
        self._num_waiting += 1
        try:
            yield
        finally:
            self._num_waiting -= 1
            if not self._num_waiting and not self.is_over:
                self._end()
                self.job.drop()
                self._task.cancel()

    async def _more(self) -> None:
        self._news.clear()
        await self._news.wait()

    async def _computed(self, start: Callable[[], AsyncIterator[Reply]]) -> None:
        try:
            async for reply in start():
                self._replies.append(reply)
                self._news.set()
        except Exception as error:
            self._error = error
        finally:
            self._end()

    def _end(self) -> None:
        self.is_over = True
        self._news.set()
        self._over()
