"""Thousands of messages that nobody should send, to a server in a process of its own.

Each gets the status that it deserves, with its details; the server goes on with the same answers,
and holds no more memory than before.
"""

import random
import socket
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ranker.pb import ranker_pb2 as pb
from ranker.pb import ranker_pb2_grpc as pb_grpc
from ranker.service.statuses import Reason
from tests.ranker.fault_world import ServerProcess, serving_apart
from tests.ranker.hostile import BY_HAND, damaged, hostile

pytestmark = pytest.mark.slow

SERVICE = "sommelier.ranker.v1.RankerService"
PATIENCE_S = 20
KINDS: dict[str, type[Message]] = {
    "Rerank": pb.RerankRequest,
    "Recommend": pb.RecommendRequest,
    "StreamRerank": pb.StreamRerankRequest,
    "GetInfo": pb.GetInfoRequest,
}
ASKING = [name for name in KINDS if name != "GetInfo"]
DESERVED = {
    grpc.StatusCode.INVALID_ARGUMENT: {Reason.INVALID_REQUEST, Reason.MALFORMED_MESSAGE},
    grpc.StatusCode.NOT_FOUND: {Reason.UNKNOWN_USER},
    grpc.StatusCode.FAILED_PRECONDITION: {Reason.WRONG_GENERATION, Reason.WRONG_SPACE},
}
GOOD = pb.RerankRequest(request_id="good", user=pb.User(user_id="ada"), item_ids=["a", "b", "e"])
FUZZED = settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


class Fuzzed:
    """A server, and what it says to raw bytes."""

    def __init__(self, server: ServerProcess, channel: grpc.Channel) -> None:
        self.server = server
        self.channel = channel

    def told(self, method: str, data: bytes) -> tuple[grpc.StatusCode, str]:
        """The code, and the reason where there is one."""
        name = f"/{SERVICE}/{method}"
        try:
            if method == "StreamRerank":
                list(self.channel.unary_stream(name)(data, timeout=PATIENCE_S))
            else:
                self.channel.unary_unary(name)(data, timeout=PATIENCE_S)
        except grpc.RpcError as error:
            return _told(error)
        return grpc.StatusCode.OK, ""

    def check(self, method: str, data: bytes) -> None:
        """The right status for bytes of any kind."""
        code, reason = self.told(method, data)
        if not _is_message(KINDS[method], data):
            assert (code, reason) == (
                grpc.StatusCode.INVALID_ARGUMENT,
                Reason.MALFORMED_MESSAGE,
            )
        elif code is not grpc.StatusCode.OK:
            assert reason in DESERVED.get(code, ()), (code, reason)

    def check_is_well(self) -> None:
        """It serves, and answers as ever."""
        health = health_pb2_grpc.HealthStub(self.channel).Check(
            health_pb2.HealthCheckRequest(service=SERVICE), timeout=PATIENCE_S
        )
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        answer = pb_grpc.RankerServiceStub(self.channel).Rerank(GOOD, timeout=PATIENCE_S)
        assert [(item.item_id, item.rank) for item in answer.items] == [
            ("e", 1),
            ("b", 2),
            ("a", 3),
        ]


@pytest.fixture(scope="module")
def fuzzed() -> Iterator[Fuzzed]:
    with serving_apart() as server, grpc.insecure_channel(server.address) as channel:
        fuzzed = Fuzzed(server, channel)
        fuzzed.check_is_well()
        yield fuzzed
        fuzzed.check_is_well()


def _told(error: Any) -> tuple[grpc.StatusCode, str]:
    status = rpc_status.from_call(error)
    assert status is not None, f"no details: {error.code()} {error.details()}"
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert "Traceback" not in error.details()
    return error.code(), info.reason


def _is_message(kind: type[Message], data: bytes) -> bool:
    try:
        kind.FromString(data)
    except DecodeError:
        return False
    return True


@given(method=st.sampled_from(sorted(KINDS)), data=st.binary(max_size=300))
@settings(FUZZED, max_examples=1000)
def test_random_bytes_get_the_status_that_they_deserve(
    fuzzed: Fuzzed, method: str, data: bytes
) -> None:
    fuzzed.check(method, data)


@pytest.mark.parametrize("method", ASKING)
@given(data=st.data(), seed=st.integers(0, 2**32))
@settings(FUZZED, max_examples=150)
def test_hostile_and_damaged_messages_get_the_status_that_they_deserve(
    fuzzed: Fuzzed, method: str, data: st.DataObject, seed: int
) -> None:
    message = data.draw(hostile(KINDS[method])).SerializeToString()
    fuzzed.check(method, message)
    rng = random.Random(seed)
    for _ in range(15):
        fuzzed.check(method, damaged(message[:4000], rng))


@pytest.mark.parametrize("method", ASKING)
@pytest.mark.parametrize("what", BY_HAND)
def test_messages_made_by_hand_get_the_status_that_they_deserve(
    fuzzed: Fuzzed, method: str, what: str
) -> None:
    fuzzed.check(method, BY_HAND[what])
    fuzzed.check_is_well()


@given(
    frames=st.lists(
        st.tuples(
            st.integers(0, 12),  # types; 10 and above are unknown
            st.integers(0, 255),  # flags
            st.sampled_from([0, 1, 2, 3, 2**31 - 1]),  # streams
            st.binary(max_size=60),
        ),
        max_size=6,
    ),
    rest=st.binary(max_size=60),
    greets=st.booleans(),
)
@settings(FUZZED, max_examples=300)
def test_bytes_that_are_no_http_take_nothing_from_others(
    fuzzed: Fuzzed, frames: list[tuple[int, int, int, bytes]], rest: bytes, greets: bool
) -> None:
    said = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0" if greets else b""
    for kind, flags, stream, payload in frames:
        head = len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big")
        said += head + payload
    with socket.create_connection(("127.0.0.1", fuzzed.server.port)) as connection:
        connection.sendall(said + rest)
    assert pb_grpc.RankerServiceStub(fuzzed.channel).Rerank(GOOD, timeout=PATIENCE_S).items


def test_memory_is_flat_over_thousands_of_hostile_messages(fuzzed: Fuzzed) -> None:
    messages = _hostile_messages(400)

    def send_all() -> tuple[int, int]:
        for method, data in messages:
            fuzzed.check(method, data)
        return fuzzed.server.held()

    for _ in range(3):  # what is made once is made
        send_all()
    blocks_before, bytes_before = send_all()
    for _ in range(6):
        blocks_after, bytes_after = send_all()
    assert blocks_after <= 1.02 * blocks_before
    assert bytes_after <= 1.02 * bytes_before


def _hostile_messages(count: int) -> list[tuple[str, bytes]]:
    """The same ones in every run."""
    rng = random.Random(7)
    good = {
        "Rerank": GOOD.SerializeToString(),
        "StreamRerank": pb.StreamRerankRequest(rerank=GOOD).SerializeToString(),
    }
    found = [("Rerank", data) for data in BY_HAND.values() if len(data) < 2**19]
    while len(found) < count:
        method = rng.choice(sorted(good))
        found.append((method, damaged(good[method], rng)))
    return found
