"""Log lines are objects that nobody else can write, and nobody waits for their reader."""

import io
import json
import logging
import os
import threading
from typing import Any

import grpc
import pytest

from ranker.limits import ServerConfig
from ranker.pb import ranker_pb2 as pb
from ranker.pb import ranker_pb2_grpc as pb_grpc
from ranker.service.exchange import Exchange
from ranker.service.logs import LineWriter, RequestLog, TextFormatter, written
from ranker.service.server import running
from tests.ranker.serving_world import TableServing

PATIENCE_S = 10
HOSTILE = 'r\n2026 INFO forged\r\u2028{"level": "info"}\x1b[2J"'
CONFIG = ServerConfig(port=0, log_requests=True)


def asked(form: str, *requests: pb.RerankRequest, metadata: Any = ()) -> list[str]:
    """The lines about requests that a real server writes while it answers these."""
    stream = io.StringIO()
    with (
        written(stream, form=form),
        running(TableServing(), config=CONFIG) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        for request in requests:
            call = pb_grpc.RankerServiceStub(channel).Rerank.future(
                request, timeout=PATIENCE_S, metadata=metadata
            )
            call.exception()
    lines = stream.getvalue().split("\n")
    return [line for line in lines if "ranker.requests" in line]


def rerank(user_id: str = "ada", **more: Any) -> pb.RerankRequest:
    return pb.RerankRequest(user=pb.User(user_id=user_id), item_ids=["a", "b"], **more)


def test_a_request_is_one_json_object_with_what_an_operator_looks_for() -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    metadata = (("traceparent", parent),)
    [line] = asked("json", rerank(request_id="r1"), metadata=metadata)
    told = json.loads(line)
    assert told["request_id"] == "r1"
    assert (told["method"], told["protocol"], told["code"]) == ("Rerank", "grpc", "OK")
    assert (told["items"], told["scored"], told["degraded"]) == (2, 2, False)
    assert told["generation_id"] == "g1"
    assert told["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    assert told["ms"] >= told["queue_ms"] + told["retrieve_ms"] + told["rerank_ms"]
    assert told["time"].endswith("+00:00")
    assert told["level"] == "info"


def test_a_refusal_says_why() -> None:
    [line] = asked("json", rerank("nobody", request_id="r2"))
    told = json.loads(line)
    assert (told["code"], told["reason"]) == ("NOT_FOUND", "UNKNOWN_USER")
    assert told["request_id"] == "r2"


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_hostile_id_writes_no_line_of_its_own(form: str) -> None:
    [line] = asked(form, rerank(request_id=HOSTILE))
    assert len(line.splitlines()) == 1
    assert "\x1b" not in line
    if form == "json":
        assert json.loads(line)["request_id"] == HOSTILE


def test_an_id_beyond_the_limit_is_cut() -> None:
    [line] = asked("json", rerank(request_id="x" * 100_000))
    assert json.loads(line)["reason"] == "INVALID_REQUEST"
    assert len(line) < 2000


def test_an_error_is_one_line_with_its_traceback() -> None:
    stream = io.StringIO()
    with written(stream, form="json"):
        try:
            raise ValueError("of two\nlines")
        except ValueError:
            logging.getLogger("ranker.any").exception("it went wrong")
    [line] = stream.getvalue().splitlines()
    told = json.loads(line)
    assert told["message"] == "it went wrong"
    assert told["error"].endswith("ValueError: of two\nlines")


def test_no_line_is_written_unless_asked_for() -> None:
    stream = io.StringIO()
    with (
        written(stream, form="json"),
        running(TableServing()) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        pb_grpc.RankerServiceStub(channel).Rerank(rerank(), timeout=PATIENCE_S)
    assert "ranker.requests" not in stream.getvalue()


def test_without_a_handler_that_wants_it_nothing_is_formatted() -> None:
    exchange = Exchange(method="Rerank", protocol="grpc")
    logging.getLogger("ranker.requests").setLevel(logging.WARNING)
    try:
        RequestLog().observe(exchange)
    finally:
        logging.getLogger("ranker.requests").setLevel(logging.NOTSET)


def test_a_reader_that_stops_reading_holds_nobody_up_and_is_told_what_it_missed() -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as pipe:
        writer = LineWriter(pipe, held_lines=10)
        writer.setFormatter(TextFormatter())
        record = logging.makeLogRecord({"name": "x", "levelname": "INFO", "msg": "m" * 5000})
        for _ in range(100):  # many times what the pipe and the queue hold
            writer.emit(record)
        assert writer.num_dropped > 0
        got: list[bytes] = []
        reader = threading.Thread(
            target=lambda: got.extend(iter(lambda: os.read(reading, 2**16), b""))
        )
        reader.start()
        writer.close()
    reader.join(PATIENCE_S)
    os.close(reading)
    text = b"".join(got).decode()
    assert text.count("INFO x:") == 100 - writer.num_dropped
    assert f"{writer.num_dropped} lines were dropped" in text


def test_another_format_is_refused() -> None:
    with pytest.raises(ValueError, match="text or json"), written(io.StringIO(), form="xml"):
        pass
