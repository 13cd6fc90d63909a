"""Peers that are slow, silent, gone or talk nonsense: others are served, and nothing is held."""

import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any

import grpc
import pytest

from ranker import channels
from ranker.client import RankerClient, RankerError
from ranker.limits import ServerConfig, ServiceLimits
from ranker.pb import ranker_pb2 as pb
from ranker.pb import ranker_pb2_grpc as pb_grpc
from ranker.service import connections
from ranker.service.server import RankerServer, running
from tests.ranker.fault_world import (
    PATIENCE_S,
    serving_apart,
    until,
    wire,
)
from tests.ranker.serving_world import BEST_FIRST, TableServing

METHOD = "/sommelier.ranker.v1.RankerService/Rerank"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\0\0\0\4\0\0\0\0\0"
HEADERS_CUT_SHORT = b"\0\0\x40\1\4\0\0\0\1\x82"
RESET = struct.pack("ii", 1, 0)  # of SO_LINGER: close with RST
FULL_WINDOW = 65_535  # what HTTP/2 lets anybody send before the peer has read any of it
LIMITS = ServiceLimits(message_bytes=20_000)


def is_answering(address: str) -> bool:
    with RankerClient(address, timeout_s=PATIENCE_S) as client:
        items = client.rerank(BEST_FIRST[::-1], user_id="ada").items
    return [item.item_id for item in items] == BEST_FIRST


@pytest.fixture
def server() -> Iterator[RankerServer]:
    with running(TableServing(), limits=LIMITS, grace_s=1) as started:
        yield started


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)


def raw(address: str, message: bytes, **options: Any) -> grpc.RpcError:
    """The error that these bytes are answered with."""
    with (
        grpc.insecure_channel(address) as channel,
        pytest.raises(grpc.RpcError) as caught,
    ):
        channel.unary_unary(METHOD)(message, timeout=PATIENCE_S, **options)
    return caught.value


NONSENSE = {
    "http/1.1": b"GET /v1/rerank HTTP/1.1\r\nHost: x\r\n\r\n",
    "tls": bytes.fromhex("16030100c8010000c40303") + bytes(189),
    "zeros": bytes(70_000),
    "letters": b"hello, anybody there?\n" * 4_000,
    "half a preface": PREFACE[:10],
    "no settings": PREFACE,
    "a frame cut short": PREFACE + SETTINGS + HEADERS_CUT_SHORT,
    "a frame too large": PREFACE + SETTINGS + b"\xff\xff\xff\0\0\0\0\0\1" + bytes(90_000),
    "headers of no table": PREFACE + SETTINGS + b"\0\0\3\1\5\0\0\0\1\xff\xff\xff",
    "data of no stream": PREFACE + SETTINGS + b"\0\0\4\0\1\0\0\0\7abcd",
    "pings without end": PREFACE + SETTINGS + (b"\0\0\x08\6\0\0\0\0\0" + bytes(8)) * 5_000,
    "settings without end": PREFACE + SETTINGS * 9_000,
    "resets without end": PREFACE + SETTINGS + b"\0\0\4\3\0\0\0\0\1\0\0\0\0" * 5_000,
}


@pytest.mark.parametrize("name", NONSENSE)
def test_whatever_is_no_grpc_harms_nobody(server: RankerServer, name: str) -> None:
    with connected(server.port) as peer:
        with suppress(ConnectionError):  # turned away in the midst of it
            peer.sendall(NONSENSE[name])
        assert is_answering(server.address)


@pytest.mark.parametrize("cut", [0, 1, 5, 20, 40])
def test_a_message_that_is_cut_short_or_mangled_is_refused_by_name(
    server: RankerServer, cut: int
) -> None:
    message = pb.RerankRequest(user=pb.User(user_id="ada"), item_ids=BEST_FIRST).SerializeToString()
    mangled = message[:cut] + b"\xff" * 12
    error = raw(server.address, mangled)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "are not a RerankRequest" in str(error.details())
    assert is_answering(server.address)


@pytest.mark.parametrize("factor", [1.01, 5, 400])
@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_a_message_beyond_the_limit_is_refused_before_it_is_read(
    server: RankerServer, factor: float, compression: grpc.Compression
) -> None:
    """Also one that is small on its way and large once it is unpacked."""
    request = pb.RerankRequest(text="a" * round(factor * LIMITS.message_bytes))
    error = raw(server.address, request.SerializeToString(), compression=compression)
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert is_answering(server.address)


def test_metadata_beyond_the_limit_is_refused(server: RankerServer) -> None:
    request = pb.RerankRequest(user=pb.User(user_id="ada"), item_ids=["a"]).SerializeToString()
    error = raw(server.address, request, metadata=[("x-much", "a" * 50_000)])
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert is_answering(server.address)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both sides soon ask whether the other is there."""
    monkeypatch.setattr(connections, "HANDSHAKE_MS", 1_000)
    monkeypatch.setattr(connections, "KEEPALIVE_TIMEOUT_MS", 1_000)
    monkeypatch.setattr(connections, "LEAST_PING_MS", 100)
    monkeypatch.setattr(channels, "KEEPALIVE_MS", 500)
    monkeypatch.setattr(channels, "KEEPALIVE_TIMEOUT_MS", 500)


QUICK = ServerConfig(port=0, keepalive_s=1)


@pytest.mark.parametrize("said", [b"", PREFACE[:10], PREFACE + SETTINGS], ids=repr)
def test_connections_that_say_nothing_hold_up_nobody_and_are_closed(
    hurried: None, said: bytes
) -> None:
    """Before they speak HTTP/2, or after: then they leave the server's pings without an answer."""
    with running(TableServing(), config=QUICK) as server, ExitStack() as stack:
        silent = [stack.enter_context(connected(server.port)) for _ in range(200)]
        for peer in silent:
            peer.sendall(said)
        assert is_answering(server.address)
        for peer in silent:
            while peer.recv(4096):
                pass
        assert is_answering(server.address)


