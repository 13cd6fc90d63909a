"""Bytes of items: whoever parses them gets what messages made one by one would say."""

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedders.items import Modality
from ranker import wire
from ranker.pb import ranker_pb2 as pb
from ranker.ranking import Explanation, RankedItem, Status
from ranker.service import item_bytes
from ranker.service.item_bytes import ItemBytes, varint

numbers = st.floats(allow_nan=False)
ranks = st.integers(0, 2**32 - 1) | st.integers(0, 300)
explanations = st.builds(
    Explanation,
    base=numbers,
    contributions=st.dictionaries(st.sampled_from(["text", "sequence"]), numbers),
)
items = st.builds(
    RankedItem,
    item_id=st.text(max_size=300),
    rank=ranks,
    score=numbers,
    logit=numbers,
    status=st.sampled_from(Status),
    retrieval_rank=ranks,
    retrieval_score=numbers,
    present=st.lists(st.sampled_from(Modality), unique=True).map(tuple),
    probability=st.none() | numbers,
    explanation=st.none() | explanations,
)
titled = st.lists(st.tuples(items, st.text(max_size=3000)), max_size=5)


def one_by_one(ranked: Sequence[tuple[RankedItem, str]]) -> pb.RerankResponse:
    return pb.RerankResponse(
        items=[wire.to_ranked_item(item, title=title) for item, title in ranked]
    )


def parsed(data: bytes) -> pb.RerankResponse:
    return pb.RerankResponse.FromString(data)


@given(titled, titled)
def test_they_say_what_messages_made_one_by_one_say(
    first: list[tuple[RankedItem, str]], second: list[tuple[RankedItem, str]]
) -> None:
    writer = ItemBytes()
    for ranked in (first, second, first):  # also where facts of an item changed in between
        assert parsed(writer.of(ranked)) == one_by_one(ranked)
        assert pb.RecommendResponse.FromString(writer.of(ranked)).items == one_by_one(ranked).items


def test_numbers_arrive_bit_for_bit() -> None:
    item = RankedItem(
        item_id="a",
        rank=1,
        score=-0.0,
        logit=math.inf,
        status=Status.OK,
        retrieval_rank=300,
        retrieval_score=0.1 + 0.2,
    )
    [read] = parsed(ItemBytes().of([(item, "A")])).items
    assert math.copysign(1, read.score) == -1
    assert (read.logit, read.retrieval_score) == (math.inf, 0.1 + 0.2)
    assert not read.HasField("probability")


@given(st.integers(0, 2**64 - 1))
def test_a_varint_is_read_as_the_number_that_was_written(value: int) -> None:
    data = varint(pb.GetInfoResponse.DESCRIPTOR.fields_by_name["num_items"].number << 3)
    assert pb.GetInfoResponse.FromString(data + varint(value)).num_items == value


def test_no_more_items_are_kept_than_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(item_bytes, "MOST_ITEMS", 2)
    writer = ItemBytes()
    for name in "abcdefg":
        item = RankedItem(
            item_id=name,
            rank=1,
            score=1.0,
            logit=1.0,
            status=Status.OK,
            retrieval_rank=1,
            retrieval_score=1.0,
        )
        assert parsed(writer.of([(item, name)])) == one_by_one([(item, name)])
        assert len(writer._fixed) <= 2
