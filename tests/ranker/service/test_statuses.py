"""Statuses: details for programs, sentences for people, small enough to travel."""

import grpc
import pytest
from google.rpc import error_details_pb2 as details_pb2
from grpc_status import rpc_status

from ranker.service import statuses

METADATA_BYTES = 8 * 1024  # what gRPC grants to all metadata of an answer
LONG_ID = "\N{GRAPES}" * 256
ALL = [
    statuses.invalid([("item_ids[3]", "empty; an id is needed")]),
    statuses.refused(ValueError("no such behavior")),
    statuses.malformed("RerankRequest"),
    statuses.too_large(limit_bytes=2000),
    statuses.unknown_user("bob"),
    statuses.wrong_generation(asked="g0", served="g1"),
    statuses.wrong_space(["s0"], served=["s1"]),
    statuses.queue_full(num_waiting=3, retry_after_s=0.25),
    statuses.queue_slow(wait_s=1.5, retry_after_s=0.25),
    statuses.deadline_exceeded("reranking"),
    statuses.shutting_down(),
    statuses.store_unavailable("ada"),
    statuses.worker_died(),
    statuses.set_aside(num_workers=3, seconds=599.5),
    statuses.unauthenticated("no token came along"),
    statuses.permission_denied(["shop"]),
    statuses.rate_limited("shop", requests_per_s=2.5, retry_after_s=0.25),
    statuses.internal("abc"),
]


@pytest.mark.parametrize("error", ALL, ids=lambda error: error.reason)
def test_every_status_has_a_reason_a_domain_and_its_code(error: statuses.StatusError) -> None:
    info = details_pb2.ErrorInfo()
    assert error.status.details[0].Unpack(info)
    assert (info.reason, info.domain) == (error.reason, "sommelier")
    assert rpc_status.to_status(error.status).code is error.code
    assert error.status.message == error.message == str(error)


def test_every_reason_is_used_and_equals_its_name() -> None:
    assert {error.reason for error in ALL} == set(statuses.Reason)
    assert all(reason.value == reason.name for reason in statuses.Reason)


@pytest.mark.parametrize(
    "error",
    [
        statuses.invalid([(f"item_ids[{n}]", statuses.shown(LONG_ID)) for n in range(1000)]),
        statuses.unknown_user(LONG_ID),
        statuses.wrong_generation(asked=LONG_ID, served="g1"),
        statuses.refused(ValueError("x" * 10**6)),
    ],
    ids=lambda error: error.reason,
)
def test_the_longest_ids_still_fit_into_the_metadata(error: statuses.StatusError) -> None:
    base64_bytes = len(error.status.SerializeToString()) * 4 / 3
    percent_bytes = len(error.message.encode()) * 3
    assert base64_bytes + percent_bytes < METADATA_BYTES


def test_of_many_violations_the_first_are_told_and_all_are_counted() -> None:
    error = statuses.invalid([(f"item_ids[{n}]", "empty") for n in range(20)])
    bad_request = details_pb2.BadRequest()
    assert error.status.details[1].Unpack(bad_request)
    assert len(bad_request.field_violations) == statuses.MOST_VIOLATIONS
    assert error.message == "item_ids[0]: empty (and 19 more)"


def test_a_callers_text_is_quoted_and_shortened() -> None:
    assert statuses.shown("it's\n") == '"it\'s\\n"'
    assert statuses.shown("x" * 48) == repr("x" * 48)
    assert statuses.shown("x" * 49) == repr("x" * 47 + "…")


def test_a_full_queue_carries_its_delay() -> None:
    error = statuses.queue_full(num_waiting=3, retry_after_s=0.25)
    retry = details_pb2.RetryInfo()
    assert error.status.details[1].Unpack(retry)
    assert retry.retry_delay.ToMilliseconds() == 250
    assert error.code is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("error", ALL, ids=lambda error: error.reason)
def test_a_status_that_crossed_to_another_process_is_the_same_error(
    error: statuses.StatusError,
) -> None:
    read = statuses.read(error.status)
    assert (read.code, read.reason, read.message) == (error.code, error.reason, error.message)
    assert read.status == error.status
