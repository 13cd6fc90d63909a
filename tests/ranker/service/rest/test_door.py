"""Deadlines, sizes and hang-ups over HTTP: what gRPC does by itself holds at this door, too."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ranker.limits import ServerConfig, ServiceLimits
from ranker.service.server import RankerServer, running
from tests.ranker.serving_world import TableServing

LIMITS = ServiceLimits(message_bytes=2000)
PATIENCE_S = 10
BODY = {"query": "ada", "documents": ["a", "b"]}
HEAD = "POST /v1/rerank HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
TIMEOUT_MS = "x-timeout-ms"
KIND = {"content-type": "application/json"}
FIELDS = (
    *("query", "documents", "top_n", "return_documents", "model", "request_id", "generation_id"),
    *("behavior", "filter", "weights", "anytime", "text", "user_id", "history", "recent", "top_k"),
    *("num_candidates", "exclude_item_ids", "item_id", "timestamp", "weight", "among", "column"),
)


@pytest.fixture
def serving() -> TableServing:
    return TableServing()


@pytest.fixture
def server(serving: TableServing) -> Iterator[RankerServer]:
    config = ServerConfig(port=0, rest_port=0)
    with running(serving, config=config, limits=LIMITS, grace_s=0) as started:
        yield started


@pytest.fixture
def http(server: RankerServer) -> Iterator[httpx.Client]:
    base_url = f"http://127.0.0.1:{server.rest_port}"
    with httpx.Client(base_url=base_url, timeout=PATIENCE_S) as client:
        yield client


@pytest.fixture
def raw(server: RankerServer) -> Iterator[socket.socket]:
    """A connection on which anything may be said."""
    with closing(socket.create_connection(("127.0.0.1", server.rest_port))) as connection:
        connection.settimeout(PATIENCE_S)
        yield connection


def posted(http: httpx.Client, content: bytes, **headers: str) -> Any:
    headers = {"content-type": "application/json", **headers}
    return http.post("/v1/rerank", content=content, headers=headers)


def counted(server: RankerServer, code: str) -> float | None:
    labels = {"method": "Rerank", "code": code}
    return server.metrics.registry.get_sample_value("sommelier_requests_total", labels)


def until(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up, "it never came true"
        time.sleep(0.005)


def test_a_deadline_that_passes_is_told_and_the_work_given_up(
    http: httpx.Client, server: RankerServer, serving: TableServing
) -> None:
    with serving.held():
        response = http.post("/v1/rerank", json=BODY, headers={TIMEOUT_MS: "50"})
        assert response.status_code == 504
        assert response.json()["reason"] == "DEADLINE_EXCEEDED"
    assert counted(server, "DEADLINE_EXCEEDED") == 1
    http.post("/v1/rerank", json=BODY).raise_for_status()
    assert len(serving.reranked) == 1  # only the second one's


def test_the_settings_deadline_holds_where_none_is_named(serving: TableServing) -> None:
    config = ServerConfig(port=0, rest_port=0, rest_timeout_s=0.05)
    with running(serving, config=config) as server, serving.held():
        url = f"http://127.0.0.1:{server.rest_port}/v1/rerank"
        assert httpx.post(url, json=BODY, timeout=PATIENCE_S).status_code == 504


@pytest.mark.parametrize("sent", ["", "soon", "0", "-1", "nan", "inf", "1e999"])
def test_a_deadline_that_is_none_is_refused(http: httpx.Client, sent: str) -> None:
    response = http.post("/v1/rerank", json=BODY, headers={TIMEOUT_MS: sent})
    assert response.status_code == 400
    assert response.json()["fields"][0]["field"] == TIMEOUT_MS


def test_a_body_that_does_not_come_is_waited_for_until_the_deadline(raw: socket.socket) -> None:
    raw.sendall(f'{HEAD}{TIMEOUT_MS}: 50\r\ncontent-length: 100\r\n\r\n{{"query'.encode())
    assert raw.recv(4096).startswith(b"HTTP/1.1 504 ")


def test_whoever_hangs_up_leaves_the_queue_and_is_never_worked_for(
    http: httpx.Client, server: RankerServer, serving: TableServing, raw: socket.socket
) -> None:
    with ThreadPoolExecutor() as pool, serving.held():
        first = pool.submit(http.post, "/v1/rerank", json=BODY)
        assert serving.entered.acquire(timeout=PATIENCE_S)
        content = json.dumps({**BODY, "documents": ["c"]})
        raw.sendall(f"{HEAD}content-length: {len(content)}\r\n\r\n{content}".encode())
        until(lambda: server.num_waiting == 1)
        raw.close()
        until(lambda: server.num_waiting == 0)
        until(lambda: counted(server, "CANCELLED") == 1)
        serving._gate.set()
        assert first.result().status_code == 200
    assert len(serving.reranked) == 1


def test_whoever_hangs_up_within_their_body_is_counted_as_gone(
    server: RankerServer, raw: socket.socket
) -> None:
    raw.sendall(f'{HEAD}content-length: 100\r\n\r\n{{"query'.encode())
    raw.close()
    until(lambda: counted(server, "CANCELLED") == 1)


def test_a_body_beyond_the_limit_is_refused_whether_it_says_so_or_not(
    http: httpx.Client, server: RankerServer
) -> None:
    content = json.dumps({**BODY, "text": "x" * 3000}).encode()
    assert posted(http, content).status_code == 413

    def parts() -> Iterator[bytes]:
        yield content  # sent in chunks, without its length

    headers = {"content-type": "application/json"}
    response = http.post("/v1/rerank", content=parts(), headers=headers)
    assert response.status_code == 413
    assert response.json()["reason"] == "MESSAGE_TOO_LARGE"
    assert counted(server, "RESOURCE_EXHAUSTED") == 2


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[" * 1990, b"\xff\xfe{", b"null", b"[]", b'"ada"', b'{"query": "\xff"}'],
)
def test_what_is_no_such_body_is_the_callers_fault(
    http: httpx.Client, server: RankerServer, content: bytes
) -> None:
    assert posted(http, content).status_code == 400
    assert counted(server, "INVALID_ARGUMENT") == 1


def test_another_kind_of_content_is_the_callers_fault(http: httpx.Client) -> None:
    content = json.dumps(BODY).encode()
    response = http.post("/v1/rerank", content=content, headers={"content-type": "text/plain"})
    assert response.status_code == 400


def test_a_request_id_comes_back_in_its_header_unless_none_could_bear_it(
    http: httpx.Client,
) -> None:
    refused = http.post("/v1/rerank", json={}, headers={"x-request-id": "r1"})
    assert refused.headers["x-request-id"] == "r1"
    answered = http.post("/v1/rerank", json=BODY, headers={"x-request-id": "r2"})
    assert answered.headers["x-request-id"] == answered.json()["id"] == "r2"
    hostile = {**BODY, "request_id": "r3\r\nset-cookie: a=b"}
    answered = http.post("/v1/rerank", json=hostile)
    assert answered.json()["id"] == hostile["request_id"]
    assert "x-request-id" not in answered.headers
    assert "set-cookie" not in answered.headers


def test_a_trace_is_told_to_those_who_watch(
    http: httpx.Client, caplog: pytest.LogCaptureFixture, serving: TableServing
) -> None:
    config = ServerConfig(port=0, rest_port=0, log_requests=True)
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with running(serving, config=config) as server, caplog.at_level("INFO", "ranker.requests"):
        url = f"http://127.0.0.1:{server.rest_port}/v1/info"
        httpx.get(url, headers={"traceparent": parent}).raise_for_status()
    [record] = [one for one in caplog.records if one.name == "ranker.requests"]
    assert vars(record)["request"]["trace_id"] == "0af7651916cd43dd8448eb211c80319c"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    path=st.sampled_from(["/v1/rerank", "/v2/rerank", "/v1/recommend"]),
    body=st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=6),
    base=st.sampled_from([{}, BODY, {"user_id": "ada"}]),
)
def test_any_body_is_answered_or_refused_and_nothing_is_the_servers_fault(
    http: httpx.Client, path: str, body: dict[str, Any], base: dict[str, Any]
) -> None:
    content = json.dumps({**base, **body}).encode()
    response = http.post(path, content=content, headers={"content-type": "application/json"})
    assert response.status_code in {200, 400, 404, 413}
    assert response.json()


@pytest.mark.parametrize("name", ["query", "documents", "request_id", "behavior", "generation_id"])
def test_half_a_character_is_the_callers_fault(http: httpx.Client, name: str) -> None:
    value = ["\ud800"] if name == "documents" else "\ud800"
    content = json.dumps({**BODY, name: value}).encode()
    assert posted(http, content).status_code == 400


def test_half_a_character_in_a_fields_name_is_the_callers_fault(http: httpx.Client) -> None:
    response = http.post("/v1/recommend", content=b'{"user_id": "ada", "\\ud800": 1}', headers=KIND)
    assert response.status_code == 400
