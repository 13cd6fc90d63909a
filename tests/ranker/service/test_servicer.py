"""The service behind a real server, asked by the generated stub: answers known from a table."""

import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2 as details_pb2
from grpc_status import rpc_status

from ranker.limits import ServiceLimits
from ranker.pb import ranker_pb2 as pb
from ranker.pb import ranker_pb2_grpc as pb_grpc
from ranker.service.server import RankerServer, running
from tests.ranker.serving_world import (
    BEST_FIRST,
    LOGIT_WEIGHT,
    RETRIEVAL_SCORES,
    SCORES,
    SEEN,
    TITLES,
    TableServing,
)

ADA = pb.User(user_id="ada")
LIMITS = ServiceLimits(
    candidates=10,
    history=3,
    top_k=8,
    id_length=16,
    exclude=2,
    message_bytes=2000,
    queue=2,
    default_candidates=4,
    default_top_k=2,
    explained=3,
)
PATIENCE_S = 10


@pytest.fixture
def serving() -> TableServing:
    return TableServing()


@pytest.fixture
def server(serving: TableServing) -> Iterator[RankerServer]:
    with running(serving, limits=LIMITS, grace_s=0) as started:
        yield started


@pytest.fixture
def channel(server: RankerServer) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.address) as opened:
        yield opened


@pytest.fixture
def stub(channel: grpc.Channel) -> pb_grpc.RankerServiceStub:
    return pb_grpc.RankerServiceStub(channel)


def history(*events: tuple[str, str]) -> pb.User:
    interactions = [pb.Interaction(item_id=item_id, behavior=how) for item_id, how in events]
    return pb.User(history=pb.History(interactions=interactions))


def rated(*weights: float) -> pb.User:
    interactions = [pb.Interaction(item_id="a", behavior="rate", weight=one) for one in weights]
    return pb.User(history=pb.History(interactions=interactions))


def rerank(*item_ids: str, user: pb.User = ADA, **more: Any) -> pb.RerankRequest:
    return pb.RerankRequest(user=user, item_ids=item_ids, **more)


def failure(method: Callable[..., Any], request: Any, *, timeout: float = PATIENCE_S) -> Any:
    with pytest.raises(grpc.RpcError) as caught:
        method(request, timeout=timeout)
    return caught.value


def detail(error: Any, kind: type[Message]) -> Any:
    """The one detail of this kind."""
    [packed] = [any_ for any_ in rpc_status.from_call(error).details if any_.Is(kind.DESCRIPTOR)]
    unpacked = kind()
    packed.Unpack(unpacked)
    return unpacked


def reason(error: Any) -> str:
    info = detail(error, details_pb2.ErrorInfo)
    assert info.domain == "sommelier"
    return str(info.reason)


def violated(error: Any) -> list[str]:
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason(error) == "INVALID_REQUEST"
    return [bad.field for bad in detail(error, details_pb2.BadRequest).field_violations]


def num_requests(server: RankerServer, *, code: str) -> float | None:
    labels = {"method": "Rerank", "code": code}
    return server.metrics.registry.get_sample_value("sommelier_requests_total", labels)


