"""Nouns in, messages out, and back: the one place where service and client agree on the wire.

Every noun that crosses comes back equal: floats travel as doubles, times to the microsecond.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import UTC
from typing import TypeVar

from embedders.items import Interaction, Modality
from embedders.vectors import Embeddings, Space
from ranker.answers import Answer, RankerError, ServerInfo, Timings, TitledItem
from ranker.limits import ServiceLimits
from ranker.pb import ranker_pb2 as pb
from ranker.ranking import Explanation, RankedItem, Status
from ranker.serving import ServingInfo
from retrieval.filters import Among, Between, Filter

TO_MODALITY = {
    Modality.AUDIO: pb.MODALITY_AUDIO,
    Modality.GRAPH: pb.MODALITY_GRAPH,
    Modality.IMAGE: pb.MODALITY_IMAGE,
    Modality.SUMMARY: pb.MODALITY_SUMMARY,
    Modality.TEXT: pb.MODALITY_TEXT,
}
FROM_MODALITY: dict[int, Modality] = {value: modality for modality, value in TO_MODALITY.items()}
TO_STATUS = {
    Status.OK: pb.ITEM_STATUS_OK,
    Status.UNKNOWN_ITEM: pb.ITEM_STATUS_UNKNOWN_ITEM,
    Status.MISSING_VECTORS: pb.ITEM_STATUS_MISSING_VECTORS,
    Status.TRUNCATED: pb.ITEM_STATUS_TRUNCATED,
    Status.NOT_SCORED: pb.ITEM_STATUS_NOT_SCORED,
    Status.FILTERED: pb.ITEM_STATUS_FILTERED,
}
FROM_STATUS: dict[int, Status] = {value: status for status, value in TO_STATUS.items()}
Noun = TypeVar("Noun")
LIMIT_NAMES = tuple(limit.name for limit in fields(ServiceLimits))


def to_user(*, user_id: str | None, history: Sequence[Interaction] | None) -> pb.User:
    """Exactly one of a stored user's id and a history, oldest first.

    Raises:
        ValueError: both, or neither.
    """
    if (user_id is None) == (history is None):
        raise ValueError("give either user_id or history: whose next item is sought?")
    if history is None:
        return pb.User(user_id=user_id)
    return pb.User(history=to_events(history))


def from_history(message: pb.History) -> tuple[Interaction, ...]:
    """Oldest first; the position counts where the time is not known.

    Raises:
        ValueError: a time outside the years 1 to 9999.
    """
    return tuple(
        Interaction(
            item_id=event.item_id,
            behavior=event.behavior,
            weight=event.weight if event.HasField("weight") else None,
            timestamp=event.timestamp.ToDatetime(UTC) if event.HasField("timestamp") else None,
            position=None if event.HasField("timestamp") else position,
        )
        for position, event in enumerate(message.interactions)
    )


def to_events(events: Sequence[Interaction]) -> pb.History:
    """Events in their order."""
    return pb.History(interactions=map(_to_interaction, events))


def to_filter(filter: Filter) -> pb.Filter:
    """Which items may be answered with.

    Raises:
        ValueError: it allows no item at all.
    """
    if filter.allow is not None and not filter.allow:
        raise ValueError("filter.allow is empty: no item could be answered; None allows all")
    return pb.Filter(
        among=[
            pb.Filter.Among(column=one.column, values=sorted(one.values)) for one in filter.among
        ],
        between=[
            pb.Filter.Between(column=one.column, low=one.low, high=one.high)
            for one in filter.between
        ],
        allow_item_ids=sorted(filter.allow or ()),
        deny_item_ids=sorted(filter.deny),
    )


def from_filter(message: pb.Filter) -> Filter | None:
    """The filter; None for one that every item passes.

    Raises:
        ValueError: as `Filter` has it.
    """
    filter = Filter(
        among=tuple(
            Among(column=one.column, values=frozenset(one.values)) for one in message.among
        ),
        between=tuple(
            Between(
                column=one.column,
                low=one.low if one.HasField("low") else None,
                high=one.high if one.HasField("high") else None,
            )
            for one in message.between
        ),
        allow=frozenset(message.allow_item_ids) or None,
        deny=frozenset(message.deny_item_ids),
    )
    return None if filter.is_empty else filter


def to_vectors(embeddings: Embeddings) -> pb.InlineVectors:
    """Vectors of a request's items, in float32."""
    return pb.InlineVectors(
        space_id=embeddings.space.space_id,
        item_ids=embeddings.item_ids,
        dtype="float32",
        shape=embeddings.vectors_ND.shape,
        data=embeddings.vectors_ND.astype("<f4").tobytes(),
    )


def to_ranked_item(item: RankedItem, *, title: str) -> pb.RankedItem:
    """One item of an answer."""
    return pb.RankedItem(
        item_id=item.item_id,
        rank=item.rank,
        score=item.score,
        logit=item.logit,
        status=TO_STATUS[item.status],
        retrieval_rank=item.retrieval_rank,
        retrieval_score=item.retrieval_score,
        present=[TO_MODALITY[modality] for modality in item.present],
        title=title,
        probability=item.probability,
        explanation=None if item.explanation is None else to_explanation(item.explanation),
    )


