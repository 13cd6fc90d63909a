"""The HTTP listener: its port, its TLS, connections that say nothing, and how it stops."""

import asyncio
import json
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from ranker.limits import ServerConfig
from ranker.service.rest import server as rest_server
from ranker.service.server import PortInUseError, RankerServer, running
from tests.ranker.certificates import Authority, write
from tests.ranker.serving_world import TableServing

PATIENCE_S = 10
CONFIG = ServerConfig(port=0, rest_port=0)
BODY = {"query": "ada", "documents": ["a", "b"]}
AUTHORITY = Authority()


@pytest.fixture
def secured(tmp_path: Path) -> ServerConfig:
    chain, key = write(tmp_path, AUTHORITY.issue("ranker"))
    return ServerConfig(port=0, rest_port=0, tls_certificate=chain, tls_key=key)


@pytest.fixture
def mutual(secured: ServerConfig, tmp_path: Path) -> ServerConfig:
    ca = tmp_path / "clients.pem"
    ca.write_bytes(AUTHORITY.pem)
    return ServerConfig(
        port=0,
        rest_port=0,
        tls_certificate=secured.tls_certificate,
        tls_key=secured.tls_key,
        tls_client_ca=ca,
        log_requests=True,
    )


def info(server: RankerServer, *, trusted: Authority, own: tuple[Path, Path] | None = None) -> str:
    context = ssl.create_default_context(cadata=trusted.pem.decode())
    if own is not None:
        context.load_cert_chain(*own)
    url = f"https://127.0.0.1:{server.rest_port}/v1/info"
    answer = httpx.get(url, verify=context, timeout=PATIENCE_S).raise_for_status().json()
    return str(answer["generation_id"])


def until(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up, "it never came true"
        time.sleep(0.02)


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_no_http_is_served_unless_asked_for() -> None:
    with running(TableServing()) as server:
        assert server.rest_port is None


def test_a_port_that_is_taken_frees_the_servers_own(taken_port: int) -> None:
    config = ServerConfig(port=0, rest_port=taken_port)
    with (
        pytest.raises(PortInUseError, match=r"set server\.rest_port"),
        running(TableServing(), config=config),
    ):
        pass


def test_ipv6_is_served_too() -> None:
    config = ServerConfig(port=0, rest_port=0, rest_host="::1")
    with running(TableServing(), config=config) as server:
        assert httpx.get(f"http://[::1]:{server.rest_port}/healthz").status_code == 200


def test_others_may_not_reach_it_without_tls() -> None:
    config = ServerConfig(port=0, rest_port=0, rest_host="0.0.0.0")
    with pytest.raises(ValueError, match="without TLS"), running(TableServing(), config=config):
        pass


def test_without_fastapi_it_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "ranker.service.rest.app", raising=False)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    with (
        pytest.raises(ImportError, match=r"pip install 'sommelier\[rest\]'"),
        running(TableServing(), config=CONFIG),
    ):
        pass


def test_a_stopping_server_ends_what_is_under_way() -> None:
    serving = TableServing()
    with ThreadPoolExecutor() as pool, running(serving, config=CONFIG) as server:
        url = f"http://127.0.0.1:{server.rest_port}"
        with serving.held():
            call = pool.submit(httpx.post, f"{url}/v1/rerank", json=BODY, timeout=PATIENCE_S)
            assert serving.entered.acquire(timeout=PATIENCE_S)
            stop = asyncio.run_coroutine_threadsafe(server.stop(PATIENCE_S), server.loop)
            until(lambda: not _is_listening(server))
        assert len(call.result().json()["results"]) == 2
        stop.result(timeout=PATIENCE_S)


def _is_listening(server: RankerServer) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", server.rest_port)) == 0


def test_its_port_is_free_again_after_it_stopped() -> None:
    with running(TableServing(), config=CONFIG) as first:
        port = first.rest_port
        httpx.get(f"http://127.0.0.1:{port}/healthz").raise_for_status()
    with running(TableServing(), config=ServerConfig(port=0, rest_port=port)) as second:
        assert second.rest_port == port


@pytest.mark.parametrize("said", [b"", b"GET /healthz HTTP/1.1\r\nhost:"])
def test_whoever_sends_no_headers_keeps_no_connection(
    monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr(rest_server, "HEADERS_S", 0.05)
    with (
        running(TableServing(), config=CONFIG) as server,
        closing(socket.create_connection(("127.0.0.1", server.rest_port))) as silent,
    ):
        silent.settimeout(PATIENCE_S)
        silent.sendall(said)
        assert silent.recv(100) == b""


def test_a_slow_answer_is_not_taken_for_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest_server, "HEADERS_S", 0.05)
    serving = TableServing()
    with ThreadPoolExecutor() as pool, running(serving, config=CONFIG) as server:
        url = f"http://127.0.0.1:{server.rest_port}/v1/rerank"
        with serving.held():
            call = pool.submit(httpx.post, url, json=BODY, timeout=PATIENCE_S)
            assert serving.entered.acquire(timeout=PATIENCE_S)
            time.sleep(0.2)
        assert call.result().status_code == 200


