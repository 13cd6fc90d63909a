"""The client against a real server: nouns in and out, errors decoded, nothing heavy loaded."""

import asyncio
import inspect
import json
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from embedders.items import Interaction
from embedders.vectors import Embeddings
from ranker import calls
from ranker.client import AsyncRankerClient, FieldViolation, RankerClient, RankerError
from ranker.limits import ServiceLimits
from ranker.pb import ranker_pb2 as pb
from ranker.ranking import RankedItem, Ranking, Status
from ranker.service import statuses
from ranker.service.server import RankerServer, running
from retrieval.candidates import Candidate, Query
from retrieval.filters import Filter
from tests.ranker.fault_world import until
from tests.ranker.serving_world import BEST_FIRST, TEXT_SPACE, TITLES, TableServing

LIMITS = ServiceLimits(candidates=10, queue=0, default_candidates=5, default_top_k=3)
REPOSITORY = Path(__file__).resolve().parents[2]
TIMEOUT_S = 10.0
VIEWED = Interaction(
    item_id="b", behavior="view", timestamp=datetime(2026, 5, 6, 7, 8, 9, 123456, UTC)
)


@pytest.fixture
def serving() -> TableServing:
    return TableServing()


@pytest.fixture
def server(serving: TableServing) -> Iterator[RankerServer]:
    with running(serving, limits=LIMITS, grace_s=0) as started:
        yield started


@pytest.fixture
def client(server: RankerServer) -> Iterator[RankerClient]:
    with RankerClient(server.address, timeout_s=TIMEOUT_S) as opened:
        yield opened


class FlakyServing(TableServing):
    """Fails with these errors, one for each request, before it answers."""

    def __init__(self, *errors: Exception) -> None:
        super().__init__()
        self.errors = list(errors)
        self.num_asked = 0

    def score(self, query: Query, item_ids: Any, **wishes: Any) -> list[Candidate]:
        self.num_asked += 1
        if self.errors:
            raise self.errors.pop(0)
        return super().score(query, item_ids, **wishes)


class Impostor(grpc.GenericRpcHandler):
    """Answers every method of every service in its own way."""

    def __init__(self, behavior: Any) -> None:
        self._behavior = behavior

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        return grpc.unary_unary_rpc_method_handler(self._behavior)


