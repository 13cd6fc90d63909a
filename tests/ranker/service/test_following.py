"""A server goes where CURRENT points, and nowhere that it cannot serve."""

import asyncio
import logging
import threading
import time
import weakref
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from feature_repo.base import Unreachable
from ranker.generation import CURRENT, Generations
from ranker.pb import ranker_pb2 as pb
from ranker.pb import ranker_pb2_grpc as pb_grpc
from ranker.service.backends import Backend
from ranker.service.following import Follower, in_thread
from ranker.service.in_process import in_process
from ranker.service.server import RankerServer, running
from ranker.serving import Serving
from tests.ranker.serving_world import FUSED_SPACE, TEXT_SPACE, TableServing

PATIENCE_S = 120
REQUEST = pb.RerankRequest(user=pb.User(user_id="ada"), item_ids=["a", "b"])
HEALTHY, ILL = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
T = TypeVar("T")


@pytest.fixture
def generations(tmp_path: Path) -> Generations:
    """Three published generations of no content to speak of; CURRENT names the first."""
    for part in ("index", "adapter"):
        (tmp_path / part).mkdir()
    generations = Generations(tmp_path / "generations")
    for day in (1, 2, 3):
        generations.publish(
            index=tmp_path / "index",
            adapter=tmp_path / "adapter",
            llm="models/llm",
            spaces=(TEXT_SPACE,),
            fused_space=FUSED_SPACE,
            as_of=datetime(2026, 1, day, tzinfo=UTC),
        )
    generations.point("g-000001")
    return generations


@dataclass
class World:
    """A served table, and how the next ones are loaded."""

    generations: Generations
    server: RankerServer
    first: "weakref.ref[TableServing]"
    faults: dict[str, Exception] = field(default_factory=dict)
    loaded: list[str] = field(default_factory=list)
    before_load: Callable[[str], None] = lambda generation_id: None
    follower: Follower = field(init=False)

    def __post_init__(self) -> None:
        self.follower = Follower(
            self.generations,
            self.server,
            prepare=in_thread(self.load),
            period_s=0.05,
        )

    def load(self, generation_id: str) -> Serving:
        self.loaded.append(generation_id)
        self.before_load(generation_id)
        if generation_id in self.faults:
            raise self.faults[generation_id]
        return TableServing(generation_id=generation_id)

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """In the server's own loop."""
        return asyncio.run_coroutine_threadsafe(work, self.server.loop).result(PATIENCE_S)

    def look(self) -> None:
        self.do(self.follower.look())

    def served(self) -> str:
        with grpc.insecure_channel(self.server.address) as channel:
            answer = pb_grpc.RankerServiceStub(channel).Rerank(REQUEST, timeout=PATIENCE_S)
            return str(answer.generation_id)

    def health(self, name: str) -> Any:
        with grpc.insecure_channel(self.server.address) as channel:
            request = health_pb2.HealthCheckRequest(service=name)
            return health_pb2_grpc.HealthStub(channel).Check(request, timeout=PATIENCE_S).status


@pytest.fixture
def world(generations: Generations) -> Iterator[World]:
    serving = TableServing(generation_id="g-000001")
    first = weakref.ref(serving)
    with running(serving) as server:
        del serving  # the server alone holds it
        yield World(generations=generations, server=server, first=first)


def test_it_goes_where_current_points_and_back_again(world: World) -> None:
    world.look()
    assert (world.served(), world.loaded) == ("g-000001", [])
    for there in ("g-000003", "g-000001", "g-000002"):
        world.generations.point(there)
        world.look()
        assert world.served() == there
    world.look()
    assert world.loaded == ["g-000003", "g-000001", "g-000002"]
    assert world.follower.counts.num_switched == 3
    assert world.health("generation") == HEALTHY


def test_it_looks_by_itself_until_the_server_stops(world: World) -> None:
    async def accompany() -> None:
        world.server.accompany(world.follower.run())

    world.do(accompany())
    world.generations.point("g-000002")
    give_up = time.monotonic() + PATIENCE_S
    while world.served() != "g-000002":
        assert time.monotonic() < give_up


