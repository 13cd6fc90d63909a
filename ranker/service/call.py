"""A parsed request in, a checked call out: what is answered, whoever computes it.

A call crosses from the servicer to a backend, into a thread or a worker process; a response comes
back the same way.
"""

import hashlib
from dataclasses import dataclass
from typing import Any, TypeAlias

from ranker.inline import InlineVectors
from ranker.limits import ServiceLimits
from ranker.pb import ranker_pb2 as pb
from ranker.service import requests
from ranker.service.statuses import Reason, StatusError
from ranker.serving import ServingInfo
from retrieval.candidates import Query

Response: TypeAlias = pb.RerankResponse | pb.RecommendResponse | pb.StreamRerankResponse


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
