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


def _tag(name: str, kind: int) -> bytes:
    return varint(_FIELDS[name].number << 3 | kind)


# Most lengths and ranks are below this.
_VARINTS = tuple(map(varint, range(2048)))
_ITEMS = varint(pb.RerankResponse.DESCRIPTOR.fields_by_name["items"].number << 3 | BYTES)
assert varint(pb.RecommendResponse.DESCRIPTOR.fields_by_name["items"].number << 3 | BYTES) == _ITEMS
_RANK, _STATUS = _tag("rank", VARINT), _tag("status", VARINT)
_RETRIEVAL_RANK, _EXPLANATION = _tag("retrieval_rank", VARINT), _tag("explanation", BYTES)
_SCORE, _LOGIT = _tag("score", FIXED64), _tag("logit", FIXED64)
_PRIOR, _PROBABILITY = _tag("retrieval_score", FIXED64), _tag("probability", FIXED64)
_pack = struct.Struct("<cdcdcd").pack  # these fields' tags are one byte each
_pack_one = struct.Struct("<cd").pack


@dataclass(frozen=True, slots=True)
class _Fixed:
    """What stays of an item: its own bytes, as long as these facts hold."""

    title: str
    present: tuple[Modality, ...]
    written: bytes


class ItemBytes:
    """Writes the items of one generation's answers. May be used from several threads."""

    def __init__(self) -> None:
        self._fixed: dict[str, _Fixed] = {}

    def of(self, items: Iterable[tuple[RankedItem, str]]) -> bytes:
        """The field `items` of a response: each item with its title, in this order."""
        parts: list[bytes] = []
        status: Status | None = None
        status_bytes = b""
        for item, title in items:
            fixed = self._fixed.get(item.item_id)
            if fixed is None or fixed.title != title or fixed.present != item.present:
                fixed = self._kept(item, title)
            if item.status is not status:  # they come in runs
                status = item.status
                status_bytes = _STATUS + varint(wire.TO_STATUS[status])
            rank, retrieval_rank = item.rank, item.retrieval_rank
            body = b"".join(
                (
                    fixed.written,
                    status_bytes,
                    _RANK,
                    _VARINTS[rank] if rank < 2048 else varint(rank),
                    _RETRIEVAL_RANK,
                    _VARINTS[retrieval_rank] if retrieval_rank < 2048 else varint(retrieval_rank),
                    _pack(_SCORE, item.score, _LOGIT, item.logit, _PRIOR, item.retrieval_score),
                )
            )
            if item.probability is not None:
                body += _pack_one(_PROBABILITY, item.probability)
            if item.explanation is not None:
                told = wire.to_explanation(item.explanation).SerializeToString()
                body += _EXPLANATION + varint(len(told)) + told
            parts += (_ITEMS, _VARINTS[len(body)] if len(body) < 2048 else varint(len(body)), body)
        return b"".join(parts)

    def _kept(self, item: RankedItem, title: str) -> _Fixed:
        if len(self._fixed) >= MOST_ITEMS:
            self._fixed = {}
        message = pb.RankedItem(
            item_id=item.item_id,
            title=title,
            present=[wire.TO_MODALITY[modality] for modality in item.present],
        )
        fixed = _Fixed(title, item.present, message.SerializeToString())
        self._fixed[item.item_id] = fixed
        return fixed