def test_a_broken_generation_is_refused_once_and_told_once(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.faults["g-000002"] = ValueError("index.safetensors is not what was published")
    world.generations.point("g-000002")
    with caplog.at_level(logging.ERROR, logger="ranker.service.following"):
        for _ in range(3):
            world.look()
    (told,) = caplog.records
    assert told.getMessage() == (
        "generation g-000002 is refused, and g-000001 goes on: "
        "index.safetensors is not what was published"
    )
    assert told.exc_info is None or told.exc_info[0] is None
    assert world.loaded == ["g-000002"]
    assert (world.served(), world.follower.counts.num_refused) == ("g-000001", 1)
    assert world.health("generation") == ILL
    assert world.health("") == world.health("sommelier.ranker.v1.RankerService") == HEALTHY


def test_after_a_refusal_any_other_generation_is_followed(world: World) -> None:
    world.faults["g-000002"] = RuntimeError("the GPU has fallen off the bus")
    for there in ("g-000002", "g-000003"):
        world.generations.point(there)
        world.look()
    assert world.served() == "g-000003"
    assert world.health("generation") == HEALTHY
    del world.faults["g-000002"]
    world.generations.point("g-000002")
    world.look()
    assert world.served() == "g-000002", "CURRENT has changed, so it is tried again"


def test_pointing_back_at_what_is_served_ends_the_refusal_without_loading(world: World) -> None:
    world.faults["g-000002"] = ValueError("broken")
    for there in ("g-000002", "g-000001"):
        world.generations.point(there)
        world.look()
    assert world.health("generation") == HEALTHY
    assert world.loaded == ["g-000002"]
    world.generations.point("g-000002")
    world.look()
    assert world.loaded == ["g-000002", "g-000002"]


@pytest.mark.parametrize("damage", ["missing", "not utf-8"])
def test_a_current_that_cannot_be_read_changes_nothing(damage: str, world: World) -> None:
    current = world.generations.root / CURRENT
    text = current.read_text()
    if damage == "missing":
        current.unlink()
    else:
        current.write_bytes(b"\xff\xfe")
    for _ in range(2):
        world.look()
    assert (world.served(), world.health("generation")) == ("g-000001", ILL)
    assert world.follower.counts.num_refused == 1
    current.write_text(text)
    world.look()
    assert world.health("generation") == HEALTHY


def test_a_store_that_is_down_is_no_fault_of_the_generation(world: World) -> None:
    world.faults["g-000002"] = Unreachable("the online store (redis) failed")
    world.generations.point("g-000002")
    world.look()
    world.look()
    assert world.loaded == ["g-000002"], "not again at once"
    assert world.health("generation") == ILL
    del world.faults["g-000002"]
    give_up = time.monotonic() + PATIENCE_S
    while world.served() != "g-000002":
        assert time.monotonic() < give_up
        world.look()
    assert world.follower.counts.num_refused == 0
    assert world.health("generation") == HEALTHY


def test_what_current_no_longer_names_when_it_is_loaded_is_left(world: World) -> None:
    def roll_back(generation_id: str) -> None:
        world.generations.point("g-000001")

    world.before_load = roll_back
    world.generations.point("g-000002")
    world.look()
    assert world.loaded == ["g-000002"]
    assert (world.served(), world.follower.counts.num_switched) == ("g-000001", 0)


def test_a_backend_that_is_left_is_closed(world: World) -> None:
    closed: list[str] = []

    async def prepare(generation_id: str) -> Backend:
        backend = in_process(TableServing(generation_id=generation_id))
        world.generations.point("g-000001")
        end = backend.close

        async def close() -> None:
            closed.append(generation_id)
            await end()

        backend.close = close  # type: ignore[method-assign]
        return backend

    follower = Follower(world.generations, world.server, prepare=prepare, period_s=1)
    world.generations.point("g-000003")
    world.do(follower.look())
    assert closed == ["g-000003"]


def test_the_former_one_ends_what_it_began_and_is_let_go(world: World) -> None:
    former = world.first()
    assert former is not None
    world.generations.point("g-000002")
    with ThreadPoolExecutor() as pool:
        with former.held():
            call = pool.submit(world.served)
            assert former.entered.acquire(timeout=PATIENCE_S)
            look = pool.submit(world.look)
            give_up = time.monotonic() + PATIENCE_S
            while world.follower.counts.num_switched < 1:
                assert time.monotonic() < give_up
            assert world.served() == "g-000002", "new requests do not wait for old ones"
            assert not call.done()
        assert call.result(PATIENCE_S) == "g-000001"
        look.result(PATIENCE_S)
    del former
    assert world.first() is None, "nobody holds it any more"


def test_no_request_fails_while_generations_are_switched(world: World) -> None:
    is_over, seen = threading.Event(), []

    def ask() -> list[str]:
        mine = []
        with grpc.insecure_channel(world.server.address) as channel:
            stub = pb_grpc.RankerServiceStub(channel)
            while not is_over.is_set():
                mine.append(stub.Rerank(REQUEST, timeout=PATIENCE_S).generation_id)
        return mine

    with ThreadPoolExecutor() as pool:
        asking = [pool.submit(ask) for _ in range(4)]
        try:
            for turn in range(20):
                world.generations.point(f"g-00000{1 + (turn + 1) % 3}")
                world.look()
        finally:
            is_over.set()
        seen = [one.result(PATIENCE_S) for one in asking]
    assert all(seen), "everybody was answered"
    assert {one for mine in seen for one in mine} == {"g-000001", "g-000002", "g-000003"}
    assert world.follower.counts.num_switched == 20


def test_a_look_that_fails_is_not_the_last_one(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    looks: list[float] = []

    async def look() -> None:
        looks.append(time.monotonic())
        raise RuntimeError("a full disk, say")

    monkeypatch.setattr(world.follower, "look", look)

    async def some_looks() -> None:
        running_on = asyncio.create_task(world.follower.run())
        while len(looks) < 3:
            await asyncio.sleep(0.01)
        running_on.cancel()

    with caplog.at_level(logging.ERROR, logger="ranker.service.following"):
        world.do(some_looks())
    assert "could not be followed" in caplog.text


def test_switches_and_refusals_are_counted_in_the_metrics(world: World) -> None:
    world.faults["g-000002"] = ValueError("broken")
    for there in ("g-000002", "g-000003"):
        world.generations.point(there)
        world.look()
    registry = world.server.metrics.registry
    assert registry.get_sample_value("sommelier_generation_switches_total") == 1
    assert registry.get_sample_value("sommelier_generation_refusals_total") == 1
    labels = {"generation_id": "g-000003", "model": "TableForCausalLM", "calibrator": "c0ffee"}
    assert registry.get_sample_value("sommelier_generation_info", labels) == 1
    assert registry.get_sample_value("sommelier_store_up") == 1


def test_health_tells_when_the_store_is_down_and_back(world: World) -> None:
    serving = world.first()
    assert serving is not None
    assert world.health("store") == HEALTHY
    for is_degraded, expected in ((True, ILL), (False, HEALTHY)):
        serving.is_degraded = is_degraded
        give_up = time.monotonic() + PATIENCE_S
        while world.health("store") != expected:
            assert time.monotonic() < give_up
        assert world.health("") == HEALTHY
