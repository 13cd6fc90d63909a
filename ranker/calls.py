"""A call's arguments in, its request out; its answer or error in, a noun or RankerError out.

What the blocking and the asynchronous client share: everything but the waiting.
"""

import json
from collections.abc import Sequence
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from embedders.items import Interaction
from ranker import wire
from ranker.answers import FieldViolation, RankerError
from ranker.pb import ranker_pb2 as pb

ATTEMPTS = 4
SERVICE_CONFIG = {
    "methodConfig": [
        {
            "name": [{"service": pb.DESCRIPTOR.services_by_name["RankerService"].full_name}],
            "retryPolicy": {
                "maxAttempts": ATTEMPTS,
                "initialBackoff": "0.05s",
                "maxBackoff": "0.5s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}
CHANNEL_OPTIONS = (("grpc.service_config", json.dumps(SERVICE_CONFIG)),)


def checked_timeout(timeout_s: float) -> float:
    """The timeout itself.

    Raises:
        ValueError: it leaves no time at all.
    """
    if not timeout_s > 0:
        raise ValueError(f"timeout_s must be above 0 seconds, got {timeout_s}")
    return timeout_s


def rerank_request(
    item_ids: Sequence[str],
    *,
    user_id: str | None,
    history: Sequence[Interaction] | None,
    top_k: int,
    behavior: str,
    explain: bool,
    generation_id: str,
    request_id: str,
) -> pb.RerankRequest:
    """The request of `rerank`.

    Raises:
        ValueError: no user, two users, a negative count, or one text where ids are wanted.
    """
    return pb.RerankRequest(
        user=wire.to_user(user_id=user_id, history=history),
        item_ids=_ids("item_ids", item_ids),
        top_k=_count("top_k", top_k),
        behavior=behavior,
        explain=explain,
        generation_id=generation_id,
        request_id=request_id,
    )


def recommend_request(
    *,
    user_id: str | None,
    history: Sequence[Interaction] | None,
    top_k: int,
    num_candidates: int,
    exclude_item_ids: Sequence[str],
    include_seen: bool,
    behavior: str,
    explain: bool,
    generation_id: str,
    request_id: str,
) -> pb.RecommendRequest:
    """The request of `recommend`.

    Raises:
        ValueError: no user, two users, a negative count, or one text where ids are wanted.
    """
    return pb.RecommendRequest(
        user=wire.to_user(user_id=user_id, history=history),
        top_k=_count("top_k", top_k),
        num_candidates=_count("num_candidates", num_candidates),
        exclude_item_ids=_ids("exclude_item_ids", exclude_item_ids),
        include_seen=include_seen,
        behavior=behavior,
        explain=explain,
        generation_id=generation_id,
        request_id=request_id,
    )


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


def _ids(name: str, ids: Sequence[str]) -> Sequence[str]:
    if isinstance(ids, str):
        raise ValueError(f"{name} must be a list of ids, got the single text {ids!r}")
    return ids


def _count(name: str, count: int) -> int:
    if count < 0:
        raise ValueError(f"{name} must not be negative, got {count}; 0 takes the default")
    return count
