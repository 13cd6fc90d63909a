"""What a connection may hold, tried on a running server; and which hosts need TLS."""

import socket
import time

import grpc
import pytest

from ranker.limits import ServerConfig, ServiceLimits
from ranker.pb import ranker_pb2 as pb
from ranker.pb import ranker_pb2_grpc as pb_grpc
from ranker.service import connections
from ranker.service.server import running
from tests.ranker.serving_world import TableServing

PATIENCE_S = 10
METHOD = "/sommelier.ranker.v1.RankerService/Rerank"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"  # with empty settings
PING = b"\0\0\x08\6\0\0\0\0\0" + bytes(8)
LIMITS = ServiceLimits(message_bytes=1 << 20)


def info(channel: grpc.Channel, **more: object) -> object:
    return pb_grpc.RankerServiceStub(channel).GetInfo(
        pb.GetInfoRequest(),
        timeout=PATIENCE_S,
        **more,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1", "localhost"])
def test_the_loopback_needs_no_tls(host: str) -> None:
    connections.check_exposure(host, ServerConfig())


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "ranker.example"])
def test_any_other_host_needs_tls_or_the_word_that_it_is_not_needed(host: str) -> None:
    with pytest.raises(ValueError, match=r"set server\.tls_certificate and server\.tls_key, or"):
        connections.check_exposure(host, ServerConfig(host=host))
    connections.check_exposure(host, ServerConfig(host=host, insecure=True))


def test_a_server_does_not_start_where_others_would_reach_it_in_plain_text() -> None:
    with (
        pytest.raises(ValueError, match=r"listening on 0\.0\.0\.0 without TLS"),
        running(TableServing(), config=ServerConfig(host="0.0.0.0", port=0)),
    ):
        pass


def test_connections_beyond_the_limit_are_closed_and_the_others_go_on() -> None:
    config = ServerConfig(port=0, connections=3)
    with running(TableServing(), config=config) as server:
        with grpc.insecure_channel(server.address) as channel:
            info(channel)
            others = [socket.create_connection((server.host, server.port)) for _ in range(10)]
            num_closed = sum(_is_closed(other) for other in others)
            assert num_closed == 8
            assert info(channel)
            for other in others:
                other.close()
        until = time.monotonic() + PATIENCE_S
        while _is_refused(server.address):  # the places are free again
            assert time.monotonic() < until


def _is_closed(connection: socket.socket) -> bool:
    """Whether the server hangs up; it greets with its settings where it does not."""
    connection.settimeout(PATIENCE_S)
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def _is_refused(address: str) -> bool:
    with grpc.insecure_channel(address) as channel:
        try:
            info(channel)
        except grpc.RpcError:
            return True
        return False


def test_calls_beyond_a_connections_share_wait_and_hold_up_nobody_else() -> None:
    serving = TableServing()
    apart = [("grpc.use_local_subchannel_pool", 1)]
    with (
        running(serving, config=ServerConfig(port=0, streams=1)) as server,
        grpc.insecure_channel(server.address, options=apart) as busy,
        grpc.insecure_channel(server.address, options=apart) as other,
    ):
        with serving.held():
            request = pb.RerankRequest(user=pb.User(user_id="ada"), item_ids=["a"])
            call = pb_grpc.RankerServiceStub(busy).Rerank.future(request, timeout=PATIENCE_S)
            assert serving.entered.acquire(timeout=PATIENCE_S)
            with pytest.raises(grpc.RpcError) as late:
                pb_grpc.RankerServiceStub(busy).GetInfo(pb.GetInfoRequest(), timeout=0.3)
            assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED  # type: ignore[attr-defined]
            assert info(other)
        assert call.result().items
        assert info(busy)


def test_a_connection_that_has_come_of_age_is_renewed_without_a_failed_call() -> None:
    config = ServerConfig(port=0, connection_age_s=0.2)
    with (
        running(TableServing(), config=config) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        until = time.monotonic() + 2
        while time.monotonic() < until:
            assert info(channel)
        with socket.create_connection((server.host, server.port)) as silent:
            silent.settimeout(PATIENCE_S)
            silent.sendall(PREFACE)
            _read_until(b"max_age", silent)


def _read_until(said: bytes, connection: socket.socket) -> None:
    received = b""
    while said not in received:
        chunk = connection.recv(4096)
        assert chunk, f"hung up without {said!r}"
        received += chunk


def test_a_caller_who_pings_without_end_is_turned_away() -> None:
    with running(TableServing()) as server:
        with socket.create_connection((server.host, server.port)) as connection:
            connection.settimeout(PATIENCE_S)
            connection.sendall(PREFACE)
            connection.sendall(4 * PING)
            _read_until(b"too_many_pings", connection)
        with grpc.insecure_channel(server.address) as channel:
            assert info(channel)


def test_metadata_beyond_the_limit_is_refused() -> None:
    with running(TableServing()) as server, grpc.insecure_channel(server.address) as channel:
        with pytest.raises(grpc.RpcError) as refused:
            info(channel, metadata=[("x-long", "x" * 20_000)])
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED  # type: ignore[attr-defined]
        assert info(channel)


def test_a_compressed_message_is_as_long_as_what_it_becomes() -> None:
    with (
        running(TableServing(), limits=LIMITS) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        with pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary(METHOD)(
                bytes(100 * LIMITS.message_bytes),
                compression=grpc.Compression.Gzip,
                timeout=PATIENCE_S,
            )
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED  # type: ignore[attr-defined]
        assert "larger than max" in refused.value.details()  # type: ignore[attr-defined]
        assert info(channel, compression=grpc.Compression.Gzip)
