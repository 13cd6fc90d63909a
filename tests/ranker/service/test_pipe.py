"""Frames between a server and its workers."""

import asyncio
import io
from typing import Any

import pytest

from ranker.service import pipe

FRAMES: list[tuple[dict[str, Any], bytes]] = [
    ({"kind": "call", "left_s": None, "id": "é\n"}, b"\x00\xff" * 100_000),
    ({}, b""),
]


def test_what_is_written_is_read_and_then_comes_the_end() -> None:
    file = io.BytesIO(b"".join(pipe.frame(*one) for one in FRAMES))
    assert [pipe.read(file), pipe.read(file), pipe.read(file)] == [*FRAMES, None]


async def read_all(data: bytes) -> list[Any]:
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    found = []
    while (come := await pipe.next_frame(reader)) is not None:
        found.append(come)
    return found


def test_the_loops_end_reads_the_same() -> None:
    assert asyncio.run(read_all(b"".join(pipe.frame(*one) for one in FRAMES))) == FRAMES


@pytest.mark.parametrize("missing", [1, 5, 200_000])
def test_half_a_frame_is_the_end_of_whoever_wrote_it(missing: int) -> None:
    data = pipe.frame(*FRAMES[0])[:-missing]
    assert pipe.read(io.BytesIO(data)) is None
    assert asyncio.run(read_all(data)) == []
