"""What the service's page tells a newcomer to type, typed: Python, and what grpcurl would send."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf import json_format
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from ranker.service.server import running
from tests.ranker.serving_world import TableServing

PAGE = Path(__file__).resolve().parents[2] / "docs" / "service.md"
ADDRESS = "127.0.0.1:50051"
HERE = {"user-0000": "ada", "box-0001": "a", "box-0002": "b", "box-0003": "c"}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Of a server of the small world."""
    with running(TableServing()) as server:
        yield server.address


def first_section() -> str:
    text = PAGE.read_text()
    for there, here in HERE.items():
        text = text.replace(there, here)
    return text[text.index("## From nothing") : text.index("## What an answer is")]


def grpcurl_commands() -> list[list[str]]:
    (block,) = [
        one for one in re.findall(r"```sh\n(.*?)```", first_section(), re.S) if "curl" in one
    ]
    return [shlex.split(line) for line in block.replace("\\\n", " ").strip().splitlines()]


def test_the_first_lines_of_python_get_an_answer(
    address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", first_section(), re.S)
    assert len([line for line in code.splitlines() if line]) <= 10
    exec(compile(code.replace(ADDRESS, address), str(PAGE), "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    assert printed[:2] == ["1 The c 0.3333333333333333 ok", "2 The b 0.2 ok"]
    assert len(printed) == 5


@pytest.mark.parametrize("words", grpcurl_commands(), ids=lambda words: words[-1])
def test_what_grpcurl_is_told_can_be_sent_by_reflection_alone(
    address: str, words: list[str]
) -> None:
    assert words[0] == "grpcurl"
    assert ADDRESS in words
    with grpc.insecure_channel(address) as channel:
        reflected = ProtoReflectionDescriptorDatabase(channel)
        pool = DescriptorPool(reflected)
        if words[-1] == "list":
            assert "sommelier.ranker.v1.RankerService" in reflected.get_services()
            return
        if "describe" in words:
            assert pool.FindServiceByName(words[-1]).methods
            return
        service, _, method = words[-1].rpartition("/")
        asked = pool.FindServiceByName(service).FindMethodByName(method)
        body = json.loads(words[words.index("-d") + 1]) if "-d" in words else {}
        request = json_format.ParseDict(
            body, GetMessageClass(asked.input_type)(), descriptor_pool=pool
        )
        call = channel.unary_unary(f"/{service}/{method}")
        data = call(request.SerializeToString(), timeout=5)
        response = GetMessageClass(asked.output_type).FromString(data)
    told = json_format.MessageToDict(response, descriptor_pool=pool)
    assert told.get("items") or told.get("status") == "SERVING" or told.get("generationId")
