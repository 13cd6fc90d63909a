"""Checked calls in, response messages out, from one generation: the contract, and this process.

The servicer checks a call in the event loop and hands it to the backend that answers now. Threads
of this process (`in_process`) share one loaded generation; worker processes
(`ranker.service.processes`) load it once each.
"""

import asyncio
import hashlib
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeAlias

from feature_repo.base import CacheCounts
from ranker.inline import InlineVectors
from ranker.limits import ServiceLimits
from ranker.pb import ranker_pb2 as pb
from ranker.service import requests
from ranker.service.readings import WorkerCounts
from ranker.service.replying import Replier
from ranker.service.statuses import Reason, StatusError
from ranker.service.threads import WorkerThread
from ranker.service.workers import Job, Line
from ranker.serving import Serving, ServingInfo
from retrieval.candidates import Query

Response: TypeAlias = pb.RerankResponse | pb.RecommendResponse | pb.StreamRerankResponse
Told: TypeAlias = Response | BaseException | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call, checked."""

    method: str
    """As the .proto names it: `Rerank`, `Recommend` or `StreamRerank`."""
    request: pb.RerankRequest | pb.RecommendRequest
    """Of StreamRerank, the Rerank inside it."""
    query: Query
    item_ids: tuple[str, ...] = ()
    """That the request brings to be ordered; Recommend finds its own."""
    vectors: InlineVectors | None = None
    """What the request brings for its own items."""
    num_candidates: int
    top_k: int

    @property
    def user_key(self) -> str:
        """Equal for calls of one user, or of one history."""
        user = self.request.user
        if user.WhichOneof("identity") == "user_id":
            return f"user {user.user_id}"
        history = user.SerializeToString(deterministic=True)
        return f"history {hashlib.blake2b(history, digest_size=16).hexdigest()}"

    def identity(self) -> bytes:
        """What makes two calls of one method equal: all of the request but its id."""
        request_id = self.request.request_id
        self.request.ClearField("request_id")
        written: bytes = self.request.SerializeToString(deterministic=True)
        self.request.request_id = request_id
        return written

    @property
    def is_anytime(self) -> bool:
        """Whether an answer that ran out of time is better than none."""
        return self.method == "StreamRerank" or self.request.anytime

    @property
    def message(self) -> pb.RerankRequest | pb.RecommendRequest | pb.StreamRerankRequest:
        """As it came over the wire."""
        request = self.request
        if self.method == "StreamRerank" and isinstance(request, pb.RerankRequest):
            return pb.StreamRerankRequest(rerank=request)
        return request


class Backend(ABC):
    """Answers calls from one generation. Used from one event loop."""

    @property
    @abstractmethod
    def info(self) -> ServingInfo:
        """The generation's facts."""

    @property
    @abstractmethod
    def num_waiting(self) -> int:
        """Calls that wait for a worker."""

    @property
    @abstractmethod
    def is_degraded(self) -> bool:
        """Whether the online store failed when a history was last asked of it; from any thread."""

    @property
    @abstractmethod
    def caches(self) -> Mapping[str, CacheCounts]:
        """What is kept for later calls, by the caches' names; from any thread."""

    @property
    @abstractmethod
    def counts(self) -> WorkerCounts:
        """Those that compute; read from any thread."""

    @abstractmethod
    def answers(self, call: Call, job: Job) -> AsyncIterator[Response]:
        """One response, or the several of StreamRerank, each a message of its own.

        Who stops listening should also `drop` the job: the work then ends before its next pass.

        Raises:
            StatusError: refused, out of time, or the worker died.
            Exception: whatever the work raised.
        """

    @abstractmethod
    async def close(self) -> None:
        """Ends what runs and refuses what waits; returns once no worker is left."""


def read_call(method: str, request: Any, limits: ServiceLimits, info: ServingInfo) -> Call:
    """The checked call of a message.

    Args:
        method: As the .proto names it.
        request: Its request, as it was parsed.
        limits: What it may ask for.
        info: What the generation that shall answer has to offer.

    Raises:
        StatusError: INVALID_ARGUMENT, naming every field at fault.
    """
    item_ids: tuple[str, ...] = ()
    if method == "Recommend":
        query, num_candidates, top_k = requests.read_recommend(request, limits, info)
        vectors = None
    else:
        is_stream = method == "StreamRerank"
        request = request.rerank if is_stream else request
        within = "rerank." if is_stream else ""
        query, item_ids, vectors = requests.read_rerank(request, limits, info, within=within)
        num_candidates = len(item_ids)
        top_k = request.top_k or num_candidates
    return Call(
        method=method,
        request=request,
        query=query,
        item_ids=item_ids,
        vectors=vectors,
        num_candidates=num_candidates,
        top_k=top_k,
    )


def may_hurry(call: Call, refusal: StatusError) -> bool:
    """Whether a call that found no worker in time is to be answered without the LLM."""
    return call.is_anytime and refusal.reason is Reason.QUEUE_FULL


def answer_in(message: Response) -> pb.RerankResponse | pb.RecommendResponse:
    """The answer that a message carries."""
    return message.ranking if isinstance(message, pb.StreamRerankResponse) else message


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
