"""Messages that nobody should send: of any type of the wire, drawn by hypothesis, and by hand."""

import random
from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from hypothesis import strategies as st

from ranker.pb import ranker_pb2 as pb

TEXTS = (
    "",
    "a",
    "b",
    "e",
    "ada",
    "view",
    "text",
    "g1",
    "\0",
    "a\r\nb",
    "../../etc/passwd",
    "'; DROP TABLE items; --",
    "%s%n{0}{{7*7}}",
    "\u202eevil",
    "\U0001f984" * 100,
    "x" * 256,
    "x" * 5000,
)
NUMBERS = (float("nan"), float("inf"), -float("inf"), -1.0, -0.0, 0.0, 1.0, 1e308, 5e-324)
COUNTS = (0, 1, 2, 500, 501, 2**31, 2**32 - 1)
MOMENTS = (0, -1, 10**9, -(2**63), 2**63 - 1, 253402300800)
REPEATS = (0, 1, 1, 2, 3, 9, 201, 501)

_OF_SCALARS: dict[int, Callable[[], st.SearchStrategy[Any]]] = {
    FieldDescriptor.TYPE_STRING: lambda: st.sampled_from(TEXTS) | st.text(max_size=40),
    FieldDescriptor.TYPE_BYTES: lambda: st.binary(max_size=64) | st.just(b"\0\0\xc0\x7f" * 3),
    FieldDescriptor.TYPE_DOUBLE: lambda: st.sampled_from(NUMBERS) | st.floats(),
    FieldDescriptor.TYPE_UINT32: lambda: st.sampled_from(COUNTS) | st.integers(0, 2**32 - 1),
    FieldDescriptor.TYPE_INT64: lambda: st.sampled_from(MOMENTS),
    FieldDescriptor.TYPE_INT32: lambda: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_BOOL: st.booleans,
}


@st.composite
def hostile(draw: st.DrawFn, kind: type[Message]) -> Message:
    """A message that can be parsed; its fields are there or not, and hold what they should not."""
    message = kind()
    _fill(draw, message)
    return message


def damaged(data: bytes, rng: random.Random) -> bytes:
    """The bytes cut, swollen or changed in some places."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        place = rng.randint(0, len(changed))
        match rng.randrange(4):
            case 0:
                del changed[place:]
            case 1:
                changed[place:place] = rng.randbytes(rng.randint(1, 12))
            case 2:
                del changed[place : place + rng.randint(1, 12)]
            case _ if place < len(changed):
                changed[place] ^= rng.randint(1, 255)
    return bytes(changed)


def _fill(draw: st.DrawFn, message: Message) -> None:
    descriptor: Descriptor = message.DESCRIPTOR
    for field in descriptor.fields:
        if not draw(st.booleans()):
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            key, value = (_OF_SCALARS[one.type]() for one in field.message_type.fields)
            getattr(message, field.name).update(draw(st.dictionaries(key, value, max_size=4)))
        elif field.is_repeated:
            _extend(draw, getattr(message, field.name), field)
        elif field.message_type is not None:
            getattr(message, field.name).SetInParent()
            _fill(draw, getattr(message, field.name))
        else:
            setattr(message, field.name, draw(_OF_SCALARS[field.type]()))


def _extend(draw: st.DrawFn, repeated: Any, field: FieldDescriptor) -> None:
    """One or two values, over and over."""
    count = draw(st.sampled_from(REPEATS))
    if field.message_type is None:
        values = draw(st.lists(_OF_SCALARS[field.type](), min_size=1, max_size=4))
        repeated.extend(values[place % len(values)] for place in range(count))
        return
    for place in range(count):
        if place == 0:
            _fill(draw, repeated.add())
        else:
            repeated.add().CopyFrom(repeated[0])


_ADA = pb.RerankRequest(user=pb.User(user_id="ada"), item_ids=["a", "b"]).SerializeToString()

BY_HAND = {
    "nothing": b"",
    "a varint without end": b"\x20" + b"\xff" * 64,
    "a varint of eleven bytes": b"\x20" + b"\x80" * 10 + b"\x01",
    "a length of all memory": b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
    "a length beyond the end": b"\x0a\x7f" + b"x" * 3,
    "field zero": b"\x02\x00",
    "a wire type that is none": b"\x0f",
    "another wire type than the field's": b"\x08\x01" + _ADA,
    "groups in groups": b"\x0b" * 100_000,
    "unknown groups in groups, closed": _ADA + b"\xc3\x3e" * 50_000 + b"\xc4\x3e" * 50_000,
    "an end without a beginning": b"\xc4\x3e",
    "unknown fields": _ADA + b"\xc8\x3e\x01" * 100_000,
    "an unknown field of a megabyte": _ADA + b"\xc2\x3e\x80\x80\x40" + b"x" * 2**20,
    "text that is no UTF-8": b"\x0a\x04\xff\xfe\xc0\x80" + _ADA,
    "half a surrogate pair": b"\x0a\x03\xed\xa0\x80" + _ADA,
    "a field over and over": b"\x0a\x01x" * 100_000 + _ADA,
    "empty ids without end": b"\x12\x05\x0a\x03ada" + b"\x1a\x00" * 500_000,
    "empty events without end": b"\x12\x84\x80\x3e\x12\x80\x80\x3e" + b"\x0a\x00" * 507_904,
    "both kinds of user": b"\x12\x07\x0a\x03ada\x12\x00" + b"\x1a\x01a",
    "one item twice": _ADA + b"\x1a\x01a",
}
"""As bytes of a RerankRequest; what each is."""
