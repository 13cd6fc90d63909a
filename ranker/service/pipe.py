"""A header and bytes in, the same out at the other end: how a server and its workers speak.

A frame is two lengths, a header in JSON and a body, which is a protobuf message: nothing that
crosses could run code at the other end. Both ends are processes of one server, so a frame that
cannot be read is a fault of ours and ends the connection.
"""

import asyncio
import json
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO, TypeAlias

Header: TypeAlias = dict[str, Any]

LENGTHS = struct.Struct("!II")


def frame(header: Mapping[str, Any], body: bytes = b"") -> bytes:
    """What crosses."""
    told = json.dumps(header).encode()
    return b"".join((LENGTHS.pack(len(told), len(body)), told, body))


def read(file: BinaryIO) -> tuple[Header, bytes] | None:
    """The next frame, waited for; None where the other end is closed."""
    lengths = file.read(LENGTHS.size)
    if len(lengths) < LENGTHS.size:
        return None
    header_length, body_length = LENGTHS.unpack(lengths)
    content = file.read(header_length + body_length)
    if len(content) < header_length + body_length:
        return None
    return json.loads(content[:header_length]), content[header_length:]


async def next_frame(reader: asyncio.StreamReader) -> tuple[Header, bytes] | None:
    """The next frame; None where the other end is closed, or died in the midst of one."""
    try:
        header_length, body_length = LENGTHS.unpack(await reader.readexactly(LENGTHS.size))
        content = await reader.readexactly(header_length + body_length)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    return json.loads(content[:header_length]), content[header_length:]