@pytest.fixture
def impostor() -> Iterator[Any]:
    """Starts a server that is not ours; returns its address."""
    servers = []

    def start(behavior: Any) -> str:
        server = grpc.server(futures.ThreadPoolExecutor(1), handlers=[Impostor(behavior)])
        servers.append(server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        return f"127.0.0.1:{port}"

    yield start
    for server in servers:
        server.stop(None).wait()


def test_the_remote_ranking_equals_the_local_one_bit_for_bit(
    client: RankerClient, serving: TableServing
) -> None:
    asked = ["d", "a", "e", "c", "b"]
    answer = client.rerank(asked, user_id="ada", request_id="r1", explain=True)
    query = Query(user_id="ada")
    local = serving.rerank(query, serving.score(query, BEST_FIRST), num_explained=5)
    names = [each.name for each in fields(RankedItem)]
    remote = tuple(
        RankedItem(**{name: getattr(item, name) for name in names}) for item in answer.items
    )
    assert remote == local.items
    assert (answer.generation_id, answer.judged_by) == (local.generation_id, local.judged_by)
    assert answer.logit_weight == local.logit_weight != 1
    priors = [answer.prior(item) for item in answer.items]
    assert priors == [local.prior(item) for item in local.items]
    assert isinstance(answer, Ranking)
    assert answer.request_id == "r1"
    assert [item.title for item in answer.items] == [TITLES[item_id] for item_id in BEST_FIRST]
    assert answer.timings.total_ms > 0


def test_a_history_arrives_as_it_was_sent(client: RankerClient, serving: TableServing) -> None:
    history = [VIEWED, Interaction(item_id="c", behavior="cart", weight=4.5, position=1)]
    client.rerank(["a"], history=history)
    assert serving.reranked[0].history == tuple(history)


def test_what_is_asked_about_arrives(client: RankerClient, serving: TableServing) -> None:
    assert client.info().behaviors == ("purchase", "view")
    client.recommend(user_id="ada", behavior="purchase", explain=True)
    client.rerank(["a"], user_id="ada")
    assert [query.behavior for query in serving.reranked] == ["purchase", None]
    with pytest.raises(RankerError, match="none of those that can be asked about") as refused:
        client.rerank(["a"], user_id="ada", behavior="sniff")
    assert [bad.field for bad in refused.value.violations] == ["behavior"]


def test_unknown_items_are_no_error(client: RankerClient) -> None:
    answer = client.rerank(["zz", "a"], user_id="ada", top_k=5)
    assert [(item.item_id, item.status, item.title) for item in answer.items] == [
        ("a", Status.OK, "The a"),
        ("zz", Status.UNKNOWN_ITEM, ""),
    ]


def test_recommend_hands_every_wish_on(client: RankerClient) -> None:
    assert [item.item_id for item in client.recommend(user_id="ada").items] == ["e", "c", "d"]
    answer = client.recommend(
        history=[VIEWED],
        include_seen=True,
        exclude_item_ids=["e"],
        num_candidates=4,
        top_k=4,
        generation_id="g1",
        request_id="r2",
    )
    assert [item.item_id for item in answer.items] == ["c", "d", "b", "a"]
    assert answer.request_id == "r2"


def test_info_comes_back_as_the_nouns_that_the_server_holds(
    client: RankerClient, serving: TableServing
) -> None:
    info = client.info()
    for fact in fields(serving.info):
        assert getattr(info, fact.name) == getattr(serving.info, fact.name)
    assert info.limits == LIMITS


def test_fields_at_fault_are_told_with_what_to_mend(client: RankerClient) -> None:
    with pytest.raises(RankerError) as caught:
        client.rerank(["a", "b", "a"], user_id="")
    error = caught.value
    assert (error.code, error.reason) == ("INVALID_ARGUMENT", "INVALID_REQUEST")
    assert error.violations == (
        FieldViolation(field="user.user_id", description="empty; an id is needed"),
        FieldViolation(field="item_ids[2]", description="'a' stands at 0 too"),
    )
    assert str(error).splitlines()[1:] == [
        "  user.user_id: empty; an id is needed",
        "  item_ids[2]: 'a' stands at 0 too",
    ]


def test_an_unknown_user_and_a_wrong_generation_are_told_apart(client: RankerClient) -> None:
    with pytest.raises(RankerError, match="no user 'bob' in the store") as unknown:
        client.recommend(user_id="bob")
    assert (unknown.value.code, unknown.value.reason) == ("NOT_FOUND", "UNKNOWN_USER")
    with pytest.raises(RankerError) as wrong:
        client.recommend(user_id="ada", generation_id="g0")
    assert wrong.value.code == "FAILED_PRECONDITION"
    assert wrong.value.metadata == {"served_generation_id": "g1"}


def test_a_full_queue_says_when_to_try_again(client: RankerClient, serving: TableServing) -> None:
    with futures.ThreadPoolExecutor() as pool, serving.held():
        busy = pool.submit(client.rerank, ["a"], user_id="ada")
        assert serving.entered.acquire(timeout=TIMEOUT_S)
        with pytest.raises(RankerError) as full:
            client.rerank(["b"], user_id="ada")
        serving._gate.set()
        assert busy.result().items
    assert full.value.reason == "QUEUE_FULL"
    assert full.value.retry_after_s is not None
    assert full.value.retry_after_s >= 0.05


def test_every_call_has_a_deadline(server: RankerServer, serving: TableServing) -> None:
    with RankerClient(server.address, timeout_s=0.1) as client, serving.held():
        began = time.monotonic()
        with pytest.raises(RankerError) as caught:
            client.rerank(["a"], user_id="ada")
        assert time.monotonic() - began < TIMEOUT_S
    assert (caught.value.code, caught.value.reason) == ("DEADLINE_EXCEEDED",) * 2


def test_the_deadline_of_one_call_goes_before_the_clients(
    client: RankerClient, serving: TableServing
) -> None:
    with serving.held(), pytest.raises(RankerError, match="DEADLINE_EXCEEDED"):
        client.rerank(["a"], user_id="ada", timeout_s=0.05)


def test_a_server_that_is_away_for_a_moment_is_tried_again() -> None:
    serving = FlakyServing(statuses.shutting_down(), statuses.shutting_down())
    with running(serving) as server, RankerClient(server.address, timeout_s=TIMEOUT_S) as client:
        assert len(client.rerank(["a"], user_id="ada").items) == 1
    assert serving.num_asked == 3


@pytest.mark.parametrize("error", [KeyError("x"), ValueError("y")])
def test_nothing_else_is_tried_again(error: Exception) -> None:
    serving = FlakyServing(error)
    with (
        running(serving) as server,
        RankerClient(server.address, timeout_s=TIMEOUT_S) as client,
        pytest.raises(RankerError),
    ):
        client.rerank(["a"], user_id="ada")
    assert serving.num_asked == 1


def test_a_server_that_is_not_there_is_unavailable_and_named() -> None:
    with socket.socket() as bound:  # bound, so that nobody else takes it, but not listening
        bound.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{bound.getsockname()[1]}"
        with (
            RankerClient(address, timeout_s=TIMEOUT_S) as client,
            pytest.raises(RankerError, match=f"calling {address}") as caught,
        ):
            client.info()
    assert (caught.value.code, caught.value.reason) == ("UNAVAILABLE", "UNAVAILABLE")


@pytest.mark.parametrize(
    "status",
    [
        b"\xff\xff\xff",
        statuses.unknown_user("bob").status.SerializeToString(),
    ],
    ids=["not a status", "a status that contradicts the code"],
)
def test_a_rewritten_status_still_tells_its_code(impostor: Any, status: bytes) -> None:
    def refuse(_: bytes, context: grpc.ServicerContext) -> bytes:
        context.set_trailing_metadata((("grpc-status-details-bin", status),))
        context.abort(grpc.StatusCode.PERMISSION_DENIED, "the proxy says no")
        raise AssertionError("abort returned")

    with (
        RankerClient(impostor(refuse), timeout_s=TIMEOUT_S) as client,
        pytest.raises(RankerError, match="the proxy says no") as caught,
    ):
        client.info()
    assert (caught.value.code, caught.value.reason) == ("PERMISSION_DENIED", "PERMISSION_DENIED")
    assert caught.value.violations == ()


def test_a_value_from_a_newer_server_asks_for_an_update(impostor: Any) -> None:
    def answer(_: bytes, __: grpc.ServicerContext) -> bytes:
        item = pb.RankedItem(item_id="a", rank=1, status=99)  # type: ignore[arg-type]
        return pb.RerankResponse(items=[item]).SerializeToString()

    with (
        RankerClient(impostor(answer), timeout_s=TIMEOUT_S) as client,
        pytest.raises(RankerError, match="update the client"),
    ):
        client.rerank(["a"], user_id="ada")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"item_ids": ["a"]}, "give either user_id or history"),
        ({"item_ids": ["a"], "user_id": "u", "history": []}, "give either user_id or history"),
        ({"item_ids": "abc", "user_id": "u"}, "item_ids must be a list of ids"),
        ({"item_ids": ["a"], "user_id": "u", "top_k": -1}, "top_k must not be negative"),
        ({"item_ids": ["a"], "user_id": "u", "timeout_s": 0}, "timeout_s must be above 0"),
    ],
)
def test_a_call_that_makes_no_sense_never_leaves(arguments: dict[str, Any], told: str) -> None:
    with RankerClient("127.0.0.1:1") as client, pytest.raises(ValueError, match=told):
        client.rerank(**arguments)


