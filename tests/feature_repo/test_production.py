"""The profiles of several machines, on a real Redis and a real PostgreSQL."""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from embedders.items import EPOCH, Item, Modality
from embedders.vectors import Embeddings, Space, normalize
from feature_repo.base import StoreError
from feature_repo.reader import OnlineReader
from feature_repo.store import Store
from tests.feature_repo.servers import PostgresServer, RedisServer

DAY = timedelta(days=1)
Event = tuple[str, str, datetime]
InteractionsOf = Callable[[Sequence[Event]], pa.Table]
WriteAxes = Callable[..., int]


def axes(store: Store, space: Space, ids: list[str]) -> list[int | None]:
    """The axis of each online vector; None for an absent one."""
    vectors_ND, is_present_N = OnlineReader(store).vectors(space, ids)
    which = vectors_ND.argmax(axis=1).tolist()
    return [axis if present else None for axis, present in zip(which, is_present_N, strict=True)]


def is_on_redis(store: Store) -> bool:
    return "online_store:\n  type: redis" in store._profile.read_text()  # type: ignore[union-attr]


def test_what_was_written_is_served(
    production: Store, space: Space, write_axes: WriteAxes, interactions_of: InteractionsOf
) -> None:
    items = [Item(item_id="a", title="Æbleskiver", attributes={"crust": "dark"})]
    write_axes(production, {"a": 0, "b": 2})
    production.write_profiles(items)
    production.write_history(interactions_of([("u", "a", EPOCH), ("u", "b", EPOCH + DAY)]))
    production.apply()
    counts = production.materialize(EPOCH + DAY)
    assert counts == {f"item_{space.space_id}": 2, "item_profile": 1, "user_history": 1}
    assert set(production.materialize(EPOCH + DAY).values()) == {0}

    reader = OnlineReader(production)
    vectors_ND, is_present_N = reader.vectors(space, ["b", "nothing", "a"])
    assert vectors_ND.tolist() == [[0, 0, 1], [0, 0, 0], [1, 0, 0]]
    assert is_present_N.tolist() == [True, False, True]
    assert [event.item_id for event in reader.history("u") or ()] == ["a", "b"]
    assert reader.history("nobody") is None
    profile, nothing = reader.profiles(["a", "nothing"])
    assert profile == production.profiles()["a"]
    assert nothing is None


def test_histories_are_joined_as_of_a_moment(
    production: Store, interactions_of: InteractionsOf
) -> None:
    production.write_history(interactions_of([("u", "a", EPOCH), ("u", "b", EPOCH + DAY)]))
    production.apply()
    (history,) = production.histories([("u", EPOCH + DAY)])
    assert [event.item_id for event in history] == ["a"]


def test_content_embedded_again_under_the_same_moment_replaces_the_row(
    production: Store, space: Space, write_axes: WriteAxes
) -> None:
    write_axes(production, {"a": 0}, at=EPOCH + DAY)
    production.apply()
    production.materialize(EPOCH + DAY)
    write_axes(production, {"a": 1}, at=EPOCH + DAY)
    production.materialize(EPOCH + DAY)
    assert axes(production, space, ["a"]) == [1]


def test_a_row_of_a_later_time_online_does_not_outlive_a_full_run(
    production: Store, space: Space, write_axes: WriteAxes
) -> None:
    """Such as one that another program put there."""
    write_axes(production, {"a": 0}, at=EPOCH + DAY)
    production.apply()
    production.materialize(EPOCH + DAY)
    view = f"item_{space.space_id}"
    foreign = pa.table(
        {
            "item_id": ["a"],
            "event_timestamp": pa.array([EPOCH + 9 * DAY], pa.timestamp("us", tz="UTC")),
            "created": pa.array([EPOCH + 9 * DAY], pa.timestamp("us", tz="UTC")),
            "vector": pa.array([[0, 1, 0]], pa.list_(pa.float32())),
        }
    )
    production.feature_store.write_online(view, foreign)
    with pytest.raises(StoreError, match="1 rows looked at, 0 are missing online and 1 hold"):
        production.materialize(EPOCH + DAY)
    production.materialize(EPOCH + DAY, is_full=True)
    assert axes(production, space, ["a"]) == [0]


def test_events_within_one_second_are_all_served(
    production: Store, interactions_of: InteractionsOf
) -> None:
    log = [("u", "a", EPOCH + timedelta(microseconds=1))]
    production.write_history(interactions_of(log))
    production.apply()
    production.materialize(EPOCH + DAY)
    log += [("u", "b", EPOCH + timedelta(microseconds=2))]
    production.write_history(interactions_of(log))
    production.materialize(EPOCH + DAY)
    history = OnlineReader(production).history("u")
    assert [event.item_id for event in history or ()] == ["a", "b"]


def test_what_was_deleted_is_absent(production: Store, space: Space, write_axes: WriteAxes) -> None:
    write_axes(production, {"a": 0, "b": 1})
    production.write_profiles([Item(item_id="a", title="A"), Item(item_id="b", title="B")])
    production.apply()
    production.materialize(EPOCH + DAY)
    production.delete(["a"], at=EPOCH + DAY)
    counts = production.materialize(EPOCH + DAY)
    assert counts[f"item_{space.space_id}"] == counts["item_profile"] == 1
    assert axes(production, space, ["a", "b"]) == [None, 1]
    gone, kept = OnlineReader(production).profiles(["a", "b"])
    assert gone is None
    assert kept is not None
    assert production.materialize(EPOCH + DAY, is_full=True)["item_profile"] == 2


