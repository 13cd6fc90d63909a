"""A refusal in, an HTTP answer out: code, headers and a body that names the fields at fault.

Codes are those of https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto. The
fields are named as the HTTP body names them.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from google.protobuf.message import Message
from google.rpc import error_details_pb2
from pydantic import BaseModel

from ranker.service.statuses import MOST_VIOLATIONS, Reason, StatusError

HTTP_CODES = {
    "CANCELLED": 499,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "PERMISSION_DENIED": 403,
    "UNAUTHENTICATED": 401,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
}
RESTART_S = 1.0  # where a server stops, another one should be there by then


class Violation(BaseModel):
    """A field at fault."""

    field: str
    description: str


class Refusal(BaseModel):
    """Why a request was not answered."""

    message: str
    """For people."""
    code: str
    """gRPC's name of it."""
    reason: str
    """For programs; never renamed."""
    fields: list[Violation] = []
    """Those at fault, the first 8 of them."""
    retry_after_s: float | None = None
    metadata: dict[str, str] = {}


def to_refusal(error: StatusError, named: Callable[[str], str]) -> Refusal:
    """The body of a refusal.

    Args:
        error: The refusal.
        named: What a field of the wire is called in the body that was sent.
    """
    info, bad, retry = (
        _detail(error, kind)
        for kind in (
            error_details_pb2.ErrorInfo,
            error_details_pb2.BadRequest,
            error_details_pb2.RetryInfo,
        )
    )
    fields = [
        Violation(field=named(one.field), description=one.description)
        for one in (bad.field_violations if bad is not None else ())
    ]
    message = error.message
    if bad is not None and fields:
        wire_name = bad.field_violations[0].field
        message = fields[0].field + message.removeprefix(wire_name)
    retry_after_s = None if retry is None else retry.retry_delay.ToNanoseconds() / 1e9
    if error.code.name == "UNAVAILABLE" and retry_after_s is None:
        retry_after_s = RESTART_S
    return Refusal(
        message=message,
        code=error.code.name,
        reason=error.reason,
        fields=fields[:MOST_VIOLATIONS],
        retry_after_s=retry_after_s,
        metadata=dict(info.metadata) if info is not None else {},
    )


def http_code(refusal: Refusal) -> int:
    """Of the answer; a body that is too large has one of its own."""
    if refusal.reason == Reason.MESSAGE_TOO_LARGE:
        return 413
    return HTTP_CODES.get(refusal.code, 500)


def headers(refusal: Refusal) -> Mapping[str, str]:
    """What tells clients how to go on."""
    told: dict[str, str] = {}
    if refusal.retry_after_s is not None:
        told["retry-after"] = str(math.ceil(refusal.retry_after_s))  # whole seconds by RFC 9110
        told["retry-after-ms"] = str(math.ceil(refusal.retry_after_s * 1e3))
    if refusal.code == "UNAUTHENTICATED":
        told["www-authenticate"] = "Bearer"
    return told


def _detail(error: StatusError, kind: type[Message]) -> Any:
    for packed in error.status.details:
        if packed.Is(kind.DESCRIPTOR):
            found = kind()
            packed.Unpack(found)
            return found
    return None