def test_the_asynchronous_client_gives_the_same_answers_and_errors(
    client: RankerClient, server: RankerServer
) -> None:
    async def ask() -> tuple[Any, Any, Any, RankerError]:
        async with AsyncRankerClient(server.address, timeout_s=TIMEOUT_S) as other:
            with pytest.raises(RankerError) as caught:
                await other.rerank(["a", "a"], user_id="ada")
            return (
                await other.rerank(["a", "b"], user_id="ada"),
                await other.recommend(history=[VIEWED], top_k=2),
                await other.info(),
                caught.value,
            )

    reranked, recommended, info, error = asyncio.run(ask())
    assert reranked.items == client.rerank(["a", "b"], user_id="ada").items
    assert recommended.items == client.recommend(history=[VIEWED], top_k=2).items
    assert info == client.info()
    assert error.violations[0].field == "item_ids[1]"


def test_a_whole_wish_arrives(client: RankerClient, serving: TableServing) -> None:
    filters = Filter.parse(["price<=4", "kind=consonant|vowel"], deny=["b"])
    vectors = Embeddings(
        space=TEXT_SPACE,
        item_ids=["new", "a"],
        vectors_ND=np.array([[1, 0, 0], [0, 0.6, 0.8]], dtype=np.float32),
    )
    shared: dict[str, Any] = {
        "user_id": "ada",
        "recent": [VIEWED],
        "text": "a guest",
        "filters": filters,
        "weights": {"text": 0.5},
    }
    answer = client.rerank(["a", "new", "b", "c"], vectors=[vectors], anytime=True, **shared)
    client.recommend(**shared)
    for query in serving.reranked:
        assert (query.filters, query.weights, query.text) == (filters, {"text": 0.5}, "a guest")
        assert query.recent == (VIEWED,)
    (brought, none) = serving.brought
    assert none is None
    assert brought is not None
    np.testing.assert_allclose(brought.embeddings[0].vectors_ND, vectors.vectors_ND)
    statuses_of = {item.item_id: item.status for item in answer.items}
    assert statuses_of["b"] is Status.FILTERED, "denied"
    assert statuses_of["new"] is Status.FILTERED, "it has no price"
    assert (answer.num_scored, answer.is_degraded, answer.is_final) == (2, False, True)


