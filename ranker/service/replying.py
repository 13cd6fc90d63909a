"""A checked call and a generation in, response messages out: the blocking work of one call.

Runs in a thread of the server or in a worker process. Who asks and how long it waited is filled in
where the call arrived.
"""

from collections.abc import Iterator

from ranker.pb import ranker_pb2 as pb
from ranker.service.answering import Outcome, Plan, Stopwatch, carry_out, steps
from ranker.service.call import Call, Response
from ranker.service.item_bytes import ItemBytes
from ranker.service.pace import Pace
from ranker.service.workers import Job
from ranker.serving import Serving


class Replier:
    """One loaded generation, and what is learned of its pace. May be used from several threads."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._pace = Pace()
        self._item_bytes = ItemBytes()

    def hurried(self, call: Call, job: Job) -> list[Response]:
        """The one answer to an `anytime` call as far as it goes without the LLM.

        Raises:
            StatusError: an unknown user, or nobody waits any more.
            CancelledError: likewise.
        """
        job.check("retrieval's order was found")
        *_, last = self.replies(call, Job(0))
        return [last]

    def replies(self, call: Call, job: Job) -> Iterator[Response]:
        """One response, or the several of StreamRerank.

        Raises:
            StatusError: an unknown user, or a deadline that passed.
            CancelledError: nobody waits any more.
        """
        plan, watch = self._plan(call), Stopwatch()
        if call.method == "StreamRerank":
            for outcome in steps(plan, job, watch):
                message = pb.StreamRerankResponse(is_final=outcome.is_final)
                self._fill(message.ranking, outcome, watch)
                yield message
            return
        outcome = carry_out(plan, job, watch)
        response = pb.RecommendResponse() if call.method == "Recommend" else pb.RerankResponse()
        self._fill(response, outcome, watch)
        yield response

    def _plan(self, call: Call) -> Plan:
        serving, item_ids = self._serving, call.item_ids
        return Plan(
            method=call.method,
            serving=serving,
            query=call.query,
            find=(
                (lambda query: serving.score(query, item_ids, vectors=call.vectors))
                if item_ids
                else (lambda query: serving.retrieve(query, limit=call.num_candidates))
            ),
            asked=item_ids,
            vectors=call.vectors,
            top_k=call.top_k,
            explains=call.request.explain,
            anytime=call.is_anytime,
            pace=self._pace,
        )

    def _fill(
        self,
        response: pb.RerankResponse | pb.RecommendResponse,
        outcome: Outcome,
        watch: Stopwatch,
    ) -> None:
        """Everything that all answers have in common."""
        response.generation_id = self._serving.info.generation_id
        response.judged_by = outcome.judged_by
        response.logit_weight = outcome.logit_weight
        response.scored_count = outcome.num_scored
        response.degraded = outcome.degraded
        response.MergeFromString(self._item_bytes.of(outcome.items))
        response.timings.retrieve_ms = watch.seconds["retrieve"] * 1e3
        response.timings.rerank_ms = watch.seconds["rerank"] * 1e3
