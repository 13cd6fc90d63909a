"""The wire's responses in, bodies of HTTP answers out.

A result's `relevance_score` lies in [0, 1] and never rises from one result to the next. It is the
item's probability where the generation is calibrated, and else the logistic function of its score,
which keeps the order and means nothing more. Items that could not be ranked come last, with 0.
"""

import math
from collections import defaultdict
from typing import Any

from google.protobuf.json_format import MessageToDict
from pydantic import BaseModel

from ranker.pb import ranker_pb2 as pb
from ranker.service.rest.requests import RerankBody

LARGEST = 700.0  # the exponential of more is beyond what a double holds
MODALITIES = {
    number: name.removeprefix("MODALITY_").lower() for name, number in pb.Modality.items()
}
NO_TOKENS = {"total_tokens": 0}  # some clients insist on being told


class ReturnedDocument(BaseModel):
    """What was sent, with the item's title."""

    text: str
    title: str


class Result(BaseModel):
    """One item."""

    index: int
    """Its place in the documents that were sent, from 0."""
    relevance_score: float
    status: str
    """OK, UNKNOWN_ITEM, MISSING_VECTORS, TRUNCATED, NOT_SCORED or FILTERED."""
    document: ReturnedDocument | None = None


class RerankAnswer(BaseModel):
    """Results best first; the same item twice by its index."""

    id: str
    """The request's."""
    model: str
    results: list[Result]
    meta: dict[str, Any]
    usage: dict[str, int]
    """No tokens are billed."""


class RecommendedItem(BaseModel):
    """One item, as the .proto's RankedItem says it."""

    item_id: str
    title: str
    rank: int
    score: float
    logit: float
    probability: float | None = None
    status: str
    retrieval_rank: int
    retrieval_score: float
    present: list[str]
    explanation: dict[str, Any] | None = None


class RecommendAnswer(BaseModel):
    """Items best first, as the .proto's RecommendResponse says it."""

    request_id: str
    generation_id: str
    items: list[RecommendedItem]
    judged_by: str
    logit_weight: float
    scored_count: int
    degraded: bool
    timings: dict[str, float]


def to_rerank(response: pb.RerankResponse, body: RerankBody, *, version: str) -> RerankAnswer:
    """The answer in Cohere's and Jina's shape; `version` is that of the API that was asked."""
    places: defaultdict[str, list[int]] = defaultdict(list)
    for place, item_id in enumerate(body.documents):
        places[item_id].append(place)
    results = [
        Result.model_construct(
            index=place,
            relevance_score=relevance,
            status=_status(item),
            document=ReturnedDocument.model_construct(text=item.item_id, title=item.title)
            if body.return_documents
            else None,
        )
        for item, relevance in zip(response.items, _relevances(response), strict=True)
        for place in places[item.item_id]
    ]
    return RerankAnswer.model_construct(
        id=response.request_id,
        model=body.model,
        results=results[: body.top_n],
        meta={
            "api_version": {"version": version},
            "generation_id": response.generation_id,
            "scored_count": response.scored_count,
            "degraded": response.degraded,
            "timings": _timings(response.timings),
        },
        usage=NO_TOKENS,
    )


def to_recommend(response: pb.RecommendResponse) -> RecommendAnswer:
    """The answer, item by item."""
    return RecommendAnswer.model_construct(
        request_id=response.request_id,
        generation_id=response.generation_id,
        items=[_item(item) for item in response.items],
        judged_by=response.judged_by,
        logit_weight=response.logit_weight,
        scored_count=response.scored_count,
        degraded=response.degraded,
        timings=_timings(response.timings),
    )


def to_info(response: pb.GetInfoResponse) -> dict[str, Any]:
    """The facts under the .proto's names."""
    facts: dict[str, Any] = MessageToDict(
        response, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    facts["num_items"] = response.num_items  # which proto's JSON would have as a text
    return facts


def _relevances(response: pb.RerankResponse) -> list[float]:
    """In [0, 1], never rising; 0 of what has no rank."""
    ranked = [item for item in response.items if item.rank]
    if all(item.HasField("probability") for item in ranked):
        found = [item.probability for item in ranked]
    else:
        found = [_squashed(item.score) for item in ranked]
    # Items that were not scored in time stand behind those that were, whatever retrieval says.
    for place in range(1, len(found)):
        found[place] = min(found[place - 1], found[place])
    return found + [0.0] * (len(response.items) - len(found))


def _squashed(score: float) -> float:
    """The logistic function."""
    return 1 / (1 + math.exp(min(-score, LARGEST)))


def _item(item: pb.RankedItem) -> RecommendedItem:
    return RecommendedItem.model_construct(
        item_id=item.item_id,
        title=item.title,
        rank=item.rank,
        score=item.score,
        logit=item.logit,
        probability=item.probability if item.HasField("probability") else None,
        status=_status(item),
        retrieval_rank=item.retrieval_rank,
        retrieval_score=item.retrieval_score,
        present=[MODALITIES[one] for one in item.present],
        explanation=_explanation(item.explanation) if item.HasField("explanation") else None,
    )


def _explanation(message: pb.Explanation) -> dict[str, Any]:
    contributions = {one.block: one.value for one in message.contributions}
    return {"base": message.base, "contributions": contributions}


def _timings(message: pb.Timings) -> dict[str, float]:
    names = ("queue_ms", "retrieve_ms", "rerank_ms", "total_ms")
    return {name: round(getattr(message, name), 3) for name in names}


def _status(item: pb.RankedItem) -> str:
    return pb.ItemStatus.Name(item.status).removeprefix("ITEM_STATUS_")
