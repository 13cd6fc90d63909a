"""Relevance lies in [0, 1] and never rises, whatever the scores are."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranker.pb import ranker_pb2 as pb
from ranker.service.rest.answers import to_info, to_recommend, to_rerank
from ranker.service.rest.requests import RerankBody

SCORES = st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20)


def response(*scores: float, **more: Any) -> pb.RerankResponse:
    items = [
        pb.RankedItem(item_id=f"i{n}", rank=n + 1, score=score, status=pb.ITEM_STATUS_OK)
        for n, score in enumerate(scores)
    ]
    return pb.RerankResponse(items=items, **more)


def relevances(answered: pb.RerankResponse) -> list[float]:
    body = RerankBody(query="ada", documents=[item.item_id for item in answered.items])  # type: ignore[arg-type]
    return [result.relevance_score for result in to_rerank(answered, body, version="2").results]


@given(SCORES)
def test_relevance_keeps_the_order_within_zero_and_one(scores: list[float]) -> None:
    found = relevances(response(*sorted(scores, reverse=True)))
    assert found == sorted(found, reverse=True)
    assert 0 <= found[-1] <= found[0] <= 1


def test_where_it_is_calibrated_relevance_is_the_probability() -> None:
    answered = response(2.0, 1.0)
    answered.items[0].probability = 0.25
    answered.items[1].probability = 0.125
    assert relevances(answered) == [0.25, 0.125]


def test_where_one_probability_is_missing_all_are_squashed_scores() -> None:
    answered = response(2.0, 0.0)
    answered.items[0].probability = 0.25
    assert relevances(answered) == pytest.approx([1 / (1 + math.exp(-2)), 0.5])


def test_what_was_not_scored_in_time_is_not_more_relevant_than_what_was() -> None:
    answered = response(0.0, 5.0)
    answered.items[1].status = pb.ITEM_STATUS_NOT_SCORED
    assert relevances(answered) == [0.5, 0.5]


def test_what_has_no_rank_has_no_relevance() -> None:
    answered = response(-3.0)
    answered.items.add(item_id="zz", status=pb.ITEM_STATUS_UNKNOWN_ITEM)
    assert relevances(answered)[1] == 0


def test_a_recommendation_says_all_that_the_wire_says() -> None:
    explanation = pb.Explanation(
        base=1.0, contributions=[pb.Explanation.Contribution(block="text", value=0.5)]
    )
    item = pb.RankedItem(
        item_id="a", title="The a", rank=1, score=1.5, logit=0.5, retrieval_rank=2,
        status=pb.ITEM_STATUS_TRUNCATED, present=[pb.MODALITY_TEXT], explanation=explanation,
    )  # fmt: skip
    answer = to_recommend(pb.RecommendResponse(request_id="r", items=[item], degraded=True))
    [told] = answer.items
    assert (told.item_id, told.title, told.status, told.present) == (
        *("a", "The a", "TRUNCATED"),
        ["text"],
    )
    assert told.explanation == {"base": 1.0, "contributions": {"text": 0.5}}
    assert told.probability is None
    assert answer.degraded


def test_large_numbers_stay_numbers() -> None:
    assert to_info(pb.GetInfoResponse(num_items=2**60))["num_items"] == 2**60
