"""Bodies become the wire's own messages, with nothing lost."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from ranker.pb import ranker_pb2 as pb
from ranker.service.rest.requests import RecommendBody, RerankBody

VIEW = {"item_id": "b", "behavior": "view", "timestamp": "2026-05-06T07:08:09.25Z", "weight": 2.0}


def rerank(**body: Any) -> pb.RerankRequest:
    return RerankBody.model_validate({"query": "ada", "documents": ["a"], **body}).message()


@pytest.mark.parametrize("query", ["ada", {"user_id": "ada"}, '{"user_id": "ada"}'])
def test_a_query_is_a_user_in_three_spellings(query: Any) -> None:
    assert rerank(query=query).user.user_id == "ada"


@pytest.mark.parametrize("spelt", [dict, json.dumps])
def test_a_query_may_be_a_history(spelt: Any) -> None:
    [event] = rerank(query=spelt({"history": [VIEW]})).user.history.interactions
    assert (event.item_id, event.behavior, event.weight) == ("b", "view", 2.0)
    assert event.timestamp.ToJsonString() == "2026-05-06T07:08:09.250Z"


def test_an_empty_history_is_a_user_of_whom_nothing_is_known() -> None:
    user = rerank(query={"history": []}).user
    assert user.WhichOneof("identity") == "history"


def test_recent_events_go_along_with_a_stored_user() -> None:
    request = rerank(query={"user_id": "ada", "recent": [VIEW]})
    assert [event.item_id for event in request.recent.interactions] == ["b"]
    assert request.user.user_id == "ada"


@pytest.mark.parametrize("query", [{}, {"user_id": "ada", "history": []}, "{}", 7, None, ["ada"]])
def test_a_query_that_names_nobody_or_two_is_refused(query: Any) -> None:
    with pytest.raises(ValidationError):
        rerank(query=query)


def test_documents_are_items_in_three_spellings_each_asked_for_once() -> None:
    documents = ["b", {"id": "a"}, {"text": "b", "shelf": 7}, {"id": "c", "text": "a"}]
    assert rerank(documents=documents).item_ids == ["b", "a", "c"]


def test_a_number_of_the_wires_item_is_found_among_the_documents() -> None:
    body = RerankBody.model_validate({"query": "ada", "documents": ["b", "b", "a"]})
    assert body.field("item_ids[1]") == "documents[2]"
    assert body.field("item_ids") == "documents"
    assert body.field("recent.interactions[0].item_id") == "query.recent[0].item_id"
    assert body.field("user.history.interactions") == "query.history"
    assert body.field("username") == "username"


def test_what_both_may_say_reaches_the_wire() -> None:
    how = {
        "request_id": "r1",
        "generation_id": "g1",
        "behavior": "view",
        "weights": {"text": 0.5},
        "anytime": True,
        "text": "a gift",
        "filter": {
            "among": [{"column": "kind", "values": ["film"]}],
            "between": [{"column": "price", "high": 9.5}],
            "deny_item_ids": ["c"],
        },
    }
    recommend = RecommendBody.model_validate({"user_id": "ada", "top_k": 3, **how}).message()
    for request in (rerank(**how), recommend):
        assert (request.request_id, request.generation_id) == ("r1", "g1")
        assert (request.behavior, request.anytime, request.text) == ("view", True, "a gift")
        assert dict(request.weights) == {"text": 0.5}
        assert request.filter.among[0].values == ["film"]
        assert request.filter.between[0].high == 9.5
        assert not request.filter.between[0].HasField("low")
        assert request.filter.deny_item_ids == ["c"]
    assert recommend.top_k == 3


def test_what_other_clients_send_besides_is_passed_over_but_not_in_our_own_body() -> None:
    assert rerank(max_tokens_per_doc=512, rank_fields=["text"]).item_ids == ["a"]
    with pytest.raises(ValidationError):
        RecommendBody.model_validate({"user_id": "ada", "max_tokens_per_doc": 512})
