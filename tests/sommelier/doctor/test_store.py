"""An online store that lags behind, lost rows or is gone, and parts that nobody needs."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from embedders.items import EPOCH
from feature_repo import repo_config
from sommelier.settings_file import load
from sommelier.workspace import Workspace
from tests.feature_repo.servers import RedisServer
from tests.feature_repo.texts import SUMMARY, write_texts
from tests.sommelier.conftest import Run
from tests.sommelier.doctor.test_catalog import items_of, write_items
from tests.sommelier.doctor.test_encoders import pictures, space_of, store_of
from tests.sommelier.doctoring import assert_mended, examined


@pytest.fixture
def copy_of_stored(copy_of_stored: Path, run: Run) -> Path:
    """Online at its own place: to a store that was moved its online rows are those of another."""
    assert run("materialize", "--settings", copy_of_stored).exit_code == 0
    return copy_of_stored


def view_of(settings: Path, modality: str) -> str:
    return f"item_{space_of(store_of(settings), modality).space_id}"


def change_online(settings: Path, sql: str) -> None:
    with closing(sqlite3.connect(settings.parent / "store/online.db")) as online, online:
        online.execute(sql)


def test_what_is_kept_is_online(run: Run, stored: Path) -> None:
    found = examined(run, stored)
    view = f"view {view_of(stored, 'text')}"
    assert found[view]["counts"]["looked up"] == 60
    views = [one for what, one in found.items() if what.startswith("view ")]
    assert len(views) == 4
    assert {one["verdict"] for one in views} == {"good"}
    assert found["parts"]["counts"]["tombstones"] == 0
    assert found["spaces"]["verdict"] == "good"


def test_rows_that_wait_for_a_materialization_are_counted(run: Run, copy_of_stored: Path) -> None:
    Image.new("RGB", (64, 64), "teal").save(pictures(copy_of_stored)[0])
    assert run("embed", "--settings", copy_of_stored).exit_code == 0
    view = f"view {view_of(copy_of_stored, 'image')}"
    found = assert_mended(run, copy_of_stored, view, repair="sommelier materialize")
    assert found["counts"]["not yet online"] == 1


def test_rows_that_the_online_store_lost_are_counted(run: Run, copy_of_stored: Path) -> None:
    view = view_of(copy_of_stored, "text")
    change_online(copy_of_stored, f'DELETE FROM "sommelier_{view}" WHERE rowid % 3 = 0')
    repair = "sommelier materialize --full"
    found = assert_mended(run, copy_of_stored, f"view {view}", repair=repair)
    assert found["counts"]["missing online"] == 20


def test_rows_that_somebody_changed_online_are_counted(run: Run, copy_of_stored: Path) -> None:
    view = view_of(copy_of_stored, "text")
    one = f'SELECT value FROM "sommelier_{view}" LIMIT 1'
    change_online(copy_of_stored, f'UPDATE "sommelier_{view}" SET value = ({one})')
    repair = "sommelier materialize --full"
    found = assert_mended(run, copy_of_stored, f"view {view}", repair=repair)
    assert found["counts"]["other than kept"] == 59


def test_items_that_are_gone_and_still_answer_are_counted(run: Run, copy_of_stored: Path) -> None:
    view = view_of(copy_of_stored, "text")
    change_online(copy_of_stored, f'CREATE TABLE before AS SELECT * FROM "sommelier_{view}"')
    write_items(copy_of_stored, items_of(copy_of_stored)[2:])
    for stage in ("embed", "materialize"):
        assert run(stage, "--settings", copy_of_stored).exit_code == 0
    change_online(copy_of_stored, f'REPLACE INTO "sommelier_{view}" SELECT * FROM before')
    repair = "sommelier materialize --full"
    found = assert_mended(run, copy_of_stored, f"view {view}", repair=repair)
    assert found["counts"]["taken away but still answering"] == 2


def test_a_lost_online_store_is_one_finding(run: Run, copy_of_stored: Path) -> None:
    (copy_of_stored.parent / "store/online.db").unlink()
    found = examined(run, copy_of_stored)["online store"]
    assert (found["verdict"], found["repair"]) == ("fault", "sommelier materialize --full")
    assert run("materialize", "--full", "--settings", copy_of_stored).exit_code == 0
    after = examined(run, copy_of_stored)
    assert "online store" not in after
    assert after[f"view {view_of(copy_of_stored, 'text')}"]["verdict"] == "good"


@pytest.mark.slow
def test_a_server_that_is_down_is_a_finding_and_one_that_comes_back_empty_another(
    run: Run, copy_of_stored: Path, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = repo_config.EMBEDDED.read_text().replace(
        "type: sqlite\n  path: data/online.db", "type: redis\n  connection_string: '${REDIS}'"
    )
    (copy_of_stored.parent / "redis.yaml").write_text(profile)
    settings = copy_of_stored.read_text()
    copy_of_stored.write_text(f'[store]\nprofile = "redis.yaml"\n{settings}')
    for name, value in redis.environment.items():
        monkeypatch.setenv(name, value)
    with redis.client() as client:
        client.flushall()
    assert run("materialize", "--settings", copy_of_stored).exit_code == 0
    assert "online store" not in examined(run, copy_of_stored)
    redis.stop()
    try:
        found = examined(run, copy_of_stored)
    finally:
        redis.start()
    assert found["online store"]["repair"] == "sommelier materialize --full"
    assert found["image vectors"]["verdict"] == "good"

    emptied = examined(run, copy_of_stored)
    views = [one for what, one in emptied.items() if what.startswith("view ")]
    assert len(views) == 4
    for view in views:
        assert view["counts"]["missing online"] == view["counts"]["looked up"] > 0
        assert (view["verdict"], view["repair"]) == ("fault", "sommelier materialize --full")
    refused = run("materialize", "--settings", copy_of_stored)
    assert refused.exit_code != 0
    assert "sommelier materialize --full" in refused.stderr
    assert run("materialize", "--full", "--settings", copy_of_stored).exit_code == 0
    after = examined(run, copy_of_stored)
    assert after[f"view {view_of(copy_of_stored, 'text')}"]["verdict"] == "good"


def test_a_damaged_part_is_named(run: Run, copy_of_stored: Path) -> None:
    folder = copy_of_stored.parent / "store/parts" / view_of(copy_of_stored, "image")
    (part,) = (one for one in folder.glob("*.parquet") if "empty" not in one.name)
    part.write_bytes(part.read_bytes()[:100])
    found = examined(run, copy_of_stored)
    assert part.name in found["image vectors"]["seen"]
    assert "delete it and run sommelier embed" in found["image vectors"]["repair"]
    part.unlink()
    assert run("embed", "--settings", copy_of_stored).exit_code == 0
    assert examined(run, copy_of_stored)["image vectors"]["verdict"] == "good"


def test_many_small_parts_are_worth_merging(run: Run, copy_of_stored: Path) -> None:
    store, view = store_of(copy_of_stored), view_of(copy_of_stored, "text")
    rows = store.read(space_of(store, "text"))
    hashes = store.content_hashes(rows.space)
    for _ in range(70):
        store.write(
            rows,
            content_hashes=[hashes[one] for one in rows.item_ids],
            event_timestamps=[EPOCH] * len(rows),
        )
    repair = "sommelier compact"
    found = examined(run, copy_of_stored)[f"parts of {view}"]
    assert (found["verdict"], found["repair"]) == ("advice", repair)
    assert found["counts"]["small parts"] == 71
    assert run("compact", "--settings", copy_of_stored).exit_code == 0
    assert f"parts of {view}" not in examined(run, copy_of_stored)


def test_a_space_that_nothing_reads_is_worth_dropping(run: Run, copy_of_stored: Path) -> None:
    before = space_of(store_of(copy_of_stored), "text").space_id
    settings = copy_of_stored.read_text()
    copy_of_stored.write_text(settings.replace('name = "toy"', 'name = "toy"\nrevision = "2"'))
    for stage in ("embed", "materialize"):
        assert run(stage, "--settings", copy_of_stored).exit_code == 0
    repair = "sommelier compact --drop-unused"
    found = assert_mended(run, copy_of_stored, "spaces", repair=repair, verdict="advice")
    assert before in found["seen"]


def test_texts_of_the_last_summarizing_are_looked_up_online_and_others_are_not(
    run: Run, copy_of_stored: Path
) -> None:
    workspace = Workspace(load(copy_of_stored))
    workspace.note_source(SUMMARY)
    write_texts(workspace.store, replace(SUMMARY, revision="older"), {"box": "Once."})
    write_texts(workspace.store, SUMMARY, {"box": "One.", "can": "Two."})
    view = f"view item_{SUMMARY.source_id}"
    assert_mended(run, copy_of_stored, view, repair="sommelier materialize")
    views = [one for one in examined(run, copy_of_stored) if one.startswith("view item_summary_")]
    assert views == [view]


def test_a_view_that_was_never_applied_is_materialized(run: Run, copy_of_stored: Path) -> None:
    before = set(store_of(copy_of_stored).spaces())
    settings = copy_of_stored.read_text()
    copy_of_stored.write_text(settings.replace('name = "toy"', 'name = "toy"\nrevision = "2"'))
    assert run("embed", "--settings", copy_of_stored).exit_code == 0
    ((_, new),) = set(store_of(copy_of_stored).spaces()) - before
    assert_mended(run, copy_of_stored, f"view item_{new}", repair="sommelier materialize")
