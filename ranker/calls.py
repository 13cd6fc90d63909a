"""A call's arguments in, its request out; its answer or error in, a noun or RankerError out.

What the blocking and the asynchronous client share: everything but the waiting. The functions that
return a `Call` are the clients' methods of the same name, with their signatures and their words.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any, Generic, ParamSpec, TypeVar, cast

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from embedders.items import Interaction
from embedders.vectors import Embeddings
from ranker import wire
from ranker.answers import Answer, FieldViolation, RankerError, ServerInfo
from ranker.pb import ranker_pb2 as pb
from retrieval.filters import Filter

P = ParamSpec("P")
Noun = TypeVar("Noun")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[Noun]):
    """One call, not yet made."""

    method: str
    """As the .proto names it."""
    request: Message
    read: Callable[[Any], Noun]
    """Makes a noun of a response."""
    timeout_s: float | None
    """None for the client's own."""


def rerank(
    item_ids: Sequence[str],
    *,
    user_id: str | None = None,
    history: Sequence[Interaction] | None = None,
    recent: Sequence[Interaction] = (),
    text: str = "",
    top_k: int = 0,
    filters: Filter | None = None,
    weights: Mapping[str, float] | None = None,
    vectors: Sequence[Embeddings] = (),
    behavior: str = "",
    explain: bool = False,
    anytime: bool = False,
    generation_id: str = "",
    request_id: str = "",
    timeout_s: float | None = None,
) -> Call[Answer]:
    """These items in the order that suits the user, best first, ties by item id.

    Args:
        item_ids: Distinct. One that the server does not know comes last, with its status.
        user_id: A user whose history the store holds; else give `history`.
        history: What the user did, oldest first; empty for one of whom nothing is known.
        recent: What a stored user did since, oldest first.
        text: Who asks or what for, in words that are read before the history.
        top_k: How many to return; 0 returns all.
        filters: What it excludes comes last, unranked, with its status.
        weights: How much blocks of vectors count this once, by name, of `info().blocks`.
        vectors: Of some of the items, for each of some of `info().spaces`, in the place of those
            that the server holds; so items can be ranked that it does not know.
        behavior: What is asked about, one of `info().behaviors`; empty for any choice.
        explain: Whether every returned item says what each block of vectors adds to its
            score; that costs as much as many more candidates.
        anytime: Whether an answer that ran out of time (`is_degraded`) is better than none.
        generation_id: The generation that must answer; empty takes the one that is served.
        request_id: Echoed in the answer and in the server's log; made up where empty.
        timeout_s: This call's deadline.

    Raises:
        RankerError: the server refuses, fails, or is not reached in time.
        ValueError: no user, two users, a negative count, one text where ids are wanted, or a
            filter that allows nothing.
    """
    request = pb.RerankRequest(
        user=wire.to_user(user_id=user_id, history=history),
        item_ids=_ids("item_ids", item_ids),
        recent=wire.to_events(recent) if recent else None,
        text=text,
        top_k=_count("top_k", top_k),
        filter=None if filters is None else wire.to_filter(filters),
        weights=weights or {},
        vectors=map(wire.to_vectors, vectors),
        behavior=behavior,
        explain=explain,
        anytime=anytime,
        generation_id=generation_id,
        request_id=request_id,
    )
    return _call("Rerank", request, wire.from_answer, timeout_s)


def _streamed(describe: Callable[P, Call[Answer]]) -> Callable[P, Call[Answer]]:
    @wraps(describe)
    def stream_rerank(*args: P.args, **kwargs: P.kwargs) -> Call[Answer]:
        call = describe(*args, **kwargs)
        request = pb.StreamRerankRequest(rerank=cast(pb.RerankRequest, call.request))
        return replace(call, method="StreamRerank", request=request, read=wire.from_step)

    stream_rerank.__name__ = stream_rerank.__qualname__ = "stream_rerank"
    stream_rerank.__doc__ = """`rerank` in steps, for whoever can show a better order later.

    First retrieval's order at once, then a better one as the LLM scores, at last (`is_final`) the
    complete one, or the best that the deadline allowed (`is_degraded`). Arguments as of `rerank`;
    `anytime` is taken as set. To stop earlier, leave the loop.
    """
    return stream_rerank


stream_rerank = _streamed(rerank)