def test_pushed_events_are_online_at_once_and_stay(
    production: Store, interactions_of: InteractionsOf
) -> None:
    now = datetime.now(UTC)
    production.write_history(interactions_of([("u", "a", EPOCH)]))
    production.apply()
    production.materialize(now - DAY)
    production.push_events(interactions_of([("u", "b", now)]))
    for _ in range(2):
        history = OnlineReader(production).history("u")
        assert [event.item_id for event in history or ()] == ["a", "b"]
        production.materialize(now - DAY)  # begun before the push, as it were


def test_feasts_own_push_is_online_too(production: Store, interactions_of: InteractionsOf) -> None:
    import pandas as pd
    from feast.data_source import PushMode

    production.write_history(interactions_of([("u", "a", EPOCH)]))
    production.apply()
    production.materialize(EPOCH)
    row = pd.DataFrame(
        {
            "user_id": ["u"],
            "event_timestamp": pd.to_datetime([EPOCH + DAY], utc=True),
            "created": pd.to_datetime([EPOCH + DAY], utc=True),
            "item_ids": [["a", "b"]],
            "behaviors": [["view", "view"]],
            "times": [[0, 86_400_000_000]],
            "weights": [np.array([np.nan, 1.0], dtype=np.float32)],
        }
    )
    feast_itself: Any = production.feature_store._feast  # type: ignore[attr-defined]
    feast_itself.push("user_history_push", row, to=PushMode.ONLINE)
    history = OnlineReader(production).history("u")
    assert [(event.item_id, event.weight) for event in history or ()] == [("a", None), ("b", 1.0)]


def test_a_lost_connection_is_opened_again(
    production: Store,
    redis: RedisServer,
    postgres: PostgresServer,
    space: Space,
    write_axes: WriteAxes,
) -> None:
    write_axes(production, {"a": 0, "b": 1})
    production.apply()
    production.materialize(EPOCH)
    reader = OnlineReader(production)
    assert reader.vectors(space, ["a"])[1].all()
    with redis.client() as client:
        client.client_kill_filter(_type="normal", skipme=True)
    postgres.stop()
    postgres.start()
    reader.clear()
    assert reader.vectors(space, ["a", "b"])[1].all()
    assert production.materialize(EPOCH)[f"item_{space.space_id}"] == 0


@pytest.mark.slow
def test_a_server_that_is_down_is_named_and_back_again_it_serves(
    production: Store,
    redis: RedisServer,
    postgres: PostgresServer,
    space: Space,
    write_axes: WriteAxes,
) -> None:
    write_axes(production, {"a": 0})
    production.apply()
    production.materialize(EPOCH)
    reader = OnlineReader(production)
    server = redis if is_on_redis(production) else postgres
    server.stop()
    with pytest.raises(StoreError, match=r"online store \((redis|postgres)\) failed"):
        reader.vectors(space, ["a"])
    server.start()
    if server is redis:  # it kept nothing
        assert not reader.vectors(space, ["a"])[1].any()
        with pytest.raises(StoreError, match="1 rows looked at, 1 are missing online"):
            production.materialize(EPOCH)
        production.materialize(EPOCH, is_full=True)
    reader.clear()
    assert reader.vectors(space, ["a"])[1].all()


def test_dropped_views_leave_the_rows_of_others_alone(
    production: Store, space: Space, write_axes: WriteAxes
) -> None:
    other = Space(modality=Modality.TEXT, encoder="other", revision="1", dim=3)
    vectors_ND = np.eye(3, dtype=np.float32)
    production.write(
        Embeddings(space=other, item_ids=["a", "b", "c"], vectors_ND=vectors_ND),
        content_hashes=["1", "2", "3"],
        event_timestamps=[EPOCH] * 3,
    )
    write_axes(production, {"a": 0, "b": 1})
    production.write_profiles([Item(item_id="a", title="A")])
    production.apply(releases={"g-1": [other], "g-2": [space]})
    production.materialize(EPOCH)
    stored = json.loads((production.root / "spaces.json").read_text())
    del stored["item"][other.space_id]
    (production.root / "spaces.json").write_text(json.dumps(stored))
    names = production.apply(releases={"g-2": [space]})
    assert f"item_{other.space_id}" not in names
    assert axes(production, space, ["a", "b"]) == [0, 1]
    assert OnlineReader(production).profiles(["a"])[0] is not None
    with pytest.raises(StoreError, match="is not defined"):
        production.feature_store.read_online(f"item_{other.space_id}", ["a"])
    assert production.materialize(EPOCH)[f"item_{space.space_id}"] == 0


def test_rows_that_a_full_redis_evicts_are_missed(
    production: Store, redis: RedisServer, space: Space
) -> None:
    if not is_on_redis(production):
        return
    wide = Space(modality=Modality.IMAGE, encoder="wide", revision="1", dim=256)
    vectors_ND = normalize(np.random.default_rng(0).normal(size=(4_000, 256)))
    production.write(
        Embeddings(space=wide, item_ids=[f"{n:05}" for n in range(4_000)], vectors_ND=vectors_ND),
        content_hashes=["1"] * 4_000,
        event_timestamps=[EPOCH] * 4_000,
    )
    production.apply()
    with redis.client() as client:
        room = client.info("memory")["used_memory"] + 4_000_000
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.config_set("maxmemory", room)
        try:
            with pytest.raises(StoreError, match=r"are missing online|are online: has the online"):
                production.materialize(EPOCH)
        finally:
            client.config_set("maxmemory", 0)
    assert production.materialize(EPOCH)[f"item_{wide.space_id}"] == 4_000
