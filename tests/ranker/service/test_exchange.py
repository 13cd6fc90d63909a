"""An exchange tells its observers once, however the request ended."""

import asyncio

import grpc
import pytest
from google.protobuf.message import DecodeError

from ranker.pb import ranker_pb2 as pb
from ranker.service import statuses
from ranker.service.exchange import CALLER, Exchange, Exchanges

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
REQUEST = pb.RerankRequest(request_id="r1")


@pytest.fixture
def ended() -> list[Exchange]:
    return []


@pytest.fixture
def exchanges(ended: list[Exchange]) -> Exchanges:
    return Exchanges([ended.append])


def begin(exchanges: Exchanges, request: object = REQUEST, **headers: str):  # type: ignore[no-untyped-def]
    return exchanges.begin("Rerank", request, protocol="grpc", headers=headers)


def test_an_answer_is_told_with_its_ids_and_its_caller(
    exchanges: Exchanges, ended: list[Exchange]
) -> None:
    reset = CALLER.set("shop")
    with begin(exchanges, pb.RerankRequest()) as exchange:
        assert exchanges.num_under_way == 1
        exchange.sent(pb.RerankResponse(request_id="made-up", scored_count=3))
    CALLER.reset(reset)
    [told] = ended
    assert (told.code, told.reason, told.request_id, told.caller) == ("OK", "", "made-up", "shop")
    assert told.answer is not None
    assert told.answer.scored_count == 3
    assert told.first_s is None
    assert told.seconds > 0
    assert exchanges.num_under_way == 0


def test_of_a_stream_the_last_answer_counts_and_the_first_is_timed(
    exchanges: Exchanges, ended: list[Exchange]
) -> None:
    with begin(exchanges, pb.StreamRerankRequest(rerank=REQUEST)) as exchange:
        for scored in (0, 2):
            ranking = pb.RerankResponse(scored_count=scored)
            exchange.sent(pb.StreamRerankResponse(ranking=ranking))
    [told] = ended
    assert told.request_id == "r1"
    assert told.num_messages == 2
    assert told.answer is not None
    assert told.answer.scored_count == 2
    assert told.first_s is not None
    assert 0 < told.first_s <= told.seconds


def test_a_refusal_is_told_with_code_and_reason_and_goes_on_as_it_is(
    exchanges: Exchanges, ended: list[Exchange]
) -> None:
    error = statuses.shutting_down()
    with pytest.raises(statuses.StatusError) as caught, begin(exchanges):
        raise error
    assert caught.value is error
    assert [(told.code, told.reason) for told in ended] == [("UNAVAILABLE", "SHUTTING_DOWN")]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ValueError("no such behavior"), grpc.StatusCode.INVALID_ARGUMENT),
        (KeyError("/secret"), grpc.StatusCode.INTERNAL),
    ],
)
def test_any_other_error_becomes_a_status(
    exchanges: Exchanges, ended: list[Exchange], error: Exception, code: grpc.StatusCode
) -> None:
    with pytest.raises(statuses.StatusError) as caught, begin(exchanges):
        raise error
    assert caught.value.code is code
    assert "/secret" not in caught.value.message
    assert [told.code for told in ended] == [code.name]


@pytest.mark.parametrize("left", [asyncio.CancelledError(), GeneratorExit()])
def test_whoever_leaves_is_told_as_cancelled(
    exchanges: Exchanges, ended: list[Exchange], left: BaseException
) -> None:
    with pytest.raises(type(left)), begin(exchanges):
        raise left
    assert [(told.code, told.reason) for told in ended] == [("CANCELLED", "")]
    assert exchanges.num_under_way == 0


def test_what_could_not_be_parsed_is_refused_before_anything_is_done(
    exchanges: Exchanges, ended: list[Exchange]
) -> None:
    with pytest.raises(statuses.StatusError), begin(exchanges, DecodeError("x")):
        pytest.fail("there is nothing to answer")
    assert [told.reason for told in ended] == ["MALFORMED_MESSAGE"]


@pytest.mark.parametrize(
    ("sent", "trace_id"),
    [
        (PARENT, "0af7651916cd43dd8448eb211c80319c"),
        ("00-xyz-b7ad6b7169203331-01", ""),
        (PARENT + "\nroot: hacked", ""),
    ],
)
def test_a_trace_is_known_by_its_header_if_it_is_one(
    exchanges: Exchanges, ended: list[Exchange], sent: str, trace_id: str
) -> None:
    with begin(exchanges, traceparent=sent):
        pass
    assert [told.trace_id for told in ended] == [trace_id]
