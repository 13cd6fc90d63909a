"""Every status has an HTTP code, and a body that a program can decide by."""

import grpc
import pytest

from ranker.service import statuses
from ranker.service.rest.refusals import headers, http_code, to_refusal
from ranker.service.statuses import StatusError


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (statuses.invalid([("a", "b")]), 400),
        (statuses.wrong_generation(asked="g0", served="g1"), 400),
        (statuses.unauthenticated("no token was sent"), 401),
        (statuses.permission_denied(["shop"]), 403),
        (statuses.unknown_user("bob"), 404),
        (statuses.too_large(limit_bytes=9), 413),
        (statuses.queue_full(num_waiting=1, retry_after_s=0.25), 429),
        (statuses.rate_limited("shop", requests_per_s=1, retry_after_s=2), 429),
        (statuses.internal("e1"), 500),
        (statuses.shutting_down(), 503),
        (statuses.deadline_exceeded("reranking"), 504),
    ],
)
def test_a_status_has_its_http_code_and_keeps_its_reason(error: StatusError, code: int) -> None:
    refusal = to_refusal(error, str)
    assert http_code(refusal) == code
    assert refusal.reason == error.reason
    assert refusal.code == error.code.name
    assert refusal.message == error.message


def test_a_delay_is_told_exactly_and_in_whole_seconds() -> None:
    told = headers(to_refusal(statuses.queue_full(num_waiting=1, retry_after_s=1.25), str))
    assert told == {"retry-after": "2", "retry-after-ms": "1250"}


def test_whatever_is_unavailable_may_be_asked_again_soon() -> None:
    assert "retry-after" in headers(to_refusal(statuses.shutting_down(), str))


def test_fields_are_called_as_the_caller_called_them() -> None:
    error = statuses.invalid([("item_ids[0]", "empty"), ("top_k", "9, at most 8 is allowed")])
    refusal = to_refusal(error, lambda field: field.replace("item_ids", "documents"))
    assert [one.field for one in refusal.fields] == ["documents[0]", "top_k"]
    assert refusal.message == "documents[0]: empty (and 1 more)"


def test_a_code_that_http_has_no_number_for_is_a_fault_of_the_server() -> None:
    error = StatusError(grpc.StatusCode.DATA_LOSS, statuses.Reason.INTERNAL, "lost")
    assert http_code(to_refusal(error, str)) == 500
