"""Real generations published, broken and rolled back under a server that is asked all the while."""

import asyncio
import hashlib
import json
import shutil
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from feature_repo.atomic import replace_text
from feature_repo.reader import OnlineReader
from feature_repo.store import Store
from ranker.generation import CURRENT, MANIFEST, Generations
from ranker.limits import ServerConfig
from ranker.loaded import LoadedGeneration, load
from ranker.model import WEIGHTS
from ranker.pb import ranker_pb2 as pb
from ranker.pb import ranker_pb2_grpc as pb_grpc
from ranker.probes import PROBES
from ranker.service.following import Follower, in_thread
from ranker.service.server import RankerServer, running
from ranker.training import train
from retrieval.build import VECTORS
from tests.ranker import model_world
from tests.ranker.shop_world import ITEMS, fill, publish

PATIENCE_S = 120
HISTORY = pb.History(interactions=[pb.Interaction(item_id="item-02", behavior="view")])
QUESTIONS = (
    pb.RerankRequest(user=pb.User(user_id="ann"), item_ids=ITEMS.item_ids[:12]),
    pb.RecommendRequest(user=pb.User(history=HISTORY), num_candidates=15),
)


@pytest.fixture(scope="module")
def published(
    adapter: Path, llm_folder: Path, tmp_path_factory: pytest.TempPathFactory, imported_feast: None
) -> tuple[Store, Generations]:
    """Two generations whose adapters, and so whose tokens' spaces, differ; the first is served."""
    root = tmp_path_factory.mktemp("faults")
    config = replace(model_world.CONFIG, training=replace(model_world.CONFIG.training, seed=20))
    another = train(
        model_world.examples(8),
        items=model_world.items(),
        titles=model_world.TITLES,
        llm=str(llm_folder),
        config=config,
        folder=root / "adapters",
    )
    store = Store(root / "store")
    for one in (adapter, another):
        fill(store, one)
        publish(root, one, llm_folder, store=store)
    generations = Generations(root / "generations")
    spaces = {generations.read(one).fused_space for one in generations.ids()}
    assert len(spaces) == 2
    generations.point("g-000001")
    return store, generations


@dataclass
class Shop:
    """A server over the first generation, and its follower."""

    store: Store
    generations: Generations
    server: RankerServer
    reader: OnlineReader
    loaded: list["weakref.ref[object]"] = field(default_factory=list)
    follower: Follower = field(init=False)

    def __post_init__(self) -> None:
        self.follower = Follower(
            self.generations, self.server, prepare=in_thread(self.load), period_s=0.05
        )

    def load(self, generation_id: str) -> LoadedGeneration:
        found = load(
            self.generations, store=self.store, generation_id=generation_id, reader=self.reader
        )
        self.loaded.append(weakref.ref(found.model.llm.model))
        return found

    def point(self, generation_id: str) -> None:
        """Have CURRENT followed there, or refused."""
        # Not by `point`, which refuses what it cannot read.
        replace_text(self.generations.root / CURRENT, generation_id)
        look = asyncio.run_coroutine_threadsafe(self.follower.look(), self.server.loop)
        look.result(PATIENCE_S)

    def served(self) -> str:
        return str(self.server.info.generation_id)

    def health(self, name: str) -> str:
        with grpc.insecure_channel(self.server.address) as channel:
            request = health_pb2.HealthCheckRequest(service=name)
            answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=PATIENCE_S)
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))

    @contextmanager
    def asked(self) -> Iterator[list["Future[list[pb.RerankResponse]]"]]:
        """Three callers ask without a pause; leaving, every one must have been answered."""
        is_over = threading.Event()

        def ask() -> list[pb.RerankResponse]:
            answers = []
            with grpc.insecure_channel(self.server.address) as channel:
                stub = pb_grpc.RankerServiceStub(channel)
                while not is_over.is_set():
                    answers.append(stub.Rerank(QUESTIONS[0], timeout=PATIENCE_S))
                    answers.append(stub.Recommend(QUESTIONS[1], timeout=PATIENCE_S))
            return answers

        with ThreadPoolExecutor() as pool:
            callers = [pool.submit(ask) for _ in range(3)]
            try:
                yield callers
            finally:
                is_over.set()
        for caller in callers:
            assert caller.result(), "a caller without an answer"

    def copy_of(self, generation_id: str, name: str) -> Path:
        """A further generation with the same content."""
        folder = self.generations.root / name
        shutil.copytree(self.generations.root / generation_id, folder)
        manifest = folder / MANIFEST
        manifest.write_text(manifest.read_text().replace(generation_id, name))
        return folder


