"""A loaded generation in, a backend of threads of this process out: they share it."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor

from feature_repo.base import CacheCounts
from ranker.limits import ServiceLimits
from ranker.service.backends import Backend, Told
from ranker.service.call import Call, Response, answer_in, may_hurry
from ranker.service.readings import WorkerCounts
from ranker.service.replying import Replier
from ranker.service.statuses import StatusError
from ranker.service.threads import WorkerThread
from ranker.service.workers import Job, Line
from ranker.serving import Serving, ServingInfo


class InProcess(Backend):
    """Threads of this process over one loaded generation."""

    def __init__(self, serving: Serving, *, limits: ServiceLimits) -> None:
        self._serving = serving
        self._replier = Replier(serving)
        self._line = Line[WorkerThread](limit=limits.queue)
        self._threads = [WorkerThread(f"ranker_{number}") for number in range(limits.workers)]
        for thread in self._threads:
            self._line.add(thread)
        self._hurrying = ThreadPoolExecutor(1, thread_name_prefix="hurried")
        self._num_hurrying, self._most_hurrying = 0, limits.queue

    @property
    def info(self) -> ServingInfo:
        """The generation's facts."""
        return self._serving.info

    @property
    def num_waiting(self) -> int:
        """Calls that wait for a thread."""
        return self._line.num_waiting

    @property
    def is_degraded(self) -> bool:
        """Whether the online store failed when a history was last asked of it."""
        return self._serving.is_degraded

    @property
    def caches(self) -> Mapping[str, CacheCounts]:
        """The generation's."""
        return self._serving.caches

    @property
    def counts(self) -> WorkerCounts:
        """The threads."""
        return WorkerCounts(num_alive=self._line.num_workers, num_busy=self._line.num_busy)

    async def answers(self, call: Call, job: Job) -> AsyncIterator[Response]:
        """One response, or several of a stream, as the thread makes them."""
        arrived = time.perf_counter()
        try:
            worker = await self._line.turn(
                job, size=call.num_candidates, is_anytime=call.is_anytime
            )
        except StatusError as refusal:
            if not may_hurry(call, refusal) or self._num_hurrying >= self._most_hurrying:
                raise
            hurried = await self._hurried(call, job)
            answer_in(hurried).timings.queue_ms = (time.perf_counter() - arrived) * 1e3
            yield hurried
            return
        queue_ms = (time.perf_counter() - arrived) * 1e3
        told = self._begun(call, job, worker)
        try:
            while (one := await told.get()) is not None:
                if isinstance(one, BaseException):
                    raise one
                answer_in(one).timings.queue_ms = queue_ms
                yield one
        finally:
            job.drop()  # whatever goes on now is for nobody

    async def close(self) -> None:
        """Refuses what waits, and returns once the work that runs has ended."""
        self._line.close()
        for thread in self._threads:
            await asyncio.to_thread(thread.close)
        await asyncio.to_thread(self._hurrying.shutdown, wait=True, cancel_futures=True)

    async def _hurried(self, call: Call, job: Job) -> Response:
        """Of a thread that computes nothing else, so that it is free in time."""
        self._num_hurrying += 1
        try:
            loop = asyncio.get_running_loop()
            [answer] = await loop.run_in_executor(self._hurrying, self._replier.hurried, call, job)
            return answer
        finally:
            self._num_hurrying -= 1
            job.drop()

    def _begun(self, call: Call, job: Job, worker: WorkerThread) -> asyncio.Queue[Told]:
        """What the work tells, its end (None) or error at last."""
        loop, told = asyncio.get_running_loop(), asyncio.Queue[Told]()

        def end(last: Response | None, error: BaseException | None, seconds: float) -> None:
            self._line.release(worker, size=call.num_candidates, seconds=seconds)
            if last is not None:
                told.put_nowait(last)
            told.put_nowait(error)

        def work() -> None:
            began, last, error = time.monotonic(), None, None
            try:
                for message in self._replier.replies(call, job):
                    if call.method == "StreamRerank":
                        loop.call_soon_threadsafe(told.put_nowait, message)
                    else:
                        last = message  # goes with the end, which wakes the loop once
            except Exception as raised:
                error = raised
            finally:
                # Also where the caller is gone long before the work ends.
                loop.call_soon_threadsafe(end, last, error, time.monotonic() - began)

        worker.begin(work)
        return told


def in_process(serving: Serving, *, limits: ServiceLimits | None = None) -> InProcess:
    """A backend of this process: as many threads as `limits.workers`."""
    return InProcess(serving, limits=limits or ServiceLimits())
