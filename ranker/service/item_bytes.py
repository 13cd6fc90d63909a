"""Ranked items in, the bytes of an answer's items out, without a message object for each of them.

With a fast model, making the messages of a few hundred items is most of what a request costs, and
setting their fields one by one most of that. So what does not change about an item between requests
is kept as bytes, and the numbers are written behind it in one go. The numbers of the fields come
from the descriptor; whoever parses the bytes gets what `wire.to_ranked_item` would have given.

The format: https://protobuf.dev/programming-guides/encoding/
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from embedders.items import Modality
from ranker import wire
from ranker.pb import ranker_pb2 as pb
from ranker.ranking import RankedItem, Status

MOST_ITEMS = 50_000  # whose unchanging bytes are kept: some 15 MiB
MOST_RANK = 2048  # up to here ranks are written in two bytes; parsers take a needless second one
VARINT, FIXED64, BYTES = 0, 1, 2  # how a field's value is written

_FIELDS = pb.RankedItem.DESCRIPTOR.fields_by_name


def varint(value: int) -> bytes:
    """A number from 0, seven bits a byte, the lowest first."""
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)


def _tag(name: str, kind: int) -> int:
    return _FIELDS[name].number << 3 | kind


_ITEMS = varint(pb.RerankResponse.DESCRIPTOR.fields_by_name["items"].number << 3 | BYTES)
assert varint(pb.RecommendResponse.DESCRIPTOR.fields_by_name["items"].number << 3 | BYTES) == _ITEMS
_RANKS = tuple(bytes((rank & 0x7F | 0x80, rank >> 7)) for rank in range(MOST_RANK))
_STATUS, _RANK, _RETRIEVAL_RANK = (
    _tag(name, VARINT) for name in ("status", "rank", "retrieval_rank")
)
_SCORE, _LOGIT, _PRIOR, _PROBABILITY = (
    _tag(name, FIXED64) for name in ("score", "logit", "retrieval_score", "probability")
)
# A tag of one byte before every number; so all items have numbers of one length.
_NUMBERS = struct.Struct("<BBB2sB2sBdBdBd")
_CHANCE = struct.Struct("<Bd")


@dataclass(frozen=True, slots=True)
class _Fixed:
    """What stays of an item as long as these facts hold: its bytes up to the numbers."""

    title: str
    present: tuple[Modality, ...]
    has_probability: bool
    written: bytes


class ItemBytes:
    """Writes the items of one generation's answers. May be used from several threads."""

    def __init__(self) -> None:
        self._fixed: dict[str, _Fixed] = {}

    def of(self, items: Iterable[tuple[RankedItem, str]]) -> bytes:
        """The field `items` of a response: each item with its title, in this order."""
        parts: list[bytes] = []
        status: Status | None = None
        status_number = 0
        for item, title in items:
            rank, retrieval_rank, chance = item.rank, item.retrieval_rank, item.probability
            is_long = rank >= MOST_RANK or retrieval_rank >= MOST_RANK
            if is_long or item.explanation is not None:
                parts.append(_whole(item, title))
                continue
            fixed = self._fixed.get(item.item_id)
            if (
                fixed is None
                or fixed.title != title
                or fixed.present != item.present
                or fixed.has_probability is (chance is None)
            ):
                fixed = self._kept(item, title)
            if item.status is not status:  # they come in runs
                status = item.status
                status_number = wire.TO_STATUS[status]
            parts.append(fixed.written)
            parts.append(
                _NUMBERS.pack(
                    _STATUS,
                    status_number,
                    _RANK,
                    _RANKS[rank],
                    _RETRIEVAL_RANK,
                    _RANKS[retrieval_rank],
                    _SCORE,
                    item.score,
                    _LOGIT,
                    item.logit,
                    _PRIOR,
                    item.retrieval_score,
                )
            )
            if chance is not None:
                parts.append(_CHANCE.pack(_PROBABILITY, chance))
        return b"".join(parts)

    def _kept(self, item: RankedItem, title: str) -> _Fixed:
        if len(self._fixed) >= MOST_ITEMS:
            self._fixed = {}
        message = pb.RankedItem(
            item_id=item.item_id,
            title=title,
            present=[wire.TO_MODALITY[modality] for modality in item.present],
        )
        written = message.SerializeToString()
        has_probability = item.probability is not None
        length = len(written) + _NUMBERS.size + has_probability * _CHANCE.size
        fixed = _Fixed(
            title, item.present, has_probability, b"".join((_ITEMS, varint(length), written))
        )
        self._fixed[item.item_id] = fixed
        return fixed


def _whole(item: RankedItem, title: str) -> bytes:
    """One with an explanation, or of a very long list."""
    written = wire.to_ranked_item(item, title=title).SerializeToString()
    return b"".join((_ITEMS, varint(len(written)), written))