@pytest.fixture
def shop(published: tuple[Store, Generations], tmp_path: Path) -> Iterator[Shop]:
    store, originals = published
    shutil.copytree(originals.root, tmp_path / "generations")
    generations = Generations(tmp_path / "generations")
    reader = OnlineReader(store, stale_history_s=60)
    first = load(generations, store=store, reader=reader)
    known: weakref.ref[object] = weakref.ref(first.model.llm.model)
    with running(first, config=ServerConfig(port=0)) as server:
        del first
        yield Shop(store, generations, server, reader, loaded=[known])


def sign(folder: Path, name: str) -> None:
    """Have the manifest say that a changed file is what was published."""
    manifest = folder / MANIFEST
    facts = json.loads(manifest.read_text())
    facts["files"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    manifest.write_text(json.dumps(facts))


def answers_by_generation(
    callers: list["Future[list[pb.RerankResponse]]"],
) -> dict[str, set[tuple[object, ...]]]:
    """The distinct answers that each generation gave, bit for bit."""
    found: dict[str, set[tuple[object, ...]]] = {}
    for caller in callers:
        for answer in caller.result():
            items = tuple((one.item_id, one.rank, one.score) for one in answer.items)
            found.setdefault(answer.generation_id, set()).add((type(answer), items))
    return found


def test_publishing_and_rolling_back_under_load_fail_no_request(shop: Shop) -> None:
    with shop.asked() as callers:
        for there in ("g-000002", "g-000001", "g-000002"):
            shop.point(there)
            assert shop.served() == there
            time.sleep(0.3)
    found = answers_by_generation(callers)
    assert found.keys() == {"g-000001", "g-000002"}
    assert [len(answers) for answers in found.values()] == [2, 2], "one answer to each question"
    assert found["g-000001"] != found["g-000002"]
    assert shop.follower.counts.num_switched == 3


def corrupt_index(folder: Path) -> None:
    vectors = folder / "index" / VECTORS
    content = bytearray(vectors.read_bytes())
    content[len(content) // 2] ^= 0xFF
    vectors.write_bytes(content)


def corrupt_signed_index(folder: Path) -> None:
    corrupt_index(folder)
    sign(folder, f"index/{VECTORS}")


def torn_adapter(folder: Path) -> None:
    weights = folder / "adapter" / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:1000])


def adapter_of_another(folder: Path) -> None:
    weights = folder / "adapter" / WEIGHTS
    shutil.copy(folder.parent / "g-000001" / "adapter" / WEIGHTS, weights)
    sign(folder, f"adapter/{WEIGHTS}")


def missing_llm(folder: Path) -> None:
    shutil.rmtree(folder / "llm")


def wrong_probes(folder: Path) -> None:
    facts = json.loads((folder / PROBES).read_text())
    facts["probes"][1]["answer"][0]["score"] += 1
    (folder / PROBES).write_text(json.dumps(facts))
    sign(folder, PROBES)


def torn_manifest(folder: Path) -> None:
    manifest = folder / MANIFEST
    manifest.write_text(manifest.read_text()[:200])


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (corrupt_index, f"{VECTORS} is not what was published"),
        (corrupt_signed_index, f"{VECTORS}"),
        (torn_adapter, f"{WEIGHTS} is not what was published"),
        (adapter_of_another, "its tokens were made by another adapter"),
        (missing_llm, "is missing"),
        (wrong_probes, "does not answer as it did when it was published"),
        (torn_manifest, "generation.json is damaged"),
    ],
)
def test_what_is_broken_is_refused_under_load_and_the_old_one_goes_on(
    damage: Callable[[Path], None], told: str, shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    damage(shop.copy_of("g-000002", "g-000003"))
    with shop.asked() as callers:
        shop.point("g-000003")
        assert shop.served() == "g-000001"
        time.sleep(0.1)
    assert answers_by_generation(callers).keys() == {"g-000001"}
    (record,) = [one for one in caplog.records if one.name.endswith("following")]
    assert told in record.getMessage()
    assert (shop.health("generation"), shop.health("")) == ("NOT_SERVING", "SERVING")
    shop.point("g-000002")
    assert (shop.served(), shop.health("generation")) == ("g-000002", "SERVING")


def test_the_memory_of_a_former_generation_is_freed(shop: Shop) -> None:
    with shop.asked():
        for there in ("g-000002", "g-000001", "g-000002"):
            shop.point(there)
    alive = [one() for one in shop.loaded]
    assert [one is not None for one in alive] == [False, False, False, True]


def test_histories_that_were_read_outlast_a_switch(shop: Shop) -> None:
    with grpc.insecure_channel(shop.server.address) as channel:
        pb_grpc.RankerServiceStub(channel).Rerank(QUESTIONS[0], timeout=PATIENCE_S)
    held = shop.reader.num_bytes
    assert held > 0
    shop.point("g-000002")
    assert shop.reader.num_bytes == held
