"""Requests in, reranked answers out: the methods of the wire over one served generation.

The event loop checks and queues; everything that may block (the store, retrieval, the LLM) runs as
one piece of work in a worker thread. The service knows neither sockets nor files; what goes wrong
leaves it as an exception, and `ranker.service.interceptor` makes a status of it.
"""

import uuid
from typing import Any

from ranker import wire
from ranker.limits import ServiceLimits
from ranker.pb import ranker_pb2 as pb
from ranker.pb import ranker_pb2_grpc as pb_grpc
from ranker.service import requests, statuses
from ranker.service.answering import Outcome, Plan, Stopwatch, carry_out
from ranker.service.metrics import Metrics
from ranker.service.workers import Job, Workers
from ranker.serving import Serving

__all__ = ["RankerService", "ServiceLimits"]


class RankerService(pb_grpc.RankerServiceServicer):
    """Answers from one generation; `switch` puts the next one in its place."""

    def __init__(
        self,
        serving: Serving,
        *,
        limits: ServiceLimits | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._serving = serving
        self._limits = limits or ServiceLimits()
        self._metrics = metrics or Metrics()
        self._workers = Workers(num_workers=self._limits.workers, queue_limit=self._limits.queue)
        self._metrics.watch_queue(lambda: self.num_waiting)

    @property
    def num_waiting(self) -> int:
        """Requests that wait for a worker."""
        return self._workers.num_waiting

    def switch(self, serving: Serving) -> None:
        """Answers from this generation from now on; requests under way keep the one they began."""
        self._serving = serving

    async def close(self) -> None:
        """Refuses what waits, and returns once the work that runs has ended."""
        await self._workers.close()

    async def Rerank(self, request: pb.RerankRequest, context: Any) -> pb.RerankResponse:
        """Orders the caller's items; items that the generation does not hold come last."""
        watch, serving = Stopwatch(), self._serving
        query = requests.read_rerank(request, self._limits, behaviors=serving.info.behaviors)
        _check_generation(request.generation_id, serving)
        item_ids = tuple(request.item_ids)
        plan = Plan(
            method="Rerank",
            serving=serving,
            query=query,
            find=lambda: serving.score(query, item_ids),
            asked=item_ids,
            top_k=request.top_k or len(item_ids),
            explains=request.explain,
        )
        response = pb.RerankResponse(request_id=request.request_id or _new_request_id())
        _fill(response, await self._answer(plan, watch, context), plan, watch)
        return response

    async def Recommend(self, request: pb.RecommendRequest, context: Any) -> pb.RecommendResponse:
        """Retrieves candidates and orders them."""
        watch, serving = Stopwatch(), self._serving
        query, num_candidates, top_k = requests.read_recommend(
            request, self._limits, behaviors=serving.info.behaviors
        )
        _check_generation(request.generation_id, serving)
        plan = Plan(
            method="Recommend",
            serving=serving,
            query=query,
            find=lambda: serving.retrieve(query, limit=num_candidates),
            top_k=top_k,
            explains=request.explain,
        )
        response = pb.RecommendResponse(request_id=request.request_id or _new_request_id())
        _fill(response, await self._answer(plan, watch, context), plan, watch)
        return response

    async def GetInfo(self, request: pb.GetInfoRequest, context: Any) -> pb.GetInfoResponse:
        """What is served, and what one request may ask."""
        return wire.to_info(self._serving.info, self._limits)

    async def _answer(self, plan: Plan, watch: Stopwatch, context: Any) -> Outcome:
        job = Job(context.time_remaining())
        outcome = await self._workers.run(lambda: carry_out(plan, job, watch), job=job)
        watch.lap("total")
        return outcome


def _fill(
    response: pb.RerankResponse | pb.RecommendResponse,
    outcome: Outcome,
    plan: Plan,
    watch: Stopwatch,
) -> None:
    """Everything that both answers have in common."""
    response.generation_id = plan.serving.info.generation_id
    response.judged_by = outcome.judged_by
    response.logit_weight = outcome.logit_weight
    response.scored_count = outcome.num_candidates
    response.items.extend(wire.to_ranked_item(item, title=title) for item, title in outcome.items)
    response.timings.CopyFrom(
        pb.Timings(**{f"{stage}_ms": seconds * 1e3 for stage, seconds in watch.seconds.items()})
    )


def _check_generation(asked: str, serving: Serving) -> None:
    served = serving.info.generation_id
    if asked and asked != served:
        raise statuses.wrong_generation(asked=asked, served=served)


def _new_request_id() -> str:
    return uuid.uuid4().hex
