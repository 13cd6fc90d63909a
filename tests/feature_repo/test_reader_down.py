"""Histories while a real Redis is stopped, and after it is back."""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from embedders.items import EPOCH
from feature_repo import outage, repo_config
from feature_repo.base import Entity, Unreachable
from feature_repo.reader import OnlineReader
from feature_repo.store import Store
from tests.feature_repo.servers import RedisServer
from tests.feature_repo.texts import PREFERENCE, SUMMARY, write_texts

Event = tuple[str, str, datetime]
DAY = timedelta(days=1)


@pytest.fixture
def on_redis(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, imported_feast: None
) -> Iterator[Store]:
    """An empty store whose online rows are in Redis; while it is down it is asked often."""
    profile = tmp_path / "feature_store.yaml"
    embedded = repo_config.EMBEDDED.read_text()
    sqlite = "type: sqlite\n  path: data/online.db"
    assert sqlite in embedded
    profile.write_text(embedded.replace(sqlite, "type: redis\n  connection_string: ${REDIS}"))
    with redis.client() as client:
        client.flushall()
    monkeypatch.setenv("REDIS", redis.environment["REDIS"])
    monkeypatch.setattr(outage, "ASK_AGAIN_S", 0.05)
    store = Store(tmp_path / "store", profile=profile)
    yield store
    if not redis.is_running:
        redis.start()
    store.close()


@pytest.fixture
def fill(
    on_redis: Store, interactions_of: Callable[[Sequence[Event]], pa.Table], start: datetime
) -> Callable[..., None]:
    """Brings these users' events online, each of one more item than the last time."""

    def fill(*users: str, count: int) -> None:
        events = [(user, f"item-{n}", start + n * DAY) for user in users for n in range(count)]
        on_redis.write_history(interactions_of(events))
        on_redis.apply()
        on_redis.materialize(start + 100 * DAY, is_full=True)

    return fill


def items(reader: OnlineReader, user: str) -> int:
    """How many events are read of a user who is known."""
    history = reader.history(user)
    assert history is not None
    return len(history)


def soon(reader: OnlineReader, *, is_degraded: bool) -> None:
    """Asks until the reader has noticed."""
    give_up = time.monotonic() + 120
    while reader.is_degraded != is_degraded:
        assert time.monotonic() < give_up, "it was never noticed"
        reader.history("ann")
        time.sleep(0.02)


def test_known_histories_are_served_from_the_cache_until_redis_is_back(
    on_redis: Store, redis: RedisServer, fill: Callable[..., None]
) -> None:
    fill("ann", "bob", count=1)
    reader = OnlineReader(on_redis, history_age_s=0, stale_history_s=3600)
    assert [items(reader, "ann"), reader.history("nobody"), reader.is_degraded] == [1, None, False]
    redis.stop()
    assert items(reader, "ann") == 1
    assert reader.history("nobody") is None, "absence is held, too"
    assert reader.is_degraded
    with pytest.raises(Unreachable, match=r"no history of 'bob' is held .* within 3600 s"):
        reader.history("bob")
    redis.start()
    fill("ann", "bob", count=2)
    soon(reader, is_degraded=False)
    assert [items(reader, "ann"), items(reader, "bob")] == [2, 2]


def test_what_is_too_old_is_refused_rather_than_served(
    on_redis: Store, redis: RedisServer, fill: Callable[..., None]
) -> None:
    fill("ann", count=1)
    readers = [OnlineReader(on_redis, history_age_s=0, stale_history_s=age) for age in (0.3, 3600)]
    assert [items(reader, "ann") for reader in readers] == [1, 1]
    redis.stop()
    time.sleep(0.4)
    with pytest.raises(Unreachable, match=r"'ann' is held that was read within 0\.3 s") as refused:
        readers[0].history("ann")
    assert isinstance(refused.value.__cause__, Unreachable), "it says what failed"
    assert items(readers[1], "ann") == 1


def test_another_generation_reads_histories_anew_and_keeps_them_for_an_outage(
    on_redis: Store, redis: RedisServer, fill: Callable[..., None]
) -> None:
    fill("ann", count=1)
    reader = OnlineReader(on_redis, history_age_s=3600, stale_history_s=3600)
    assert items(reader, "ann") == 1
    fill("ann", count=2)
    assert items(reader, "ann") == 1
    assert reader.refresh("g-2")
    assert items(reader, "ann") == 2
    reader.clear()
    redis.stop()
    assert items(reader, "ann") == 2
    assert reader.is_degraded


def test_a_user_who_is_forgotten_is_not_served_from_the_cache(
    on_redis: Store, redis: RedisServer, fill: Callable[..., None]
) -> None:
    fill("ann", count=1)
    reader = OnlineReader(on_redis, history_age_s=0, stale_history_s=3600)
    assert items(reader, "ann") == 1
    reader.forget(["ann"], entity=Entity.USER)
    redis.stop()
    with pytest.raises(Unreachable):
        reader.history("ann")


def test_preferences_live_through_an_outage_as_histories_do(
    on_redis: Store, redis: RedisServer
) -> None:
    write_texts(on_redis, PREFERENCE, {"ann": "Bread.", "bob": "Wine."})
    write_texts(on_redis, SUMMARY, {"item-0": "A loaf."})
    on_redis.apply()
    on_redis.materialize(EPOCH)
    reader = OnlineReader(on_redis, history_age_s=0, stale_history_s=3600)
    expected = ["Bread.", None]
    assert reader.texts(PREFERENCE, ["ann", "nobody"]) == expected
    assert reader.texts(SUMMARY, ["item-0"]) == ["A loaf."]
    redis.stop()
    assert reader.texts(PREFERENCE, ["ann", "nobody"]) == expected
    assert reader.is_degraded
    with pytest.raises(Unreachable, match=r"no preference of 'bob' is held .* within 3600 s"):
        reader.texts(PREFERENCE, ["ann", "bob"])
    assert reader.texts(SUMMARY, ["item-0"]) == ["A loaf."], "held until another generation"
    redis.start()
    on_redis.materialize(EPOCH, is_full=True)
    give_up = time.monotonic() + 120
    while reader.is_degraded:
        assert time.monotonic() < give_up, "it was never noticed"
        reader.texts(PREFERENCE, ["ann"])
        time.sleep(0.02)
    assert reader.texts(PREFERENCE, ["ann", "bob"]) == ["Bread.", "Wine."]


def test_a_redis_that_hangs_keeps_one_caller_waiting_for_a_moment_and_then_no_other(
    on_redis: Store, redis: RedisServer, fill: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill("ann", count=1)
    reader = OnlineReader(on_redis, history_age_s=0, stale_history_s=3600)
    assert items(reader, "ann") == 1
    redis.signal(signal.SIGSTOP)
    asking, let_go = threading.Event(), threading.Event()

    def hang(*_: object) -> None:
        asking.set()
        let_go.wait(60)
        raise Unreachable("it hung")

    try:
        assert items(reader, "ann") == 1
        assert reader.is_degraded

        monkeypatch.setattr(on_redis.feature_store, "read_online", hang)
        while not asking.is_set():  # the store is asked again, and that by none of these
            assert items(reader, "ann") == 1
            with pytest.raises(Unreachable):
                reader.history("bob")
    finally:
        let_go.set()
        redis.signal(signal.SIGCONT)
