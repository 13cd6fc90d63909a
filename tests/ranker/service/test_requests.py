"""What a request may ask, read without any server: behaviors, weights, explanations."""

import pytest

from ranker.limits import ServiceLimits
from ranker.pb import ranker_pb2 as pb
from ranker.service.requests import read_recommend, read_rerank
from ranker.service.statuses import Reason, StatusError

LIMITS = ServiceLimits(explained=3)
ADA = pb.User(user_id="ada")


def refused(request: pb.RerankRequest, *behaviors: str) -> str:
    with pytest.raises(StatusError) as caught:
        read_rerank(request, LIMITS, behaviors=behaviors)
    assert caught.value.reason is Reason.INVALID_REQUEST
    return caught.value.message


def test_an_events_weight_is_read_and_may_be_missing_or_zero() -> None:
    user = pb.User()
    for weight in (4.5, 0.0, None):
        user.history.interactions.add(item_id="a", behavior="rate", weight=weight)
    query = read_rerank(pb.RerankRequest(user=user, item_ids=["b"]), LIMITS)
    assert query.history is not None
    assert [event.weight for event in query.history] == [4.5, 0.0, None]


def test_a_behavior_that_may_be_asked_about_is_read() -> None:
    request = pb.RerankRequest(user=ADA, item_ids=["a"], behavior="buy")
    assert read_rerank(request, LIMITS, behaviors=("buy", "view")).behavior == "buy"
    other = pb.RecommendRequest(user=ADA, behavior="view")
    assert read_recommend(other, LIMITS, behaviors=("buy", "view"))[0].behavior == "view"
    assert read_rerank(pb.RerankRequest(user=ADA, item_ids=["a"]), LIMITS).behavior is None


def test_an_unknown_behavior_is_refused_with_those_that_are_known() -> None:
    request = pb.RerankRequest(user=ADA, item_ids=["a"], behavior="sniff")
    assert refused(request, "buy", "view") == (
        "behavior: 'sniff' is none of those that can be asked about: buy, view"
    )
    assert "leave the behavior out" in refused(request)


def test_a_long_behavior_is_quoted_in_part() -> None:
    request = pb.RerankRequest(user=ADA, item_ids=["a"], behavior="b" * 5000)
    assert len(refused(request, "buy")) < 200


def test_no_more_items_are_explained_than_are_allowed() -> None:
    item_ids = ["a", "b", "c", "d"]
    read_rerank(pb.RerankRequest(user=ADA, item_ids=item_ids, top_k=3, explain=True), LIMITS)
    message = refused(pb.RerankRequest(user=ADA, item_ids=item_ids, explain=True))
    assert message == "explain: of 4 items, at most 3 are allowed; ask for a smaller top_k"
    with pytest.raises(StatusError, match="of 10 items"):
        read_recommend(pb.RecommendRequest(user=ADA, explain=True), LIMITS)