def test_an_item_that_only_the_request_knows_is_ranked(client: RankerClient) -> None:
    rows_ND = np.eye(3, dtype=np.float32)[:1]
    vectors = Embeddings(space=TEXT_SPACE, item_ids=["new"], vectors_ND=rows_ND)
    answer = client.rerank(["new", "a"], user_id="ada", vectors=[vectors])
    assert [(item.item_id, item.rank) for item in answer.items] == [("a", 1), ("new", 2)]
    foreign = replace(vectors, space=replace(TEXT_SPACE, revision="2"))
    with pytest.raises(RankerError) as wrong:
        client.rerank(["new", "a"], user_id="ada", vectors=[foreign])
    assert (wrong.value.code, wrong.value.reason) == ("FAILED_PRECONDITION", "WRONG_SPACE")
    assert wrong.value.metadata == {"served_space_ids": TEXT_SPACE.space_id}


def test_a_stream_begins_with_retrievals_order_and_ends_with_the_answer(
    client: RankerClient, server: RankerServer
) -> None:
    asked = ["d", "a", "e", "c", "b"]

    async def steps() -> list[Any]:
        async with AsyncRankerClient(server.address, timeout_s=TIMEOUT_S) as other:
            return [one async for one in other.stream_rerank(asked, user_id="ada")]

    whole = client.rerank(asked, user_id="ada")
    for answers in (list(client.stream_rerank(asked, user_id="ada")), asyncio.run(steps())):
        assert [one.num_scored for one in answers] == [0, 2, 4, 5]
        assert [one.is_final for one in answers] == [False, False, False, True]
        assert answers[0].judged_by == "retrieval_order"
        assert [item.item_id for item in answers[0].items] == ["a", "b", "c", "d", "e"]
        assert answers[-1].items == whole.items


def test_a_stream_that_ran_out_of_time_says_so(client: RankerClient, serving: TableServing) -> None:
    serving.tokens_of_pass[2] = 10**12  # a pass that nobody can wait for
    *_, answer = client.stream_rerank(["a", "b", "c"], user_id="ada")
    assert (answer.is_final, answer.is_degraded) == (True, True)
    assert answer.num_scored < 3
    assert len(answer.items) == 3
    plain = client.rerank(["a", "b", "c"], user_id="ada", anytime=True)
    assert plain.is_degraded


