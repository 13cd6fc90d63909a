"""Feast's own command line, in its own process, on a copy of the folder."""

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from embedders.vectors import Space
from feature_repo import repo_config
from feature_repo.reader import OnlineReader
from feature_repo.store import Store
from tests.feature_repo.texts import SUMMARY, write_texts
from tests.ports import free_port

FOLDER = repo_config.EMBEDDED.parent


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone's root whose `feature_repo/` has no `data/` yet."""
    folder = tmp_path / "feature_repo"
    folder.mkdir()
    for path in [*FOLDER.glob("*.py"), *FOLDER.glob("*.yaml"), FOLDER / ".feastignore"]:
        shutil.copy(path, folder)
    return tmp_path


# Importing Feast takes longer than all commands together, so one process runs them in turn.
DRIVER = """
import os, sys
from feast.cli.cli import cli
for command in sys.argv[1].splitlines():
    cli(["-c", "feature_repo", *command.split()], standalone_mode=False)
    os.chdir(sys.argv[2])
"""


def feast(clone: Path, *commands: str) -> str:
    driver = [sys.executable, "-c", DRIVER, "\n".join(commands), str(clone)]
    return run(clone, driver)


def run(clone: Path, command: list[str]) -> str:
    environment = os.environ | {"PYTHONPATH": str(FOLDER.parent)}
    done = subprocess.run(
        command, cwd=clone, env=environment, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_feast_imports_the_definitions_alone(clone: Path, served: Store) -> None:
    from feast.repo_operations import get_repo_files

    (clone / "feature_repo" / "data").mkdir()
    (clone / "feature_repo" / "data" / "stray.py").write_text("raise RuntimeError\n")
    assert [path.name for path in get_repo_files(clone / "feature_repo")] == ["definitions.py"]


def test_an_empty_store_can_be_applied(clone: Path) -> None:
    run(clone, [str(Path(sys.executable).with_name("feast")), "-c", "feature_repo", "apply"])
    store = Store(clone / "feature_repo" / "data")
    assert store.materialize(datetime.now(UTC)) == {"item_profile": 0, "user_history": 0}


def test_feast_serves_a_store_from_the_clone(
    clone: Path, tmp_path: Path, space: Space, write_axes: Callable[..., int]
) -> None:
    store = Store(tmp_path / "elsewhere")
    write_axes(store, {"a": 0, "b": 1})
    write_texts(store, SUMMARY, {"a": "One."})
    (clone / "feature_repo" / "data").symlink_to(store.root)
    said = feast(
        clone, "apply", "materialize-incremental 2030-01-01T00:00:00", "feature-views list"
    )
    *_, listed = said.partition("NAME")
    names = ["item_profile", "user_history", space.space_id, SUMMARY.source_id]
    assert all(name in listed for name in names)
    reader = OnlineReader(store)
    assert reader.vectors(space, ["a", "b", "c"])[1].tolist() == [True, True, False]
    assert reader.texts(SUMMARY, ["a", "b"]) == ["One.", None]


@pytest.mark.slow
def test_feasts_own_apply_keeps_the_releases(
    clone: Path, space: Space, write_axes: Callable[..., int]
) -> None:
    store = Store(clone / "feature_repo" / "data")
    write_axes(store, {"a": 0})
    store.apply(releases={"g-000001": [space]})
    said = feast(clone, "apply", "feature-services list", "data-sources list")
    *_, listed = said.partition("NAME")
    assert all(name in listed for name in ["rerank_v1", "rerank_g-000001", "user_history_push"])
    assert store.materialize(datetime.now(UTC))[f"item_{space.space_id}"] == 1


@pytest.mark.slow
def test_feasts_user_interface_shows_the_views(
    clone: Path, tmp_path: Path, space: Space, write_axes: Callable[..., int]
) -> None:
    store = Store(clone / "feature_repo" / "data")
    write_axes(store, {"a": 0})
    store.apply(releases={"g-000001": [space]})
    port = free_port()
    command = [str(Path(sys.executable).with_name("feast")), "-c", "feature_repo", "ui"]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            cwd=clone,
            env=os.environ | {"PYTHONPATH": str(FOLDER.parent)},
            stdout=log,
            stderr=log,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        assert b"<html" in fetch(f"{address}/", server)
        views = fetch(f"{address}/api/v1/feature_views?project=sommelier", server)
        services = fetch(f"{address}/api/v1/feature_services?project=sommelier", server)
    finally:
        server.kill()  # it has nothing to lose
        server.wait()
    named = {one["spec"]["name"] for one in json.loads(views)["featureViews"]}
    assert named == {f"item_{space.space_id}", "item_profile", "user_history"}
    assert b"rerank_g-000001" in services


def fetch(address: str, server: subprocess.Popen[bytes]) -> bytes:
    """What the address answers, once the server has started."""
    deadline = time.monotonic() + 200
    while True:
        try:
            with urllib.request.urlopen(address, timeout=30) as answer:
                body: bytes = answer.read()
                return body
        except urllib.error.HTTPError:
            raise
        except OSError:
            assert server.poll() is None, "feast ui ended"
            assert time.monotonic() < deadline, "feast ui did not start"
            time.sleep(0.2)