def from_step(message: pb.StreamRerankResponse) -> Answer:
    """One answer of a stream as the client's noun."""
    return from_answer(message.ranking, is_final=message.is_final)


def from_answer(
    message: pb.RerankResponse | pb.RecommendResponse, *, is_final: bool = True
) -> Answer:
    """An answer as the client's noun."""
    timings = message.timings
    return Answer(
        items=tuple(map(_from_ranked_item, message.items)),
        generation_id=message.generation_id,
        judged_by=message.judged_by,
        logit_weight=message.logit_weight,
        num_scored=message.scored_count,
        is_degraded=message.degraded,
        is_final=is_final,
        request_id=message.request_id,
        timings=Timings(
            queue_ms=timings.queue_ms,
            retrieve_ms=timings.retrieve_ms,
            rerank_ms=timings.rerank_ms,
            total_ms=timings.total_ms,
        ),
    )


def to_info(info: ServingInfo, limits: ServiceLimits) -> pb.GetInfoResponse:
    """A generation's facts and the limits of one request."""
    message = pb.GetInfoResponse(
        generation_id=info.generation_id,
        model=info.model,
        num_items=info.num_items,
        spaces=map(_to_space, info.spaces),
        limits=pb.GetInfoResponse.Limits(**{name: getattr(limits, name) for name in LIMIT_NAMES}),
        behaviors=info.behaviors,
        calibrator=info.calibrator,
        blocks=info.blocks,
        filterable=info.filterable,
        comparable=info.comparable,
    )
    message.as_of.FromDatetime(info.as_of)
    return message


def from_info(message: pb.GetInfoResponse) -> ServerInfo:
    """The facts as the client's noun."""
    return ServerInfo(
        generation_id=message.generation_id,
        model=message.model,
        num_items=message.num_items,
        spaces=tuple(_from_spaces(message.spaces)),
        as_of=message.as_of.ToDatetime(UTC),
        limits=ServiceLimits(**{name: getattr(message.limits, name) for name in LIMIT_NAMES}),
        behaviors=tuple(message.behaviors),
        calibrator=message.calibrator,
        blocks=tuple(message.blocks),
        filterable=tuple(message.filterable),
        comparable=tuple(message.comparable),
    )


def _to_interaction(event: Interaction) -> pb.Interaction:
    message = pb.Interaction(item_id=event.item_id, behavior=event.behavior, weight=event.weight)
    if event.timestamp is not None:
        message.timestamp.FromDatetime(event.timestamp)
    return message


def _from_ranked_item(message: pb.RankedItem) -> TitledItem:
    return TitledItem(
        item_id=message.item_id,
        rank=message.rank,
        score=message.score,
        logit=message.logit,
        status=_known(FROM_STATUS, message.status),
        retrieval_rank=message.retrieval_rank,
        retrieval_score=message.retrieval_score,
        present=tuple(_known(FROM_MODALITY, value) for value in message.present),
        title=message.title,
        probability=message.probability if message.HasField("probability") else None,
        explanation=(
            _from_explanation(message.explanation) if message.HasField("explanation") else None
        ),
    )


def to_explanation(explanation: Explanation) -> pb.Explanation:
    """How a score comes about; by the blocks' names."""
    return pb.Explanation(
        base=explanation.base,
        contributions=[
            pb.Explanation.Contribution(block=block, value=value)
            for block, value in sorted(explanation.contributions.items())
        ],
    )


def _from_explanation(message: pb.Explanation) -> Explanation:
    return Explanation(
        base=message.base, contributions={one.block: one.value for one in message.contributions}
    )


def _known(table: Mapping[int, Noun], value: int) -> Noun:
    if value not in table:
        raise RankerError(
            f"the server sent a value ({value}) that this client does not know: update the client",
            code="UNIMPLEMENTED",
            reason="UNKNOWN_VALUE",
        )
    return table[value]


def _to_space(space: Space) -> pb.GetInfoResponse.Space:
    return pb.GetInfoResponse.Space(
        modality=(
            pb.MODALITY_UNSPECIFIED if space.modality is None else TO_MODALITY[space.modality]
        ),
        space_id=space.space_id,
        dim=space.dim,
        encoder=space.encoder,
        revision=space.revision,
        preprocessing=space.preprocessing,
        is_normalized=space.is_normalized,
    )


def _from_spaces(messages: Iterable[pb.GetInfoResponse.Space]) -> Iterable[Space]:
    for message in messages:
        yield Space(
            modality=FROM_MODALITY.get(message.modality),
            encoder=message.encoder,
            revision=message.revision,
            dim=message.dim,
            preprocessing=message.preprocessing,
            is_normalized=message.is_normalized,
        )