def test_a_caller_who_is_gone_without_a_word_leaves_the_line(hurried: None) -> None:
    serving = TableServing()
    with (
        running(serving, config=QUICK) as server,
        wire(server.port) as between,
        grpc.insecure_channel(between.address) as lost,
        grpc.insecure_channel(server.address) as channel,
        serving.held(),
    ):
        stub = pb_grpc.RankerServiceStub(lost)
        running_one = stub.Rerank.future(request("a"), timeout=600)
        assert serving.entered.acquire(timeout=PATIENCE_S)
        waiting = [stub.Rerank.future(request("a", f"z{n}"), timeout=600) for n in range(5)]
        until(lambda: server.num_waiting == 5)
        between.cut()
        until(lambda: server.num_waiting == 0)
        follower = pb_grpc.RankerServiceStub(channel).Rerank.future(request("a", "b"), timeout=600)
        until(lambda: server.num_waiting == 1)
        serving._gate.set()
        assert len(follower.result().items) == 2
        for call in (running_one, *waiting):
            call.cancel()


def test_a_server_that_is_gone_without_a_word_costs_deadlines_only_until_it_is_noticed(
    hurried: None,
) -> None:
    """The connection stays open and silent; the next one leads to a server that is there."""
    codes = []

    def is_noticed() -> bool:
        try:
            return bool(client.rerank(["a"], user_id="ada").items)
        except RankerError as error:
            codes.append(error.code)
            return False

    with (
        running(TableServing(), config=QUICK) as server,
        wire(server.port) as between,
        RankerClient(between.address, timeout_s=0.4) as client,
    ):
        assert client.rerank(["a"], user_id="ada").items
        between.cut()
        until(is_noticed)
    assert codes[0] == "DEADLINE_EXCEEDED"
    assert set(codes) <= {"DEADLINE_EXCEEDED", "UNAVAILABLE"}


def test_requests_that_come_byte_by_byte_hold_no_worker(server: RankerServer) -> None:
    """One that never comes to its end is not begun; one that does is answered."""
    with wire(server.port) as between, grpc.insecure_channel(between.address) as channel:
        slow = pb_grpc.RankerServiceStub(channel)
        assert slow.Rerank(request("a"), timeout=PATIENCE_S).items
        between.cut(to_client=False)
        calls = [slow.Rerank.future(request("a", f"z{n}"), timeout=PATIENCE_S) for n in range(20)]
        assert is_answering(server.address)
        assert server.num_waiting == 0
        between.restore()
        assert all(len(call.result().items) == 2 for call in calls)


def test_a_caller_who_does_not_read_holds_no_worker_and_loses_nothing() -> None:
    """Answers beyond what HTTP/2 sends unasked wait in the server; its one worker goes on."""
    item_ids = [f"{n:04}-{'x' * 240}" for n in range(500)]
    with (
        running(TableServing()) as server,
        wire(server.port) as between,
        grpc.insecure_channel(between.address) as channel,
    ):
        lazy = pb_grpc.RankerServiceStub(channel)
        whole = lazy.Rerank(request(*item_ids), timeout=PATIENCE_S)
        assert whole.ByteSize() > FULL_WINDOW
        between.cut(to_server=False)
        calls = [
            lazy.Rerank.future(request(*item_ids, top_k=500 - n), timeout=PATIENCE_S)
            for n in range(10)
        ]
        streams = [
            lazy.StreamRerank(
                pb.StreamRerankRequest(rerank=request(*item_ids[n:], *BEST_FIRST[:n])),
                timeout=PATIENCE_S,
            )
            for n in range(5)
        ]
        until(lambda: counted(server) >= 1 + 10)
        assert is_answering(server.address)
        between.restore()
        for n, call in enumerate(calls):
            assert list(call.result().items) == list(whole.items[: 500 - n])
        for stream in streams:
            *_, last = stream
            assert last.is_final
            assert len(last.ranking.items) == 500


def test_callers_who_leave_at_any_byte_leave_nothing_behind() -> None:
    said = PREFACE + SETTINGS + HEADERS_CUT_SHORT
    with serving_apart() as server:
        for _ in range(2):  # the first round makes what a server needs at all
            num_files = server.num_files
            for length in range(len(said)):
                with connected(server.port) as peer:
                    peer.sendall(said[:length])
                    if length % 2:  # without a FIN
                        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            assert is_answering(server.address)
        until(lambda: server.num_files <= num_files)


def request(*item_ids: str, **more: Any) -> pb.RerankRequest:
    return pb.RerankRequest(user=pb.User(user_id="ada"), item_ids=item_ids, **more)


def counted(server: RankerServer) -> float:
    labels = {"method": "Rerank", "code": "OK"}
    return server.metrics.registry.get_sample_value("sommelier_requests_total", labels) or 0.0
