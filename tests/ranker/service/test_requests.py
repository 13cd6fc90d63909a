"""What a request may ask, read without any server: every field at fault is named by its path."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from google.rpc import error_details_pb2

from embedders.items import Modality
from embedders.vectors import Space, normalize
from ranker.limits import ServiceLimits
from ranker.pb import ranker_pb2 as pb
from ranker.service.requests import read_recommend, read_rerank
from ranker.service.statuses import Reason, StatusError
from retrieval.candidates import Query
from retrieval.filters import Filter
from tests.ranker.serving_world import TEXT_SPACE, TableServing

LIMITS = ServiceLimits(explained=3, text_length=10, vector_bytes=100, history=3)
INFO = TableServing().info
ADA = pb.User(user_id="ada")
FEW = ServiceLimits(filter_conditions=2, filter_values=3, filter_item_ids=2)
NAN, INFINITY = float("nan"), float("inf")


def rerank(*item_ids: str, user: pb.User = ADA, **more: Any) -> pb.RerankRequest:
    return pb.RerankRequest(user=user, item_ids=item_ids or ["a"], **more)


def read(request: pb.RerankRequest, limits: ServiceLimits = LIMITS) -> Query:
    return read_rerank(request, limits, INFO)[0]


def faults(request: pb.RerankRequest, limits: ServiceLimits = LIMITS, **more: Any) -> list[str]:
    """`path: what to mend` of each."""
    with pytest.raises(StatusError) as caught:
        read_rerank(request, limits, INFO, **more)
    assert caught.value.reason is Reason.INVALID_REQUEST
    bad_request = caught.value.status.details[1]
    fields = error_details_pb2.BadRequest.FromString(bad_request.value).field_violations
    return [f"{one.field}: {one.description}" for one in fields]


def vectors(*item_ids: str, space: Space = TEXT_SPACE, **more: Any) -> pb.InlineVectors:
    rows_ND = np.arange(1, len(item_ids) * space.dim + 1, dtype="<f4").reshape(-1, space.dim)
    facts = {
        "space_id": space.space_id,
        "dtype": "float32",
        "shape": rows_ND.shape,
        "data": rows_ND.tobytes(),
    }
    return pb.InlineVectors(item_ids=item_ids, **{**facts, **more})


def test_an_events_weight_is_read_and_may_be_missing_or_zero() -> None:
    user = pb.User()
    for weight in (4.5, 0.0, None):
        user.history.interactions.add(item_id="a", behavior="rate", weight=weight)
    query = read(rerank(user=user))
    assert query.history is not None
    assert [event.weight for event in query.history] == [4.5, 0.0, None]


def test_a_behavior_that_may_be_asked_about_is_read() -> None:
    assert read(rerank(behavior="purchase")).behavior == "purchase"
    other = pb.RecommendRequest(user=ADA, behavior="view")
    assert read_recommend(other, LIMITS, INFO)[0].behavior == "view"
    assert read(rerank()).behavior is None


def test_an_unknown_behavior_is_refused_with_those_that_are_known() -> None:
    assert faults(rerank(behavior="sniff")) == [
        "behavior: 'sniff' is none of those that can be asked about: purchase, view"
    ]
    with pytest.raises(StatusError, match="leave the behavior out"):
        read_rerank(rerank(behavior="sniff"), LIMITS, replace(INFO, behaviors=()))


def test_what_a_caller_wrote_is_quoted_in_part() -> None:
    long = "b" * 5000
    assert all(len(fault) < 200 for fault in faults(rerank(behavior=long, weights={long: 1.0})))


def test_no_more_items_are_explained_than_are_allowed() -> None:
    item_ids = ["a", "b", "c", "d"]
    read(rerank(*item_ids, top_k=3, explain=True))
    assert faults(rerank(*item_ids, explain=True)) == [
        "explain: of 4 items, at most 3 are allowed; ask for a smaller top_k"
    ]
    with pytest.raises(StatusError, match="of 10 items"):
        read_recommend(pb.RecommendRequest(user=ADA, explain=True), LIMITS, INFO)


def test_recent_events_stand_behind_a_stored_history_alone() -> None:
    recent = pb.History(interactions=[pb.Interaction(item_id="b", behavior="view")])
    query = read(rerank(recent=recent))
    assert (query.history, [event.item_id for event in query.recent]) == (None, ["b"])
    user = pb.User(history=pb.History())
    assert faults(rerank(user=user, recent=recent)) == [
        "recent: only with user_id; put the events behind user.history"
    ]
    assert read(rerank(user=user, recent=pb.History())).recent == ()
    events = [pb.Interaction(item_id="b"), pb.Interaction(behavior="view")]
    assert faults(rerank(recent=pb.History(interactions=events))) == [
        "recent.interactions[0].behavior: empty; an id is needed",
        "recent.interactions[1].item_id: empty; an id is needed",
    ]
    many = pb.History(interactions=[pb.Interaction(item_id="b", behavior="view")] * 4)
    assert faults(rerank(recent=many)) == ["recent.interactions: 4, at most 3 is allowed"]


def test_a_text_is_read_up_to_its_limit() -> None:
    assert read(rerank(text="0123456789")).text == "0123456789"
    assert read(rerank()).text is None
    assert faults(rerank(text="01234567890")) == ["text: 11 characters, at most 10 are allowed"]


def test_weights_are_of_known_blocks_finite_and_not_negative() -> None:
    assert read(rerank(weights={"text": 0.0, "sequence": 2.5})).weights == {
        "text": 0.0,
        "sequence": 2.5,
    }
    assert read(rerank()).weights is None
    assert faults(rerank(weights={"text": -1.0, "audio": 1.0})) == [
        "weights['audio']: no such block; those that can be weighed: sequence, text",
        "weights['text']: -1.0, a finite number from 0 is needed",
    ]
    assert faults(rerank(weights={"text": NAN, "sequence": INFINITY})) == [
        "weights['sequence']: inf, a finite number from 0 is needed",
        "weights['text']: nan, a finite number from 0 is needed",
    ]
    assert faults(rerank(weights={"a": 1.0, "b": 1.0, "c": 1.0})) == [
        "weights: 3 blocks; those that can be weighed: sequence, text"
    ]


def test_a_filter_is_read() -> None:
    message = pb.Filter(
        among=[pb.Filter.Among(column="kind", values=["vowel", "none"])],
        between=[pb.Filter.Between(column="price", high=3)],
        deny_item_ids=["b"],
    )
    expected = Filter.parse(["kind=vowel|none", "price<=3"], deny=["b"])
    assert read(rerank(filter=message)).filters == expected
    assert read_recommend(pb.RecommendRequest(user=ADA, filter=message), LIMITS, INFO)[
        0
    ].filters == (expected)
    assert read(rerank(filter=pb.Filter())).filters is None


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (
            {"among": [{"column": "color", "values": ["red"]}]},
            ["among[0].column: 'color' is no attribute to filter by; there are: kind, price"],
        ),
        ({"among": [{"column": "kind"}]}, ["among[0].values: empty; no item could match"]),
        (
            {"between": [{"column": "kind", "low": 1}]},
            ["between[0].column: 'kind' has no number to filter by; there are: price"],
        ),
        (
            {"between": [{"column": "price"}]},
            ["between[0]: neither low nor high; one of them is needed"],
        ),
        (
            {"between": [{"column": "price", "low": NAN, "high": INFINITY}]},
            [
                "between[0].low: nan, a number is needed",
                "between[0].high: inf, a number is needed",
            ],
        ),
        (
            {"between": [{"column": "price", "low": 3, "high": 2}]},
            ["between[0]: low 3 is above high 2: none could match"],
        ),
        ({"deny_item_ids": ["b", ""]}, ["deny_item_ids[1]: empty; an id is needed"]),
        (
            {"allow_item_ids": ["b" * 300]},
            ["allow_item_ids[0]: 300 characters, at most 256 are allowed"],
        ),
    ],
)
def test_every_fault_of_a_filter_is_named(message: dict[str, Any], told: list[str]) -> None:
    request = rerank(filter=pb.Filter(**message))
    assert faults(request, FEW) == [f"filter.{one}" for one in told]


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (
            pb.Filter(between=[pb.Filter.Between(column="price", low=1)] * 3),
            "3 conditions, at most 2 are allowed",
        ),
        (
            pb.Filter(among=[pb.Filter.Among(column="kind", values="abcd")]),
            "4 values, at most 3 are allowed",
        ),
        (
            pb.Filter(deny_item_ids=["a", "b"], allow_item_ids=["c"]),
            "3 item ids, at most 2 are allowed",
        ),
    ],
)
def test_a_filter_holds_no_more_than_it_may(message: pb.Filter, told: str) -> None:
    assert faults(rerank(filter=message), FEW) == [f"filter: {told}"]


def test_vectors_are_read_in_unit_length() -> None:
    query, _, brought = read_rerank(rerank("a", "new", vectors=[vectors("new", "a")]), LIMITS, INFO)
    assert query.user_id == "ada"
    assert brought is not None
    (embeddings,) = brought.embeddings
    assert (embeddings.space, embeddings.item_ids) == (TEXT_SPACE, ("new", "a"))
    np.testing.assert_array_equal(
        embeddings.vectors_ND, normalize(np.arange(1, 7, dtype=np.float32).reshape(2, 3))
    )
    assert read_rerank(rerank(), LIMITS, INFO)[2] is None


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ([vectors("a", dtype="int8")], ["[0].dtype: expected one of float32, float16"]),
        ([vectors("a", shape=[3])], ["[0].shape: 1 numbers, [items, dimensions] is needed"]),
        (
            [vectors("a", shape=[2, 4])],
            [
                "[0].shape: 2 rows for 1 item_ids",
                f"[0].shape: 4 dimensions, {TEXT_SPACE.space_id} has 3",
                "[0].data: 12 bytes, [2, 4] of float32 are 32",
            ],
        ),
        ([vectors("a", data=b"\0" * 11)], ["[0].data: 11 bytes, [1, 3] of float32 are 12"]),
        ([vectors("a", data=b"\xff" * 12)], ["[0].data: row 0 is not finite"]),
        (
            [vectors("a", data=b"\0" * 12)],
            ["[0].data: row 0 is all zeros, so it has no direction"],
        ),
        ([vectors("b")], ["[0].item_ids[0]: 'b' is not among the request's item_ids"]),
        (
            [vectors("a", "a")],
            ["[0].item_ids: 2, at most 1 is allowed"],
        ),
        ([vectors()], ["[0].item_ids: empty; name the rows"]),
        (
            [vectors("a", space_id="")],
            ["[0].space_id: empty; a space's id is needed, as GetInfo has it"],
        ),
        ([vectors("a"), vectors("a")], [": 2 of them for 1 spaces; send one for each"]),
        ([vectors("a", data=b"1" * 101)], [": 101 bytes, at most 100 allowed"]),
    ],
)
def test_every_fault_of_vectors_is_named(parts: list[pb.InlineVectors], told: list[str]) -> None:
    found = faults(rerank("a", vectors=parts))
    assert found == [f"vectors{one}" for one in told]


def test_a_space_comes_once_and_its_items_too() -> None:
    sound = replace(TEXT_SPACE, modality=Modality.AUDIO)
    info = replace(INFO, spaces=(*INFO.spaces, sound))
    request = rerank("a", "b", vectors=[vectors("a", "a"), vectors("b")])
    with pytest.raises(StatusError, match=r"vectors\[1\].space_id: .* stands at 0 too") as caught:
        read_rerank(request, LIMITS, info)
    assert "vectors[0].item_ids[1]" in str(caught.value.status)


def test_vectors_of_another_space_are_a_failed_precondition() -> None:
    newer = replace(TEXT_SPACE, revision="2")
    for space_id in (newer.space_id, INFO.spaces[1].space_id):  # nobody can bring fused tokens
        request = rerank("a", vectors=[vectors("a", space_id=space_id)])
        with pytest.raises(StatusError, match="cannot be compared") as caught:
            read_rerank(request, LIMITS, INFO)
        assert caught.value.code.name == "FAILED_PRECONDITION"
        assert caught.value.reason is Reason.WRONG_SPACE
        assert TEXT_SPACE.space_id in str(caught.value.status)
    request.text = "too long a text"
    assert faults(request) == ["text: 15 characters, at most 10 are allowed"]


def test_what_may_not_be_asked_at_all_has_a_limit_of_zero() -> None:
    none = ServiceLimits(text_length=0, vector_bytes=0, filter_item_ids=0)
    request = rerank(text="x", vectors=[vectors("a")], filter=pb.Filter(deny_item_ids=["b"]))
    assert len(faults(request, none)) == 3
    assert read(rerank(), none)


def test_the_paths_of_a_stream_begin_with_the_request_inside() -> None:
    assert faults(pb.RerankRequest(user=ADA), within="rerank.") == [
        "rerank.item_ids: empty; send the items to order"
    ]
