"""What went wrong in, a gRPC status with details for programs and a sentence for people out.

Details travel as `google.rpc.Status`: always an `ErrorInfo`, so that a program can decide by
`reason` and never has to read the sentence. They share the 8 KiB that gRPC grants to metadata:
quoted ids are therefore shortened, and of many violations only the first are told.
"""

import math
from collections.abc import Mapping, Sequence
from enum import StrEnum

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from feature_repo.outage import ASK_AGAIN_S

DOMAIN = "sommelier"
MOST_VIOLATIONS = 8
SHOWN_CHARACTERS = 48


class Reason(StrEnum):
    """Why a request was not answered; part of the wire's contract, so never renamed."""

    INVALID_REQUEST = "INVALID_REQUEST"
    MALFORMED_MESSAGE = "MALFORMED_MESSAGE"
    MESSAGE_TOO_LARGE = "MESSAGE_TOO_LARGE"
    UNKNOWN_USER = "UNKNOWN_USER"
    WRONG_GENERATION = "WRONG_GENERATION"
    WRONG_SPACE = "WRONG_SPACE"
    QUEUE_FULL = "QUEUE_FULL"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    SHUTTING_DOWN = "SHUTTING_DOWN"
    STORE_UNAVAILABLE = "STORE_UNAVAILABLE"
    WORKER_DIED = "WORKER_DIED"
    REQUEST_SET_ASIDE = "REQUEST_SET_ASIDE"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    RATE_LIMITED = "RATE_LIMITED"
    INTERNAL = "INTERNAL"


class StatusError(Exception):
    """Ends a request with this status; raised anywhere below the interceptor that sends it."""

    def __init__(
        self,
        code: grpc.StatusCode,
        reason: Reason,
        message: str,
        *,
        details: Sequence[Message] = (),
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        info = error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=metadata or {})
        self.status = status_pb2.Status(
            code=code.value[0], message=message, details=[_packed(info), *map(_packed, details)]
        )


def read(status: status_pb2.Status) -> StatusError:
    """The error of a status that one made; of all its details, equal to the first one."""
    info = error_details_pb2.ErrorInfo()
    for packed in status.details:
        packed.Unpack(info)  # only the ErrorInfo is one
    code = next(code for code in grpc.StatusCode if code.value[0] == status.code)
    error = StatusError(code, Reason(info.reason), status.message, metadata=info.metadata)
    error.status = status
    return error


def shown(text: str) -> str:
    """A caller's text quoted for a sentence, shortened where it is long."""
    return repr(shortened(text))


def shortened(text: str) -> str:
    """A caller's text as far as a sentence can bear it."""
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"


def invalid(violations: Sequence[tuple[str, str]]) -> StatusError:
    """INVALID_ARGUMENT: (field's path, what to mend) of every field at fault, in their order."""
    told = violations[:MOST_VIOLATIONS]
    field, description = violations[0]
    more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
    bad_request = error_details_pb2.BadRequest(
        field_violations=[
            error_details_pb2.BadRequest.FieldViolation(field=field, description=description)
            for field, description in told
        ]
    )
    return StatusError(
        grpc.StatusCode.INVALID_ARGUMENT,
        Reason.INVALID_REQUEST,
        f"{field}: {description}{more}",
        details=[bad_request],
        metadata={"num_violations": str(len(violations))},
    )


def refused(error: ValueError) -> StatusError:
    """INVALID_ARGUMENT: a ValueError says what its caller can mend."""
    return StatusError(grpc.StatusCode.INVALID_ARGUMENT, Reason.INVALID_REQUEST, str(error)[:1000])


def malformed(message_name: str) -> StatusError:
    """INVALID_ARGUMENT: the bytes are no such message."""
    return StatusError(
        grpc.StatusCode.INVALID_ARGUMENT,
        Reason.MALFORMED_MESSAGE,
        f"the bytes sent are not a {message_name}; compare the caller's .proto with the server's",
    )


def too_large(*, limit_bytes: int) -> StatusError:
    """RESOURCE_EXHAUSTED, as gRPC itself says it of its own messages; nothing of it was read."""
    return StatusError(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        Reason.MESSAGE_TOO_LARGE,
        f"a request has at most {limit_bytes} bytes here; send fewer items",
    )


def unknown_user(user_id: str) -> StatusError:
    """NOT_FOUND: the store holds no history of this user."""
    resource = error_details_pb2.ResourceInfo(
        resource_type="user",
        resource_name=user_id,
        description="the store holds no history of this user; send user.history instead",
    )
    return StatusError(
        grpc.StatusCode.NOT_FOUND,
        Reason.UNKNOWN_USER,
        f"no user {shown(user_id)} in the store; send the history inline instead",
        details=[resource],
    )


def wrong_generation(*, asked: str, served: str) -> StatusError:
    """FAILED_PRECONDITION: another generation is served than the caller insists on."""
    failure = error_details_pb2.PreconditionFailure(
        violations=[
            error_details_pb2.PreconditionFailure.Violation(
                type="GENERATION", subject=asked, description=f"served is {served!r}"
            )
        ]
    )
    return StatusError(
        grpc.StatusCode.FAILED_PRECONDITION,
        Reason.WRONG_GENERATION,
        f"generation {shown(asked)} is not served here, {served!r} is; "
        "leave generation_id empty to take whichever is served",
        details=[failure],
        metadata={"served_generation_id": served},
    )


