"""A small world whose right answers are known: four items, three users, one text space."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest

from embedders.items import EPOCH, Item, Modality
from embedders.vectors import Embeddings, Space
from feature_repo import repo_config
from feature_repo.base import Entity
from feature_repo.store import Store

if TYPE_CHECKING:
    from tests.feature_repo.servers import PostgresServer, RedisServer

Event = tuple[str, str, datetime]

DAY = timedelta(days=1)
START = datetime(2020, 1, 1, tzinfo=UTC)
ITEMS = [
    Item(item_id="item-0", title="Bread", attributes={"crust": "dark"}),
    Item(item_id="item-1", title="Cheese", description="Ripe", category="dairy"),
    Item(item_id="item-2", title="Wine", created_at=START),
    Item(item_id="item-3", title="Æbleskiver"),
]
EVENTS: list[Event] = [
    ("ann", "item-0", START),
    ("ann", "item-1", START + 1 * DAY),
    ("ann", "item-2", START + 2 * DAY),
    ("bob", "item-3", START + 1 * DAY),
]


PROFILES = {
    "redis": repo_config.EMBEDDED.with_name("production.yaml"),
    "postgres": repo_config.EMBEDDED.with_name("production_postgres.yaml"),
}


@pytest.fixture(scope="session")
def start() -> datetime:
    return START


@pytest.fixture(scope="session")
def space() -> Space:
    return Space(modality=Modality.TEXT, encoder="toy", revision="1", dim=3)


@pytest.fixture(scope="session")
def interactions_of() -> Callable[[Sequence[Event]], pa.Table]:
    """Events as the catalog's reader gives them."""

    def make(events: Sequence[Event]) -> pa.Table:
        users, items, times = zip(*events, strict=True)
        return pa.table(
            {
                "user_id": pa.array(users, pa.string()),
                "item_id": pa.array(items, pa.string()),
                "behavior": pa.array(["view"] * len(events), pa.string()),
                "weight": pa.array([None] * len(events), pa.float64()),
                "timestamp": pa.array(times, pa.timestamp("us", tz="UTC")),
                "position": pa.nulls(len(events), pa.int64()),
                "split": pa.nulls(len(events), pa.string()),
            }
        )

    return make


@pytest.fixture(scope="session")
def write_axes(space: Space) -> Callable[..., int]:
    """Writes unit vectors along the given axes, so that a vector tells which write it is of."""

    def write(
        store: Store,
        axes: dict[str, int],
        *,
        at: datetime = EPOCH,
        entity: Entity = Entity.ITEM,
    ) -> int:
        vectors_ND = np.eye(space.dim, dtype=np.float32)[list(axes.values())]
        embeddings = Embeddings(space=space, item_ids=list(axes), vectors_ND=vectors_ND)
        return store.write(
            embeddings,
            content_hashes=[f"hash-{axis}" for axis in axes.values()],
            event_timestamps=[at] * len(axes),
            entity=entity,
        )

    return write


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture(params=sorted(PROFILES))
def production(
    request: pytest.FixtureRequest,
    redis: "RedisServer",
    postgres: "PostgresServer",
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    imported_feast: None,
) -> Iterator[Store]:
    """An empty store on each of the profiles; registry, Redis and PostgreSQL are empty too."""
    postgres.recreate()
    with redis.client() as client:
        client.flushall()
    for name, value in {**redis.environment, **postgres.environment}.items():
        monkeypatch.setenv(name, value)
    store = Store(tmp_path / "store", profile=PROFILES[request.param])
    yield store
    store.close()


@pytest.fixture(scope="session")
def served(
    tmp_path_factory: pytest.TempPathFactory,
    write_axes: Callable[..., int],
    interactions_of: Callable[[Sequence[Event]], pa.Table],
) -> Store:
    """The whole world, applied and materialized once; tests only read it."""
    store = Store(tmp_path_factory.mktemp("served"))
    write_axes(store, {"item-0": 0, "item-1": 1, "item-2": 2})
    write_axes(store, {"ann": 1}, entity=Entity.USER)
    store.write_profiles(ITEMS)
    store.write_history(interactions_of(EVENTS))
    store.apply()
    store.materialize(START + 100 * DAY)
    return store
