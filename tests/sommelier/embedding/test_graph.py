"""A trained graph is kept until the store holds it, and only for the events it was trained on."""

from pathlib import Path

import numpy as np
import pytest

from sommelier.embedding import graph
from sommelier.settings_file import load
from sommelier.watch import Unwatched
from sommelier.workspace import Workspace

NUM_ITEMS, NUM_USERS = 12, 9


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    rng = np.random.default_rng(0)
    (tmp_path / "catalog").mkdir()
    rows = "".join(f"i{n},Item {n}\n" for n in range(NUM_ITEMS))
    (tmp_path / "catalog/items.csv").write_text("item_id,title\n" + rows)
    rows = "".join(
        f"u{rng.integers(NUM_USERS)},i{n % NUM_ITEMS},view,"
        f"2024-01-01T00:{n // 60:02}:{n % 60:02}Z\n"
        for n in range(NUM_ITEMS * 8)
    )
    events = "user_id,item_id,behavior,timestamp\n" + rows
    (tmp_path / "catalog/interactions.csv").write_text(events)
    (tmp_path / "sommelier.toml").write_text("[graph]\ndim = 8\nepochs = 2\n")
    return Workspace(load(tmp_path / "sommelier.toml"))


def kept(workspace: Workspace) -> Path:
    return workspace.settings.paths.models / "graph.safetensors"


def test_a_graph_that_was_kept_is_the_one_that_was_trained(workspace: Workspace) -> None:
    key = graph.graph_key(workspace)
    first = graph.trained(workspace, key, watch=Unwatched())
    stamp = kept(workspace).stat().st_mtime_ns
    again = graph.trained(workspace, key, watch=Unwatched())
    assert kept(workspace).stat().st_mtime_ns == stamp, "nothing was trained"
    assert (again.space, again.until) == (first.space, workspace.timeline.graph_until)
    for before, after in ((first.items(), again.items()), (first.users(), again.users())):
        assert list(before.item_ids) == list(after.item_ids)
        np.testing.assert_array_equal(before.vectors_ND, after.vectors_ND)
    item = next(iter(workspace.catalog.items()))
    assert again.fingerprint(item) == first.fingerprint(item)


def test_a_graph_of_other_events_is_trained_anew(workspace: Workspace) -> None:
    graph.trained(workspace, "of other events", watch=Unwatched())
    stamp = kept(workspace).stat().st_mtime_ns
    key = graph.graph_key(workspace)
    graph.trained(workspace, key, watch=Unwatched())
    assert kept(workspace).stat().st_mtime_ns > stamp


def test_a_damaged_file_is_trained_anew(workspace: Workspace) -> None:
    key = graph.graph_key(workspace)
    first = graph.trained(workspace, key, watch=Unwatched())
    whole = kept(workspace).read_bytes()
    kept(workspace).write_bytes(whole[: len(whole) // 2])
    again = graph.trained(workspace, key, watch=Unwatched())
    np.testing.assert_array_equal(first.items().vectors_ND, again.items().vectors_ND)
    assert len(kept(workspace).read_bytes()) == len(whole)


def test_what_is_forgotten_leaves_no_file(workspace: Workspace) -> None:
    graph.forget(workspace)
    graph.trained(workspace, graph.graph_key(workspace), watch=Unwatched())
    graph.forget(workspace)
    assert list(kept(workspace).parent.iterdir()) == []


def test_users_are_written_once(workspace: Workspace) -> None:
    embedder = graph.trained(workspace, graph.graph_key(workspace), watch=Unwatched())
    for _ in range(2):
        graph.write_users(workspace, embedder)
        parts = list(workspace.store.root.glob("parts/user_graph_*/2*.parquet"))
        assert len(parts) == 1


def test_an_empty_state_holds_no_graph(workspace: Workspace) -> None:
    assert graph.held_space(workspace, graph.graph_key(workspace)) is None