def test_who_leaves_a_stream_stops_the_work(
    client: RankerClient, server: RankerServer, serving: TableServing
) -> None:
    passes: list[int] = []
    second = threading.Event()

    def wait(number: int) -> None:
        passes.append(number)
        if number == 1:
            assert second.wait(TIMEOUT_S)

    serving.before_pass = wait
    steps = client.stream_rerank(["a", "b", "c", "d", "e"], user_id="ada")
    next(steps)
    steps.close()  # type: ignore[attr-defined]  # an iterator that is a generator
    until(lambda: server.metrics.registry.get_sample_value("sommelier_under_way") == 0)
    second.set()
    client.rerank(["a"], user_id="ada")  # waits its turn
    assert max(passes[:2]) <= 1


def test_a_stream_is_refused_as_any_call(client: RankerClient, server: RankerServer) -> None:
    async def ask() -> None:
        async with AsyncRankerClient(server.address, timeout_s=TIMEOUT_S) as other:
            async for _ in other.stream_rerank(["a", "a"], user_id="ada"):
                pass

    for refused in (
        lambda: list(client.stream_rerank(["a", "a"], user_id="ada")),
        lambda: asyncio.run(ask()),
    ):
        with pytest.raises(RankerError) as caught:
            refused()
        assert [bad.field for bad in caught.value.violations] == ["rerank.item_ids[1]"]
    with pytest.raises(ValueError, match="give either user_id or history"):
        client.stream_rerank(["a"])  # before anybody asks for a step


@pytest.mark.parametrize("name", ["rerank", "recommend", "stream_rerank", "info"])
def test_both_clients_take_what_the_calls_describe(name: str) -> None:
    described = inspect.signature(getattr(calls, name)).parameters
    for client in (RankerClient, AsyncRankerClient):
        method = getattr(client, name)
        assert list(inspect.signature(method).parameters) == ["self", *described]
        assert method.__name__ == name
        assert method.__doc__ == getattr(calls, name).__doc__
    taken = list(inspect.signature(RankerClient("127.0.0.1:1").rerank).parameters)
    assert taken[:2] == ["item_ids", "user_id"]


def test_the_client_loads_nothing_but_grpc_protobuf_and_numpy() -> None:
    code = """
import json, sys
import google.protobuf, grpc, grpc_status, numpy
before = set(sys.modules)
import ranker.client
loaded = {name.partition(".")[0] for name in set(sys.modules) - before}
print(json.dumps(sorted(loaded - set(sys.stdlib_module_names))))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    rooms = {"embedders", "feature_repo", "ranker", "retrieval"}
    known = {"google", "grpc", "grpc_status", "numpy", *rooms}
    assert set(json.loads(run.stdout)) <= known


def test_what_a_request_may_bring_is_documented_as_it_runs(client: RankerClient) -> None:
    page = (REPOSITORY / "docs" / "service.md").read_text()
    section = page[page.index("## What a request may bring") :]
    example = textwrap.dedent(section.split("```python\n")[1].split("```")[0])
    names: dict[str, Any] = {
        "ranker": client,
        "Interaction": Interaction,
        "unit_vectors": np.eye(3, dtype=np.float32)[:1],
    }
    exec(example, names)
    assert [(item.item_id, item.status) for item in names["answer"].items] == [
        ("b", Status.OK),
        ("a", Status.OK),
        ("new", Status.OK),
        ("c", Status.FILTERED),
    ]
    assert [item.item_id for item in names["cheap"].items] == ["e"]


def test_the_documentation_lists_every_reason_and_every_limit() -> None:
    page = (REPOSITORY / "docs" / "service.md").read_text()
    assert [reason for reason in statuses.Reason if f"| {reason} |" not in page] == []
    for limit in fields(ServiceLimits):
        default = limit.default
        if limit.name.endswith("_bytes"):
            default = f"{limit.default // 2**20} MiB"
        assert f"| `{limit.name}` | {default} |" in page