def recommend(
    *,
    user_id: str | None = None,
    history: Sequence[Interaction] | None = None,
    recent: Sequence[Interaction] = (),
    text: str = "",
    top_k: int = 0,
    num_candidates: int = 0,
    exclude_item_ids: Sequence[str] = (),
    include_seen: bool = False,
    filters: Filter | None = None,
    weights: Mapping[str, float] | None = None,
    behavior: str = "",
    explain: bool = False,
    anytime: bool = False,
    generation_id: str = "",
    request_id: str = "",
    timeout_s: float | None = None,
) -> Call[Answer]:
    """The items of the whole catalog that suit the user best; what is not told is as in `rerank`.

    Args:
        user_id: A user whose history the store holds; else give `history`.
        history: What the user did, oldest first; empty for one of whom nothing is known.
        recent: What a stored user did since, oldest first.
        text: Who asks or what for, in words that are read before the history.
        top_k: How many to return; 0 takes the server's default.
        num_candidates: How many to retrieve and rerank; 0 takes the server's default.
        exclude_item_ids: Items that must not be returned.
        include_seen: Whether items of the user's history may be returned.
        filters: Which items may be returned.
        weights: How much blocks of vectors count this once.
        behavior: What is asked about; empty for any choice.
        explain: Whether every returned item says what each block of vectors adds to its score.
        anytime: Whether an answer that ran out of time (`is_degraded`) is better than none.
        generation_id: The generation that must answer; empty takes the one that is served.
        request_id: Echoed in the answer and in the server's log; made up where empty.
        timeout_s: This call's deadline.

    Raises:
        RankerError, ValueError: as `rerank`.
    """
    request = pb.RecommendRequest(
        user=wire.to_user(user_id=user_id, history=history),
        recent=wire.to_events(recent) if recent else None,
        text=text,
        top_k=_count("top_k", top_k),
        num_candidates=_count("num_candidates", num_candidates),
        exclude_item_ids=_ids("exclude_item_ids", exclude_item_ids),
        include_seen=include_seen,
        filter=None if filters is None else wire.to_filter(filters),
        weights=weights or {},
        behavior=behavior,
        explain=explain,
        anytime=anytime,
        generation_id=generation_id,
        request_id=request_id,
    )
    return _call("Recommend", request, wire.from_answer, timeout_s)


def info(*, timeout_s: float | None = None) -> Call[ServerInfo]:
    """What is served, and what one request may ask.

    Args:
        timeout_s: This call's deadline.

    Raises:
        RankerError: the server fails, or is not reached in time.
    """
    return _call("GetInfo", pb.GetInfoRequest(), wire.from_info, timeout_s)


def checked_timeout(timeout_s: float) -> float:
    """The timeout itself.

    Raises:
        ValueError: it leaves no time at all.
    """
    if not timeout_s > 0:
        raise ValueError(f"timeout_s must be above 0 seconds, got {timeout_s}")
    return timeout_s


def read_error(error: grpc.RpcError, *, address: str) -> RankerError:
    """gRPC's error with its details unpacked; what came from no server of ours has fewer."""
    call: Any = error  # every error of a call has code() and details(); the stubs do not say so
    code = call.code().name
    details = _unpacked(call)
    info = details.get("google.rpc.ErrorInfo", error_details_pb2.ErrorInfo())
    bad_request = details.get("google.rpc.BadRequest", error_details_pb2.BadRequest())
    retry = details.get("google.rpc.RetryInfo")
    return RankerError(
        call.details() if details else f"{call.details() or code} (calling {address})",
        code=code,
        reason=info.reason or code,
        violations=tuple(
            FieldViolation(field=bad.field, description=bad.description)
            for bad in bad_request.field_violations
        ),
        retry_after_s=None if retry is None else retry.retry_delay.ToNanoseconds() / 1e9,
        metadata=info.metadata,
    )


def _unpacked(call: Any) -> dict[str, Any]:
    """The known details by their type's name; none where they are missing or unreadable."""
    try:
        status: status_pb2.Status | None = rpc_status.from_call(call)
    except (DecodeError, ValueError):
        return {}  # something between us and the server rewrote the status: its code still holds
    known = {
        kind.DESCRIPTOR.full_name: kind
        for kind in (
            error_details_pb2.ErrorInfo,
            error_details_pb2.BadRequest,
            error_details_pb2.RetryInfo,
        )
    }
    unpacked: dict[str, Any] = {}
    for packed in status.details if status is not None else ():
        name = packed.TypeName()
        if name in known:
            unpacked[name] = known[name]()
            packed.Unpack(unpacked[name])
    return unpacked


def _call(
    method: str, request: Message, read: Callable[[Any], Noun], timeout_s: float | None
) -> Call[Noun]:
    timeout_s = None if timeout_s is None else checked_timeout(timeout_s)
    return Call(method=method, request=request, read=read, timeout_s=timeout_s)


def _ids(name: str, ids: Sequence[str]) -> Sequence[str]:
    if isinstance(ids, str):
        raise ValueError(f"{name} must be a list of ids, got the single text {ids!r}")
    return ids


def _count(name: str, count: int) -> int:
    if count < 0:
        raise ValueError(f"{name} must not be negative, got {count}; 0 takes the default")
    return count
