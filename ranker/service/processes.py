"""A loader's name in, answers from worker processes out: each loads the generation, each computes.

One process computes one call at a time, so as many calls run side by side as there are processes,
and none waits for another's interpreter. Messages cross a socket pair as protobuf
(`ranker.service.pipe`), and this process imports no model library. A worker that dies takes one
call along (UNAVAILABLE, WORKER_DIED) and is started anew, after pauses that grow while it keeps
dying; a call that workers die of is set aside (`ranker.service.strikes`).
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from feature_repo.base import CacheCounts, Unreachable
from ranker.limits import ServiceLimits
from ranker.service.backends import Backend, Told
from ranker.service.call import Call, Response, answer_in, may_hurry
from ranker.service.process import Process, WorkerFailed
from ranker.service.readings import WorkerCounts
from ranker.service.statuses import Reason, StatusError
from ranker.service.strikes import Strikes
from ranker.service.workers import Job, Line
from ranker.serving import ServingInfo

FIRST_PAUSE_S = 0.1
MOST_PAUSE_S = 30.0
STABLE_S = 60.0  # a worker that lived so long did not die of being started
MOST_USERS = 10_000  # whose last worker is remembered
PATIENCE_S = 10.0  # for a worker to end what it computes, before it is killed

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """How a worker process comes to its generation."""

    loader: str
    """`module:function`, which gives a `Serving`."""
    arguments: Mapping[str, Any]
    """Of the function; JSON. They name one generation: a worker that is started anew must load the
    same as the others."""
    environments: Sequence[Mapping[str, str]] = ()
    """What workers are told beside this process's environment: the first one the first, and around
    again. A worker that is started anew gets that of the one in whose place it stands."""


async def processes(
    launch: Launch, *, num: int, limits: ServiceLimits | None = None
) -> "Processes":
    """A backend of so many worker processes, once all of them have loaded.

    Raises:
        ValueError: no number of processes, or they do not agree on what they loaded.
        WorkerFailed: a worker could not load; the text says why.
        Unreachable: it could not, for the store does not answer.
    """
    if num < 1:
        raise ValueError(f"at least one process is needed, got {num}")
    backend = Processes(launch, num=num, limits=limits or ServiceLimits())
    try:
        await backend.start()
    except BaseException:
        await backend.close()
        raise
    return backend


class Processes(Backend):
    """Worker processes of one generation; made by `processes`."""

    def __init__(self, launch: Launch, *, num: int, limits: ServiceLimits) -> None:
        self._launch, self._num, self._limits = launch, num, limits
        self._line = Line[Process](limit=limits.queue)
        self._alive: set[Process] = set()
        self._last: OrderedDict[str, Process] = OrderedDict()  # by user
        self._keepers: list[asyncio.Task[None]] = []
        self._strikes = Strikes()
        self._num_deaths = 0
        self._is_closed = False
        self._info: ServingInfo | None = None

    async def start(self) -> None:
        """Starts all workers and returns when they have loaded."""
        begun = [asyncio.create_task(self._begun(place)) for place in range(self._num)]
        try:
            started = await asyncio.gather(*begun)
        except BaseException:
            for task in begun:
                task.cancel()
            await asyncio.gather(*begun, return_exceptions=True)
            raise
        self._keepers = [
            asyncio.create_task(self._keep(one, place)) for place, one in enumerate(started)
        ]

    @property
    def info(self) -> ServingInfo:
        """The generation's facts, as the workers told them."""
        assert self._info is not None, "no worker has loaded yet"
        return self._info

    @property
    def is_degraded(self) -> bool:
        """Whether the online store failed when a worker last asked it for a history."""
        return any(process.is_degraded for process in list(self._alive))

    @property
    def caches(self) -> Mapping[str, CacheCounts]:
        """Those of all workers together, as each told them with its last answer."""
        found: dict[str, CacheCounts] = {}
        for process in list(self._alive):
            for name, counts in process.caches.items():
                found[name] = found.get(name, CacheCounts()) + counts
        return found

    @property
    def num_waiting(self) -> int:
        """Calls that wait for a worker."""
        return self._line.num_waiting

    @property
    def counts(self) -> WorkerCounts:
        """The processes."""
        return WorkerCounts(
            num_alive=self._line.num_workers,
            num_busy=self._line.num_busy,
            num_deaths=self._num_deaths,
        )

    @property
    def pids(self) -> list[int]:
        """The operating system's numbers of the processes that are alive."""
        return sorted(process.pid for process in self._alive)

    async def answers(self, call: Call, job: Job) -> AsyncIterator[Response]:
        """One response, or several of a stream, as the worker makes them."""
        arrived = time.perf_counter()
        self._strikes.check(call.identity)
        user_key = call.user_key
        try:
            process = await self._line.turn(
                job,
                size=call.num_candidates,
                likes=self._last.get(user_key),
                is_anytime=call.is_anytime,
            )
        except StatusError as refusal:
            idlest = min(self._alive, key=lambda one: one.num_hurrying, default=None)
            if idlest is None or not may_hurry(call, refusal):
                raise
            if idlest.num_hurrying >= max(1, self._limits.queue // self._num):
                raise
            hurried = await idlest.hurried(call, job)
            answer_in(hurried).timings.queue_ms = (time.perf_counter() - arrived) * 1e3
            yield hurried
            return
        queue_ms = (time.perf_counter() - arrived) * 1e3
        self._remember(user_key, process)
        told = self._given(process, call, job)
        try:
            while (one := await told.get()) is not None:
                if isinstance(one, BaseException):
                    raise one
                answer_in(one).timings.queue_ms = queue_ms
                yield one
        finally:
            job.drop()
            process.drop()

    async def close(self) -> None:
        """Refuses what waits and ends all workers; one that goes on computing is killed."""
        self._is_closed = True
        self._line.close()
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        await asyncio.gather(*(one.end(patience_s=PATIENCE_S) for one in list(self._alive)))
        self._alive.clear()

    def _given(self, process: Process, call: Call, job: Job) -> asyncio.Queue[Told]:
        """The call is the process's from now on; it is free again when that has ended it."""
        told, began = asyncio.Queue[Told](), time.monotonic()

        def end(error: BaseException | None) -> None:
            if error is None:
                self._strikes.answered(call.identity)
            elif isinstance(error, StatusError) and error.reason is Reason.WORKER_DIED:
                self._strikes.died(call.identity)
            if process.is_alive:
                seconds = time.monotonic() - began
                self._line.release(process, size=call.num_candidates, seconds=seconds)
            told.put_nowait(error)

        process.begin(call, job, tell=told.put_nowait, end=end)
        return told

    async def _begun(self, place: int) -> Process:
        """A worker that has loaded what the others have."""
        told = self._launch.environments
        process = await Process.start(
            loader=self._launch.loader,
            arguments=self._launch.arguments,
            limits=self._limits,
            environment=told[place % len(told)] if told else None,
        )
        if self._info is None:
            self._info = process.info
        if process.info != self._info:
            await process.end(patience_s=0)
            raise WorkerFailed(
                f"two workers loaded different generations, {self._info.generation_id!r} and "
                f"{process.info.generation_id!r}: the loader's arguments must name one"
            )
        self._alive.add(process)
        self._line.add(process)
        return process

    async def _keep(self, process: Process, place: int) -> None:
        """Starts another one in the worker's place whenever it dies."""
        pause_s = FIRST_PAUSE_S
        while True:
            code = await process.died()
            self._alive.discard(process)
            self._line.remove(process)
            self._num_deaths += 1
            log.error("worker %d died (%s); another one is started", process.pid, _cause(code))
            if process.age_s >= STABLE_S:
                pause_s = FIRST_PAUSE_S
            process, pause_s = await self._revived(place, pause_s)

    async def _revived(self, place: int, pause_s: float) -> tuple[Process, float]:
        """A worker in this place, and how long to wait before the next one."""
        while True:
            await asyncio.sleep(pause_s)
            pause_s = min(MOST_PAUSE_S, 2 * pause_s)
            try:
                return await self._begun(place), pause_s
            except (WorkerFailed, Unreachable, OSError) as error:
                log.error("no worker could be started, again in %.1f s: %s", pause_s, error)

    def _remember(self, user_key: str, process: Process) -> None:
        self._last[user_key] = process
        self._last.move_to_end(user_key)
        if len(self._last) > MOST_USERS:
            self._last.popitem(last=False)


def _cause(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
