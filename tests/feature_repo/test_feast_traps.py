# ruff: noqa: E501  # a table of long names
"""What Feast does that nobody expects: a test for each, which fails where we fall into it.

| trap | caught by |
|---|---|
| 1 DuckDB 2 breaks ibis and Feast | `test_duckdb_is_one_that_feast_can_use` |
| 2 Feast's own append rewrites the file and loses rows under two writers | `test_parts.py`: `test_two_processes_appending_at_once_lose_nothing` |
| 3 a second import of the definitions conflicts | `test_definitions.py`: `test_feast_imports_the_definitions_alone` |
| 4 Feast collects attributes, no lists | `test_definitions.py`: `test_feast_serves_a_store_from_the_clone` |
| 5 relative sources are accepted and then not found | `test_materializing_works_from_another_folder` |
| 6 nanosecond timestamps | `test_timestamps_are_microseconds_in_utc` |
| 7 a swapped model of equal dimension is invisible | `test_two_models_of_one_dimension_never_share_a_view` |
| 8 a wrong length is accepted, and breaks later runs | `test_store.py`: `test_vectors_of_a_wrong_length_never_reach_the_parts` |
| 9 SQLite lets an older backfill win | `test_materialize.py`: `test_a_backfill_does_not_replace_newer_content` |
| 9 Redis passes over rows that are not later | `test_production.py`: `test_content_embedded_again_under_the_same_moment_replaces_the_row` |
| 9 deleted items stay online | `test_production.py`: `test_what_was_deleted_is_absent` |
| 10 readers fail while a registry in a file is written | `test_readers_go_on_while_a_store_is_applied` |
| 11 by default a materialization holds every row of history | `test_every_profile_pulls_latest_rows_in_batches` |
| 12 an engine that wrote nothing reports success | `test_production.py`: `test_rows_that_a_full_redis_evicts_are_missed` |
| 13 importing Feast takes seconds and resets warning filters | `test_registry.py` |
| 14 historical answers come in any order, ints as floats | `test_answers_belong_to_their_pairs_whatever_their_order` |
| 15 Feast's FAISS store trains on random numbers | `test_every_profile_pulls_latest_rows_in_batches` |
| 16 `feast serve` is slow, and its metrics listen everywhere | `test_nothing_of_ours_runs_feast_serve` |
| 17 an unset variable opens a database of that name | `test_repo_config.py`: `test_a_variable_that_is_not_set_is_refused` |
| stock incremental runs pass over new rows of an old time | `test_materialize.py`: `test_a_new_row_of_an_old_time_is_not_passed_over` |
| Redis answers for unknown ids with rows of nulls | `test_production.py`: `test_what_was_written_is_served` |
| PostgreSQL reads fail unless features are named | `test_production.py`: `test_what_was_written_is_served` |
| a dead connection to PostgreSQL is kept for ever | `test_production.py`: `test_a_lost_connection_is_opened_again` |
| a registry shared by two folders: one takes away the other's views | `test_an_empty_folder_takes_no_views_away` |
| `feast apply` deletes services that the definitions do not name | `test_definitions.py`: `test_feasts_own_apply_keeps_the_releases` |
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from embedders.items import EPOCH
from embedders.vectors import Space
from feature_repo import repo_config
from feature_repo.base import Entity, StoreError
from feature_repo.reader import OnlineReader
from feature_repo.store import Store
from feature_repo.tables import all_views

DAY = timedelta(days=1)
PROFILES = sorted(repo_config.EMBEDDED.parent.glob("*.yaml"))
WriteAxes = Callable[..., int]
InteractionsOf = Callable[[Sequence[tuple[str, str, datetime]]], pa.Table]


def test_duckdb_is_one_that_feast_can_use() -> None:
    assert int(duckdb.__version__.split(".")[0]) < 2


def test_materializing_works_from_another_folder(
    store: Store,
    view_of: str,
    write_axes: WriteAxes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    relative = Store(Path("store"))
    write_axes(relative, {"a": 0})
    relative.apply()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert relative.materialize(EPOCH)[view_of] == 1
    assert store.materialize(EPOCH)[view_of] == 0  # the same folder, by its absolute name


@pytest.fixture
def view_of(space: Space) -> str:
    return f"item_{space.space_id}"


def test_timestamps_are_microseconds_in_utc(served: Store) -> None:
    for view in served.views():
        for part in (served.root / "parts" / view.name).glob("*.parquet"):
            schema = pq.read_schema(part)
            for name in ("event_timestamp", "created"):
                assert schema.field(name).type == pa.timestamp("us", tz="UTC")


def test_two_models_of_one_dimension_never_share_a_view(space: Space) -> None:
    other = replace(space, revision="2")
    views = all_views({(Entity.ITEM, one.space_id): one for one in (space, other)}, {})
    assert len({view.name for view in views}) == 4


def test_readers_go_on_while_a_store_is_applied(
    store: Store, space: Space, write_axes: WriteAxes
) -> None:
    write_axes(store, {"a": 0})
    store.apply()
    store.materialize(EPOCH)
    errors: list[Exception] = []
    is_over = threading.Event()

    def read() -> None:
        while not is_over.is_set():
            try:
                assert OnlineReader(Store(store.root)).vectors(space, ["a"])[1].all()
            except Exception as error:
                errors.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(3):
        store.apply()
        store.materialize(EPOCH, is_full=True)
    is_over.set()
    reader.join()
    assert not errors


@pytest.mark.parametrize("profile", PROFILES, ids=lambda path: path.name)
def test_every_profile_pulls_latest_rows_in_batches(profile: Path) -> None:
    settings = yaml.safe_load(profile.read_text())
    assert settings["materialization"]["pull_latest_features"]
    assert 0 < settings["materialization"]["online_write_batch_size"] <= 10_000
    assert settings["online_store"]["type"] != "faiss"
    assert settings["offline_store"]["type"] == "duckdb"
    assert "batch_engine" not in settings


def test_nothing_of_ours_runs_feast_serve(repository: Path) -> None:
    ours = [*repository.glob("infra/**/*"), repository / "Makefile", repository / ".ci" / "run"]
    for path in ours:
        if path.is_file():
            assert "feast serve" not in path.read_text(errors="replace"), path


def test_answers_belong_to_their_pairs_whatever_their_order(
    store: Store, interactions_of: InteractionsOf
) -> None:
    events = [(f"u{n:03}", f"i{n:03}", EPOCH + n * DAY) for n in range(200)]
    store.write_history(interactions_of(events))
    store.apply()
    pairs = [(user, moment + DAY) for user, _, moment in reversed(events)]
    pairs += [("nobody", EPOCH), ("u000", EPOCH)]  # nulls, which turn ints into floats
    histories = store.histories(pairs)
    found = [[(one.user_id, one.item_id, one.timestamp) for one in rows] for rows in histories]
    assert found == [*([event] for event in reversed(events)), [], []]


def test_an_empty_folder_takes_no_views_away(
    store: Store, space: Space, write_axes: WriteAxes
) -> None:
    """As when the shared folder was not mounted."""
    write_axes(store, {"a": 0})
    store.apply()
    store.materialize(datetime.now(UTC))
    kept = (store.root / "spaces.json").read_text()
    (store.root / "spaces.json").unlink()
    with pytest.raises(StoreError, match="see that the right folder is mounted"):
        store.apply()
    (store.root / "spaces.json").write_text(kept)
    store.apply()
    assert OnlineReader(store).vectors(space, ["a"])[1].all()
