"""Requests in, reranked answers out: the methods of the wire over one served generation.

The event loop checks a request, finds out whether an equal one is being answered already, and hands
it to the backend; everything that may block (the store, retrieval, the LLM) runs in the backend's
threads or processes. The service knows neither sockets nor files; what goes wrong leaves it as an
exception, and `ranker.service.interceptor` makes a status of it.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import KW_ONLY, dataclass
from typing import Any

from ranker import wire
from ranker.limits import ServiceLimits
from ranker.pb import ranker_pb2 as pb
from ranker.pb import ranker_pb2_grpc as pb_grpc
from ranker.service import statuses
from ranker.service.backends import Backend
from ranker.service.call import Response, answer_in, read_call
from ranker.service.flights import Flight, Flights
from ranker.service.in_process import in_process
from ranker.service.metrics import Metrics
from ranker.service.workers import Job
from ranker.serving import Serving, ServingInfo

__all__ = ["RankerService", "ServiceLimits"]

# Seeded by the system, which need not be asked again for every request; it guards nothing.
_ids = random.Random()  # nosec B311


class RankerService(pb_grpc.RankerServiceServicer):
    """Answers from one generation; `switch` puts the next one in its place."""

    def __init__(
        self,
        served: Backend | Serving,
        *,
        limits: ServiceLimits | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._limits = limits or ServiceLimits()
        self._served = _Served(self._backend(served))
        self._former: set[_Served] = set()
        self._flights = Flights[Response]()
        metrics = metrics or Metrics()
        metrics.watch_queue(lambda: self.num_waiting)
        metrics.watch_coalesced(lambda: self._flights.num_coalesced)
        metrics.watch_workers(lambda: self._served.backend.counts)
        metrics.watch_generation(lambda: self.info)
        metrics.watch_caches(lambda: self._served.backend.caches)
        metrics.watch_store(lambda: not self.is_degraded)

    @property
    def info(self) -> ServingInfo:
        """The facts of the generation that answers now."""
        return self._served.backend.info

    @property
    def is_degraded(self) -> bool:
        """Whether the online store failed when a history was last asked of it."""
        return self._served.backend.is_degraded

    @property
    def num_waiting(self) -> int:
        """Requests that wait for a worker."""
        return sum(one.backend.num_waiting for one in (self._served, *self._former))

    @property
    def num_workers(self) -> int:
        """Threads or processes that can compute for whatever comes now."""
        return self._served.backend.counts.num_alive

    def switch(self, served: Backend | Serving) -> Coroutine[None, None, None]:
        """Answers from this from now on; what is returned ends the former one, when awaited.

        That is when whatever began with it has its answer.
        """
        former, self._served = self._served, _Served(self._backend(served))
        self._former.add(former)
        return self._drain(former)

    async def close(self) -> None:
        """Refuses what waits, and returns once the work that runs has ended."""
        await asyncio.gather(*(one.backend.close() for one in (self._served, *self._former)))

    async def Rerank(self, request: pb.RerankRequest, context: Any) -> pb.RerankResponse:
        """Orders the caller's items; items that the generation does not hold come last."""
        response: pb.RerankResponse = await self._answer("Rerank", request, context)
        return response

    async def Recommend(self, request: pb.RecommendRequest, context: Any) -> pb.RecommendResponse:
        """Retrieves candidates and orders them."""
        response: pb.RecommendResponse = await self._answer("Recommend", request, context)
        return response

    async def StreamRerank(
        self, request: pb.StreamRerankRequest, context: Any
    ) -> AsyncIterator[pb.StreamRerankResponse]:
        """Retrieval's order at once, then better ones."""
        with self._served.used() as backend:
            asked = self._asked("StreamRerank", request, context, backend)
            async with aclosing(asked.flight.replies()) as replies:
                async for reply in replies:
                    yield asked.addressed(reply)

    async def GetInfo(self, request: pb.GetInfoRequest, context: Any) -> pb.GetInfoResponse:
        """What is served, and what one request may ask."""
        return wire.to_info(self.info, self._limits)

    async def _drain(self, former: "_Served") -> None:
        await former.is_idle.wait()
        await former.backend.close()
        self._former.discard(former)

    async def _answer(self, method: str, request: Any, context: Any) -> Any:
        with self._served.used() as backend:
            asked = self._asked(method, request, context, backend)
            return asked.addressed(await asked.flight.last())

    def _asked(self, method: str, request: Any, context: Any, backend: Backend) -> "_Asked":
        began = time.perf_counter()
        call = read_call(method, request, self._limits, backend.info)
        _check_generation(call.request.generation_id, backend)
        job = Job(context.time_remaining())
        flight = self._flights.join(
            (backend, method, call.identity()),
            job,
            lambda: backend.answers(call, job),
            is_anytime=call.is_anytime,
        )
        request_id = call.request.request_id or f"{_ids.getrandbits(128):032x}"
        return _Asked(flight, began=began, request_id=request_id)

    def _backend(self, served: Backend | Serving) -> Backend:
        if isinstance(served, Backend):
            return served
        return in_process(served, limits=self._limits)


@dataclass(frozen=True, slots=True)
class _Asked:
    """One caller's part in a computation."""

    flight: Flight[Response]
    _: KW_ONLY
    began: float
    request_id: str

    def addressed(self, reply: Response) -> Any:
        """The message as this caller gets it."""
        message: Any = type(reply)()
        message.CopyFrom(reply)  # others may wait for the same reply
        answer = answer_in(message)
        answer.request_id = self.request_id
        answer.timings.total_ms = (time.perf_counter() - self.began) * 1e3
        return message


class _Served:
    """A backend, and how many calls are under way with it."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.is_idle = asyncio.Event()
        self.is_idle.set()
        self._num_calls = 0

    @contextmanager
    def used(self) -> Iterator[Backend]:
        """One call, from its arrival to its end."""
        self._num_calls += 1
        self.is_idle.clear()
        try:
            yield self.backend
        finally:
            self._num_calls -= 1
            if not self._num_calls:
                self.is_idle.set()


def _check_generation(asked: str, backend: Backend) -> None:
    served = backend.info.generation_id if asked else ""
    if asked != served:
        raise statuses.wrong_generation(asked=asked, served=served)
