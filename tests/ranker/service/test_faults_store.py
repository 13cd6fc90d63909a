"""A Redis that is stopped and started while callers ask: known users are answered all the while."""

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pyarrow as pa
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from embedders.items import Interaction
from feature_repo import outage, repo_config
from feature_repo.reader import OnlineReader
from feature_repo.store import Store
from ranker.client import RankerClient, RankerError
from ranker.service.server import running
from tests.feature_repo.servers import RedisServer
from tests.ranker.fault_world import PATIENCE_S, until
from tests.ranker.serving_world import BEST_FIRST, BORN, TableServing

REFUSED = "UNAVAILABLE STORE_UNAVAILABLE, again"
USERS = ("ann", "bob")
ADDRESSED = "type: redis\n  connection_string: ${REDIS}"


class StoredServing(TableServing):
    """The table's scores, for histories of an online store."""

    def __init__(self, reader: OnlineReader) -> None:
        self._reader = reader
        super().__init__()

    @property
    def is_degraded(self) -> bool:
        return self._reader.is_degraded

    @is_degraded.setter
    def is_degraded(self, told: bool) -> None:
        """The table is never told so; the reader knows."""

    def history(self, user_id: str) -> tuple[Interaction, ...] | None:
        return self._reader.history(user_id)


@pytest.fixture
def store(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, imported_feast: None
) -> Iterator[Store]:
    """Two users' histories in a Redis that finds them again when it is started."""
    profile = tmp_path / "feature_store.yaml"
    embedded = repo_config.EMBEDDED.read_text()
    sqlite = "type: sqlite\n  path: data/online.db"
    assert sqlite in embedded
    profile.write_text(embedded.replace(sqlite, ADDRESSED))
    monkeypatch.setenv("REDIS", redis.environment["REDIS"])
    monkeypatch.setattr(outage, "ASK_AGAIN_S", 0.05)
    with redis.client() as client:
        client.flushall()
    store = Store(tmp_path / "store", profile=profile)
    store.write_history(
        pa.table(
            {
                "user_id": pa.array(USERS, pa.string()),
                "item_id": pa.array(["a", "b"], pa.string()),
                "behavior": pa.array(["view", "view"], pa.string()),
                "weight": pa.nulls(2, pa.float64()),
                "timestamp": pa.array([BORN, BORN], pa.timestamp("us", tz="UTC")),
                "position": pa.nulls(2, pa.int64()),
            }
        )
    )
    store.apply()
    store.materialize(datetime.now(UTC))
    with redis.client() as client:
        client.save()
    yield store
    if not redis.is_running:
        redis.start()
    with redis.client() as client:
        client.flushall()
        client.save()
    store.close()


def test_a_redis_that_is_stopped_and_started_under_load_fails_no_known_user(
    store: Store, redis: RedisServer
) -> None:
    """Whoever is not known yet is told why and when to come again, and nothing else."""
    told: dict[str, Counter[str]] = {user: Counter() for user in USERS}
    is_over = threading.Event()

    def ask_on(client: RankerClient, user: str) -> None:
        while not is_over.is_set():
            try:
                answer = client.rerank(BEST_FIRST[::-1], user_id=user)
            except RankerError as error:
                advice = "" if error.retry_after_s is None else ", again"
                told[user][f"{error.code} {error.reason}{advice}"] += 1
            else:
                assert [item.item_id for item in answer.items] == BEST_FIRST
                told[user]["degraded" if answer.is_degraded else "fresh"] += 1

    reader = OnlineReader(store, history_age_s=0, stale_history_s=3600)
    assert reader.history("ann")
    with (
        running(StoredServing(reader)) as server,
        RankerClient(server.address, timeout_s=PATIENCE_S) as client,
        grpc.insecure_channel(server.address) as channel,
        ThreadPoolExecutor(4) as pool,
    ):
        health = health_pb2_grpc.HealthStub(channel)

        def state(name: str) -> str:
            request = health_pb2.HealthCheckRequest(service=name)
            found = health.Check(request, timeout=PATIENCE_S).status
            return str(health_pb2.HealthCheckResponse.ServingStatus.Name(found))

        asking = [pool.submit(ask_on, client, "ann") for _ in range(3)]
        try:
            until(lambda: told["ann"]["fresh"] > 3)
            redis.stop()
            asking.append(pool.submit(ask_on, client, "bob"))
            until(lambda: told["ann"]["degraded"] > 3)
            until(lambda: told["bob"][REFUSED] > 0)
            until(lambda: state("store") == "NOT_SERVING")
            assert state("") == "SERVING"
            redis.start()
            until(lambda: told["bob"]["fresh"] > 3)
            until(lambda: state("store") == "SERVING")
            since = told["ann"]["fresh"]
            until(lambda: told["ann"]["fresh"] > since + 3)
        finally:
            is_over.set()
        for one in asking:
            one.result(PATIENCE_S)
    assert set(told["ann"]) == {"fresh", "degraded"}
    assert set(told["bob"]) <= {"fresh", "degraded", REFUSED}