def wrong_space(asked: Sequence[str], *, served: Sequence[str]) -> StatusError:
    """FAILED_PRECONDITION: vectors came of spaces that the generation cannot compare with its own.

    Args:
        asked: The ids of the spaces that are not served.
        served: Those of which vectors may come.
    """
    there_are = ", ".join(served) or "none"
    failure = error_details_pb2.PreconditionFailure(
        violations=[
            error_details_pb2.PreconditionFailure.Violation(
                type="SPACE", subject=shortened(one), description=f"served are {there_are}"
            )
            for one in asked[:MOST_VIOLATIONS]
        ]
    )
    return StatusError(
        grpc.StatusCode.FAILED_PRECONDITION,
        Reason.WRONG_SPACE,
        f"vectors of space {shown(asked[0])} cannot be compared with this generation's; it takes "
        f"those of {there_are}: embed the items with the encoder that GetInfo names",
        details=[failure],
        metadata={"served_space_ids": " ".join(served)},
    )


def queue_full(*, num_waiting: int, retry_after_s: float) -> StatusError:
    """RESOURCE_EXHAUSTED with the time after which a place is likely to be free."""
    return StatusError(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        Reason.QUEUE_FULL,
        f"{num_waiting} requests are waiting already; try again in {retry_after_s:.2f} s",
        details=[_retry(retry_after_s)],
    )


def queue_slow(*, wait_s: float, retry_after_s: float) -> StatusError:
    """RESOURCE_EXHAUSTED, now, for whom the deadline would find still waiting."""
    return StatusError(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        Reason.QUEUE_FULL,
        f"those who wait already will take about {wait_s:.2f} s, longer than the deadline allows; "
        f"try again in {retry_after_s:.2f} s",
        details=[_retry(retry_after_s)],
    )


def worker_died() -> StatusError:
    """UNAVAILABLE: the process that computed the answer ended; others go on."""
    return StatusError(
        grpc.StatusCode.UNAVAILABLE,
        Reason.WORKER_DIED,
        "the process that was computing the answer died and is started anew; try again",
    )


def set_aside(*, num_workers: int, seconds: float) -> StatusError:
    """INTERNAL: it would end another worker; not to be tried again, unlike `worker_died`."""
    return StatusError(
        grpc.StatusCode.INTERNAL,
        Reason.REQUEST_SET_ASIDE,
        f"{num_workers} processes in a row died of computing this very request; it is refused "
        f"for {math.ceil(seconds)} seconds: the server's log says how they died",
        metadata={"num_workers": str(num_workers)},
    )


def unauthenticated(cause: str) -> StatusError:
    """UNAUTHENTICATED: nobody knows who asks; the cause never quotes what was sent."""
    return StatusError(
        grpc.StatusCode.UNAUTHENTICATED,
        Reason.UNAUTHENTICATED,
        f"{cause}; send the metadata `authorization: Bearer <token>`",
    )


def permission_denied(names: Sequence[str]) -> StatusError:
    """PERMISSION_DENIED: the caller's certificate is good, but nobody has let them in."""
    known_as = ", ".join(shown(name) for name in names[:2]) or "a certificate without a name"
    return StatusError(
        grpc.StatusCode.PERMISSION_DENIED,
        Reason.PERMISSION_DENIED,
        f"{known_as} is not among this server's callers; ask its operators to add it",
    )


def rate_limited(caller: str, *, requests_per_s: float, retry_after_s: float) -> StatusError:
    """RESOURCE_EXHAUSTED with the time after which the caller's rate grants the next request."""
    told = f"{requests_per_s:g} requests a second are granted"
    quota = error_details_pb2.QuotaFailure(
        violations=[
            error_details_pb2.QuotaFailure.Violation(subject=f"caller:{caller}", description=told)
        ]
    )
    return StatusError(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        Reason.RATE_LIMITED,
        f"{told} to {caller}; try again in {retry_after_s:.2f} s",
        details=[_retry(retry_after_s), quota],
        metadata={"caller": caller},
    )


def deadline_exceeded(stage: str) -> StatusError:
    """DEADLINE_EXCEEDED: the caller's time was over before this stage began."""
    return StatusError(
        grpc.StatusCode.DEADLINE_EXCEEDED,
        Reason.DEADLINE_EXCEEDED,
        f"the deadline passed before {stage}; allow more time or ask for fewer candidates",
        metadata={"stage": stage},
    )


def shutting_down() -> StatusError:
    """UNAVAILABLE: the server is stopping; another replica, or a restart, will answer."""
    return StatusError(
        grpc.StatusCode.UNAVAILABLE,
        Reason.SHUTTING_DOWN,
        "the server is shutting down; try again, or another replica",
    )


def store_unavailable(user_id: str) -> StatusError:
    """UNAVAILABLE: the store does not answer, and no history of the user is held any more.

    The store is asked again once a second: whoever comes back sooner is told the same.
    """
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.FromNanoseconds(round(ASK_AGAIN_S * 1e9))
    return StatusError(
        grpc.StatusCode.UNAVAILABLE,
        Reason.STORE_UNAVAILABLE,
        f"the feature store does not answer, and no history of {shown(user_id)} is held that is "
        f"new enough; try again in {ASK_AGAIN_S:.0f} s, or send the history inline",
        details=[retry],
    )


def internal(error_id: str) -> StatusError:
    """INTERNAL: nothing of the cause is told but the id under which the log has it."""
    return StatusError(
        grpc.StatusCode.INTERNAL,
        Reason.INTERNAL,
        f"an unexpected error; the server's log has it under {error_id}",
        metadata={"error_id": error_id},
    )


def _retry(delay_s: float) -> error_details_pb2.RetryInfo:
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.FromNanoseconds(round(delay_s * 1e9))
    return retry


def _packed(message: Message) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(message)
    return packed