def told(server: RankerServer, name: str, **labels: str) -> float | None:
    return server.metrics.registry.get_sample_value(f"sommelier_{name}", labels or None)


HEAD = "POST /v1/rerank HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
CONTENT = json.dumps(BODY).encode()


def bytewise(connection: socket.socket, content: bytes, *, pause_s: float) -> None:
    for byte in content:
        connection.sendall(bytes([byte]))
        time.sleep(pause_s)


def assert_cut_off(connection: socket.socket) -> None:
    with pytest.raises(OSError, match=r"Broken pipe|reset|EOF"):
        bytewise(connection, b" " * 1000, pause_s=PATIENCE_S / 1000)


@pytest.mark.parametrize("is_pipelined", [False, True])
def test_a_body_that_takes_longer_than_due_is_not_waited_for_whatever_its_deadline(
    monkeypatch: pytest.MonkeyPatch, is_pipelined: bool
) -> None:
    monkeypatch.setattr(rest_server, "BODY_S", 0.3)
    slow = f"{HEAD}x-timeout-ms: 600000\r\ncontent-length: 100000\r\n\r\n"
    first = "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n" if is_pipelined else ""
    with (
        running(TableServing(), config=CONFIG) as server,
        closing(socket.create_connection(("127.0.0.1", server.rest_port))) as connection,
    ):
        connection.settimeout(PATIENCE_S)
        connection.sendall((first + slow).encode())
        assert_cut_off(connection)
        until(lambda: told(server, "under_way") == 0)


def test_a_body_that_comes_slowly_within_its_time_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rest_server, "HEADERS_S", 0.1)
    with (
        running(TableServing(), config=CONFIG) as server,
        closing(socket.create_connection(("127.0.0.1", server.rest_port))) as connection,
    ):
        connection.settimeout(PATIENCE_S)
        connection.sendall(f"{HEAD}content-length: {len(CONTENT)}\r\n\r\n".encode())
        bytewise(connection, CONTENT, pause_s=0.01)
        assert connection.recv(100).startswith(b"HTTP/1.1 200 OK")


def test_headers_beyond_the_limit_are_refused_before_they_end() -> None:
    with (
        running(TableServing(), config=CONFIG) as server,
        closing(socket.create_connection(("127.0.0.1", server.rest_port))) as connection,
    ):
        connection.settimeout(PATIENCE_S)
        connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\nlong: " + b"x" * 17_000)
        assert connection.recv(12) == b"HTTP/1.1 400"


@pytest.mark.parametrize("is_encrypted", [False, True])
def test_whoever_does_not_read_the_answers_keeps_no_connection(
    monkeypatch: pytest.MonkeyPatch, secured: ServerConfig, is_encrypted: bool
) -> None:
    monkeypatch.setattr(rest_server, "READ_S", 0.3)
    trust = ssl.create_default_context(cadata=AUTHORITY.pem.decode())
    with (
        running(TableServing(), config=secured if is_encrypted else CONFIG) as server,
        closing(socket.socket()) as plain,
    ):
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        plain.connect(("127.0.0.1", server.rest_port))
        deaf = trust.wrap_socket(plain, server_hostname="127.0.0.1") if is_encrypted else plain
        with closing(deaf):
            deaf.sendall(b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n" * 500)
            assert_cut_off(deaf)
            assert deaf.recv(12) == b"HTTP/1.1 200"  # the answers were there to be read


def test_tls_is_spoken_with_the_servers_certificate(secured: ServerConfig) -> None:
    with running(TableServing(), config=secured) as server:
        assert info(server, trusted=AUTHORITY) == "g1"
        with pytest.raises(httpx.ConnectError):
            info(server, trusted=Authority("another"))


def test_certificates_are_exchanged_while_the_server_runs(
    secured: ServerConfig, tmp_path: Path
) -> None:
    following = Authority("next")

    def is_trusted() -> bool:
        try:
            return info(server, trusted=following) == "g1"
        except httpx.ConnectError:
            return False

    with running(TableServing(), config=secured) as server:
        assert not is_trusted()
        write(tmp_path, following.issue("ranker"))
        until(is_trusted)


def test_a_callers_certificate_is_asked_for_and_names_them(
    mutual: ServerConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = write(tmp_path, AUTHORITY.issue("shop"), stem="shop")
    foreign = write(tmp_path, Authority("another").issue("shop"), stem="foreign")
    with (
        running(TableServing(), config=mutual) as server,
        caplog.at_level("INFO", "ranker.requests"),
    ):
        assert info(server, trusted=AUTHORITY, own=own) == "g1"
        for wrong in (None, foreign):
            with pytest.raises(httpx.TransportError):
                info(server, trusted=AUTHORITY, own=wrong)
    told = [vars(one)["request"] for one in caplog.records if one.name == "ranker.requests"]
    assert [(one["method"], one["caller"]) for one in told] == [("GetInfo", "shop")]