def until(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up, "it never came true"
        time.sleep(0.005)


def test_the_callers_items_come_back_best_first_and_ties_fall_by_id(stub: Any) -> None:
    response = stub.Rerank(rerank("d", "a", "e", "c", "b"), timeout=PATIENCE_S)
    assert [item.item_id for item in response.items] == BEST_FIRST
    assert [item.rank for item in response.items] == [1, 2, 3, 4, 5]
    assert response.generation_id == "g1"
    assert response.judged_by == "table"


def test_an_item_carries_its_scores_exactly_its_title_and_its_modalities(stub: Any) -> None:
    [item] = stub.Rerank(rerank("c"), timeout=PATIENCE_S).items
    assert item.score == SCORES["c"]
    assert item.logit == SCORES["c"] - RETRIEVAL_SCORES["c"]
    assert item.retrieval_score == RETRIEVAL_SCORES["c"]
    assert item.retrieval_rank == 1
    assert item.title == TITLES["c"]
    assert item.status == pb.ITEM_STATUS_OK
    assert list(item.present) == [pb.MODALITY_TEXT]


def test_an_item_without_vectors_is_ranked_and_says_so(stub: Any) -> None:
    items = stub.Rerank(rerank("a", "e"), timeout=PATIENCE_S).items
    assert [(item.item_id, item.status) for item in items] == [
        ("e", pb.ITEM_STATUS_MISSING_VECTORS),
        ("a", pb.ITEM_STATUS_OK),
    ]


def test_unknown_items_come_last_by_id_with_rank_zero(stub: Any) -> None:
    items = stub.Rerank(rerank("zz", "a", "yy", "b"), timeout=PATIENCE_S).items
    assert [(item.item_id, item.rank) for item in items] == [
        ("b", 1),
        ("a", 2),
        ("yy", 0),
        ("zz", 0),
    ]
    assert [item.status for item in items[2:]] == [pb.ITEM_STATUS_UNKNOWN_ITEM] * 2
    assert items[2].title == ""


def test_nothing_but_unknown_items_is_still_an_answer(stub: Any, serving: TableServing) -> None:
    response = stub.Rerank(rerank("yy", "xx"), timeout=PATIENCE_S)
    assert [item.item_id for item in response.items] == ["xx", "yy"]
    assert response.generation_id == "g1"
    assert response.judged_by == ""
    assert serving.reranked == []


def test_top_k_cuts_the_answer_after_ranking_all(stub: Any) -> None:
    items = stub.Rerank(rerank("a", "b", "c", "d", "e", top_k=2), timeout=PATIENCE_S).items
    assert [item.item_id for item in items] == BEST_FIRST[:2]


def test_a_request_id_is_echoed_and_made_up_where_none_was_sent(stub: Any) -> None:
    assert stub.Rerank(rerank("a", request_id="r7"), timeout=PATIENCE_S).request_id == "r7"
    recommend = pb.RecommendRequest(user=ADA, request_id="r8")
    assert stub.Recommend(recommend, timeout=PATIENCE_S).request_id == "r8"
    first, second = (stub.Rerank(rerank("a"), timeout=PATIENCE_S).request_id for _ in range(2))
    assert first
    assert second
    assert first != second


def test_the_timings_say_where_the_time_went(stub: Any, serving: TableServing) -> None:
    with ThreadPoolExecutor() as pool, serving.held():
        call = pool.submit(stub.Rerank, rerank("a", "b"), timeout=PATIENCE_S)
        assert serving.entered.acquire(timeout=PATIENCE_S)
        time.sleep(0.05)
        serving._gate.set()
        timings = call.result().timings
    assert timings.retrieve_ms >= 50
    assert 0 < timings.rerank_ms < timings.retrieve_ms
    assert timings.total_ms >= timings.queue_ms + timings.retrieve_ms + timings.rerank_ms - 0.01


def test_a_stored_user_is_named_and_an_inline_history_is_handed_on(
    stub: Any, serving: TableServing
) -> None:
    stub.Rerank(rerank("a"), timeout=PATIENCE_S)
    timed = history(("b", "view"), ("c", "cart"))
    timed.history.interactions[1].timestamp.FromJsonString("2026-05-06T07:08:09.25Z")
    stub.Rerank(rerank("a", user=timed), timeout=PATIENCE_S)
    stored, inline = serving.reranked
    assert (stored.user_id, stored.history, stored.exclude_seen) == ("ada", (SEEN,), False)
    assert inline.user_id == ""
    assert inline.history is not None
    first, second = inline.history
    assert (first.item_id, first.behavior, first.position, first.timestamp) == (
        "b", "view", 0, None,
    )  # fmt: skip
    assert (second.item_id, second.position) == ("c", None)
    assert second.timestamp is not None
    assert second.timestamp.isoformat() == "2026-05-06T07:08:09.250000+00:00"


def test_what_is_asked_about_is_handed_on(stub: Any, serving: TableServing) -> None:
    stub.Rerank(rerank("a", behavior="purchase"), timeout=PATIENCE_S)
    stub.Recommend(pb.RecommendRequest(user=ADA, behavior="view"), timeout=PATIENCE_S)
    stub.Rerank(rerank("a"), timeout=PATIENCE_S)
    assert [query.behavior for query in serving.reranked] == ["purchase", "view", None]


def test_explanations_come_with_what_is_returned_and_only_when_asked_for(stub: Any) -> None:
    request = rerank("d", "a", "e", "c", "b", top_k=2, explain=True)
    items = stub.Rerank(request, timeout=PATIENCE_S).items
    assert [item.item_id for item in items] == ["e", "c"]
    assert [(one.block, one.value) for one in items[1].explanation.contributions] == [
        ("sequence", 0.0),
        ("text", SCORES["c"] - 0.05),
    ]
    assert items[1].explanation.base == 0.05
    found = stub.Recommend(pb.RecommendRequest(user=ADA, explain=True), timeout=PATIENCE_S)
    assert all(item.HasField("explanation") for item in found.items)
    plain = stub.Rerank(rerank("a", "b"), timeout=PATIENCE_S)
    assert not any(item.HasField("explanation") for item in plain.items)


def test_a_probability_comes_where_there_is_one_and_the_logits_weight_always(stub: Any) -> None:
    response = stub.Rerank(rerank("c", "e"), timeout=PATIENCE_S)
    without, item = response.items
    assert item.probability == SCORES["c"] / 2
    assert not without.HasField("probability")
    assert response.logit_weight == LOGIT_WEIGHT


def test_a_user_of_whom_nothing_is_known_is_answered(stub: Any, serving: TableServing) -> None:
    response = stub.Recommend(pb.RecommendRequest(user=history()), timeout=PATIENCE_S)
    assert [item.item_id for item in response.items] == ["c", "d"]
    assert serving.reranked[0].history == ()


def test_recommend_retrieves_the_servers_defaults_and_hides_what_was_seen(stub: Any) -> None:
    response = stub.Recommend(pb.RecommendRequest(user=ADA), timeout=PATIENCE_S)
    # Of b, c, d, e (a was seen) the best two.
    assert [item.item_id for item in response.items] == ["e", "c"]
    assert response.timings.total_ms > 0


def test_recommend_keeps_to_the_callers_numbers_and_exclusions(stub: Any) -> None:
    request = pb.RecommendRequest(
        user=ADA, include_seen=True, num_candidates=3, top_k=3, exclude_item_ids=["b"]
    )
    items = stub.Recommend(request, timeout=PATIENCE_S).items
    assert [item.item_id for item in items] == ["c", "d", "a"]


def test_a_large_top_k_retrieves_as_many(stub: Any) -> None:
    items = stub.Recommend(pb.RecommendRequest(user=history(), top_k=5), timeout=PATIENCE_S).items
    assert [item.item_id for item in items] == BEST_FIRST


def test_recommend_with_nothing_left_to_find_is_an_empty_answer(stub: Any) -> None:
    seen = history(("a", "view"), ("b", "view"), ("c", "view"))
    request = pb.RecommendRequest(user=seen, exclude_item_ids=["d", "e"])
    response = stub.Recommend(request, timeout=PATIENCE_S)
    assert list(response.items) == []
    assert response.generation_id == "g1"


def test_info_tells_the_limits_the_spaces_and_the_generation(stub: Any) -> None:
    info = stub.GetInfo(pb.GetInfoRequest(), timeout=PATIENCE_S)
    assert (info.generation_id, info.model, info.num_items) == ("g1", "TableForCausalLM", 5)
    assert (info.limits.candidates, info.limits.message_bytes, info.limits.queue) == (10, 2000, 2)
    assert [space.modality for space in info.spaces] == [pb.MODALITY_TEXT, pb.MODALITY_UNSPECIFIED]
    assert info.spaces[0].space_id.startswith("text_table_")
    assert list(info.behaviors) == ["purchase", "view"]
    assert info.calibrator == "c0ffee"


@pytest.mark.parametrize(
    ("request_", "fields"),
    [
        (pb.RerankRequest(item_ids=["a"]), ["user"]),
        (pb.RerankRequest(user=pb.User(user_id=""), item_ids=["a"]), ["user.user_id"]),
        (rerank(), ["item_ids"]),
        (rerank("a", "b", "a"), ["item_ids[2]"]),
        (rerank("a", ""), ["item_ids[1]"]),
        (rerank("a" * 17), ["item_ids[0]"]),
        (rerank(*map(str, range(11))), ["item_ids"]),
        (rerank("a", top_k=9), ["top_k"]),
        (rerank("a", request_id="r" * 17), ["request_id"]),
        (rerank("a", generation_id="g" * 17), ["generation_id"]),
        (
            rerank("a", user=history(("a", "view"), ("b", ""))),
            ["user.history.interactions[1].behavior"],
        ),
        (rerank("a", user=history(("", "view"))), ["user.history.interactions[0].item_id"]),
        (rerank("a", user=history(*[("a", "view")] * 4)), ["user.history.interactions"]),
        (rerank("a", user=rated(math.inf)), ["user.history.interactions[0].weight"]),
        (rerank("a", behavior="sniff"), ["behavior"]),
        (rerank("a", behavior="b" * 17), ["behavior"]),
        (rerank("a", "b", "c", "d", explain=True), ["explain"]),
        (rerank("a", "b", "c", "d", explain=True, top_k=4), ["explain"]),
        (rerank("", user=pb.User(), top_k=9), ["user", "item_ids[0]", "top_k"]),
    ],
)
def test_every_field_at_fault_is_named(
    stub: Any, request_: pb.RerankRequest, fields: list[str]
) -> None:
    error = failure(stub.Rerank, request_)
    assert violated(error) == fields
    assert error.details().startswith(f"{fields[0]}: ")


@pytest.mark.parametrize("seconds", [-(10**15), 10**15])
def test_a_time_that_no_calendar_has_is_a_field_at_fault(stub: Any, seconds: int) -> None:
    request = rerank("a", user=history(("a", "view")))
    request.user.history.interactions[0].timestamp.seconds = seconds
    error = failure(stub.Rerank, request)
    assert violated(error) == ["user.history.interactions[0].timestamp"]


@pytest.mark.parametrize(
    ("fields", "at_fault"),
    [
        ({"top_k": 9}, ["top_k", "num_candidates"]),
        ({"num_candidates": 11}, ["num_candidates"]),
        ({"num_candidates": 3, "top_k": 4}, ["num_candidates"]),
        ({"exclude_item_ids": ["a", "b", "c"]}, ["exclude_item_ids"]),
        ({"exclude_item_ids": [""]}, ["exclude_item_ids[0]"]),
        ({"user": None}, ["user"]),
        ({"behavior": "sniff"}, ["behavior"]),
        ({"top_k": 4, "num_candidates": 4, "explain": True}, ["explain"]),
    ],
)
def test_recommend_names_its_fields_at_fault(
    stub: Any, fields: dict[str, Any], at_fault: list[str]
) -> None:
    error = failure(stub.Recommend, pb.RecommendRequest(**{"user": ADA, **fields}))
    assert violated(error)[:1] == at_fault[:1]


def test_many_faults_still_fit_into_an_answer() -> None:
    with running(TableServing()) as server, grpc.insecure_channel(server.address) as channel:
        error = failure(pb_grpc.RankerServiceStub(channel).Rerank, rerank(*["é" * 999] * 500))
    assert len(violated(error)) == 8
    assert detail(error, details_pb2.ErrorInfo).metadata["num_violations"] == "999"


def test_an_unknown_user_is_not_found_and_named(stub: Any) -> None:
    error = failure(stub.Rerank, rerank("a", user=pb.User(user_id="bob")))
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert reason(error) == "UNKNOWN_USER"
    resource = detail(error, details_pb2.ResourceInfo)
    assert (resource.resource_type, resource.resource_name) == ("user", "bob")


def test_another_generation_than_the_one_asked_for_is_refused(stub: Any) -> None:
    assert stub.Rerank(rerank("a", generation_id="g1"), timeout=PATIENCE_S).items
    for method, request in (
        (stub.Rerank, rerank("a", generation_id="g0")),
        (stub.Recommend, pb.RecommendRequest(user=ADA, generation_id="g0")),
    ):
        error = failure(method, request)
        assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert reason(error) == "WRONG_GENERATION"
        [violation] = detail(error, details_pb2.PreconditionFailure).violations
        assert (violation.type, violation.subject) == ("GENERATION", "g0")
        assert detail(error, details_pb2.ErrorInfo).metadata["served_generation_id"] == "g1"


def test_after_a_switch_requests_under_way_keep_the_generation_they_began_with(
    stub: Any, server: RankerServer, serving: TableServing
) -> None:
    with ThreadPoolExecutor() as pool:
        with serving.held():
            old = pool.submit(stub.Rerank, rerank("a"), timeout=PATIENCE_S)
            assert serving.entered.acquire(timeout=PATIENCE_S)
            server.switch(TableServing(generation_id="g2"))
        assert old.result().generation_id == "g1"
    assert stub.Rerank(rerank("a"), timeout=PATIENCE_S).generation_id == "g2"


def test_a_full_queue_refuses_and_says_when_to_try_again(
    stub: Any, server: RankerServer, serving: TableServing
) -> None:
    with ThreadPoolExecutor() as pool:
        with serving.held():
            calls = [
                pool.submit(stub.Rerank, rerank(item_id), timeout=PATIENCE_S)
                for item_id in "abc"[: 1 + LIMITS.queue]
            ]
            until(lambda: server.num_waiting == LIMITS.queue)
            error = failure(stub.Rerank, rerank("d"))
        assert [len(call.result().items) for call in calls] == [1] * 3
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert reason(error) == "QUEUE_FULL"
    assert detail(error, details_pb2.RetryInfo).retry_delay.ToMilliseconds() >= 50


def test_a_waiting_request_whose_deadline_passes_is_never_worked_on(
    stub: Any, server: RankerServer, serving: TableServing
) -> None:
    with ThreadPoolExecutor() as pool:
        with serving.held():
            first = pool.submit(stub.Rerank, rerank("a"), timeout=PATIENCE_S)
            assert serving.entered.acquire(timeout=PATIENCE_S)
            error = failure(stub.Rerank, rerank("b"), timeout=0.1)
            until(lambda: server.num_waiting == 0)
        assert first.result().items
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    stub.Rerank(rerank("a"), timeout=PATIENCE_S)  # whatever waited before this had its turn
    assert len(serving.reranked) == 2


def test_a_cancelled_request_leaves_the_queue_and_is_never_worked_on(
    stub: Any, server: RankerServer, serving: TableServing
) -> None:
    with ThreadPoolExecutor() as pool:
        with serving.held():
            first = pool.submit(stub.Rerank, rerank("a"), timeout=PATIENCE_S)
            assert serving.entered.acquire(timeout=PATIENCE_S)
            waiting = stub.Rerank.future(rerank("b"), timeout=PATIENCE_S)
            until(lambda: server.num_waiting == 1)
            assert waiting.cancel()
            until(lambda: server.num_waiting == 0)
        assert first.result().items
    stub.Rerank(rerank("a"), timeout=PATIENCE_S)
    assert len(serving.reranked) == 2


def test_a_request_cancelled_while_its_candidates_are_found_is_not_reranked(
    stub: Any, server: RankerServer, serving: TableServing
) -> None:
    with serving.held():
        running_call = stub.Rerank.future(rerank("b"), timeout=PATIENCE_S)
        assert serving.entered.acquire(timeout=PATIENCE_S)
        assert running_call.cancel()
        until(lambda: num_requests(server, code="CANCELLED") == 1)
    stub.Rerank(rerank("a"), timeout=PATIENCE_S)
    assert len(serving.reranked) == 1


def test_a_message_beyond_the_limit_is_refused(stub: Any) -> None:
    error = failure(stub.Rerank, rerank("x" * 3000))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("data", [b"\xff\xff\xff", b"\x1a\x02\xff\xfe"])
def test_bytes_that_are_no_request_are_the_callers_fault(channel: Any, data: bytes) -> None:
    error = failure(channel.unary_unary("/sommelier.ranker.v1.RankerService/Rerank"), data)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason(error) == "MALFORMED_MESSAGE"


def test_a_method_that_does_not_exist_is_unimplemented(channel: Any) -> None:
    error = failure(channel.unary_unary("/sommelier.ranker.v1.RankerService/Sing"), b"")
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_value_error_of_the_generation_tells_the_caller_what_to_mend(
    stub: Any, serving: TableServing
) -> None:
    serving.error = ValueError("no such behavior 'sniff'; allowed: view, cart")
    error = failure(stub.Rerank, rerank("a"))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason(error) == "INVALID_REQUEST"
    assert error.details() == "no such behavior 'sniff'; allowed: view, cart"


def test_an_unexpected_error_shows_an_id_and_nothing_else(
    stub: Any, serving: TableServing, caplog: pytest.LogCaptureFixture
) -> None:
    serving.error = KeyError("/secret/path")
    error = failure(stub.Rerank, rerank("a", request_id="r9"))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert reason(error) == "INTERNAL"
    assert "secret" not in str(rpc_status.from_call(error))
    error_id = detail(error, details_pb2.ErrorInfo).metadata["error_id"]
    assert error_id in error.details()
    [record] = [record for record in caplog.records if error_id in record.getMessage()]
    assert "r9" in record.getMessage()
    assert record.exc_info is not None
    assert "/secret/path" in str(record.exc_info[1])

    serving.error = None
    assert stub.Rerank(rerank("a"), timeout=PATIENCE_S).items


def test_info_that_fails_is_as_discreet(stub: Any, serving: TableServing) -> None:
    serving.info_error = KeyError("/secret/path")
    error = failure(stub.GetInfo, pb.GetInfoRequest())
    assert error.code() is grpc.StatusCode.INTERNAL
    assert reason(error) == "INTERNAL"


def test_a_request_id_cannot_write_lines_of_its_own_into_the_log(
    stub: Any, serving: TableServing, caplog: pytest.LogCaptureFixture
) -> None:
    serving.error = KeyError("x")
    failure(stub.Rerank, rerank("a", request_id="r\nroot: hacked"))
    messages = [record.getMessage() for record in caplog.records if "hacked" in record.getMessage()]
    assert len(messages) == 1
    assert "\n" not in messages[0]


@pytest.mark.parametrize("num_workers", [1, 4])
def test_twenty_callers_at_once_get_the_answer_that_one_gets(num_workers: int) -> None:
    limits = ServiceLimits(workers=num_workers)
    start = threading.Barrier(20)
    with (
        running(TableServing(), limits=limits) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = pb_grpc.RankerServiceStub(channel)

        def ask() -> list[tuple[str, float]]:
            start.wait()
            items = stub.Rerank(rerank("d", "a", "c", "zz"), timeout=PATIENCE_S).items
            return [(item.item_id, item.score) for item in items]

        with ThreadPoolExecutor(20) as pool:
            answers = [call.result() for call in [pool.submit(ask) for _ in range(20)]]
    assert [item_id for item_id, _ in answers[0]] == ["c", "d", "a", "zz"]
    assert answers == [answers[0]] * 20
