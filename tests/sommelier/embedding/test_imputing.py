"""Items that nobody has touched get a graph vector once, and again when something changes."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedders.items import Modality
from embedders.known import Known
from embedders.vectors import Space
from feature_repo.store import Store
from sommelier.settings_file import load
from sommelier.workspace import Workspace
from tests.sommelier.conftest import Run

SETTINGS = """
[[encoders]]
modality = "graph"
encoder = "lightgcn"
[[encoders]]
modality = "text"
encoder = "brought"
name = "toy"
[graph]
dim = 8
epochs = 3
impute_neighbors = 2
[time]
graph_until = "2024-05-15T00:00:00Z"
cut = "2024-05-20T00:00:00Z"
"""
UNTIL = datetime(2024, 5, 15, tzinfo=UTC)
LATER = datetime(2024, 5, 18, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve items, of which `new` and `late` were never touched; `bare` has no vector either."""
    catalog = tmp_path / "catalog"
    (catalog / "vectors").mkdir(parents=True)
    rows = [{"item_id": f"i{n}", "title": "known"} for n in range(9)]
    rows += [{"item_id": one, "title": "unknown"} for one in ("bare", "new")]
    rows.append({"item_id": "late", "title": "late", "created_at": LATER.isoformat()})
    (catalog / "items.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    lines = ["user_id,item_id,behavior,timestamp"]
    for user in range(12):
        for step in range(4):
            when = UNTIL - timedelta(days=10 - step)
            lines.append(f"u{user},i{(user % 3) * 3 + step % 3},view,{when.isoformat()}")
            when = UNTIL + timedelta(days=1 + step)
            lines.append(f"u{user},i{(user + step) % 9},view,{when.isoformat()}")
    (catalog / "interactions.csv").write_text("\n".join(lines))
    bring(tmp_path, new=[1.0, 0.1, 0.0], late=[0.0, 0.1, 1.0])
    (tmp_path / "sommelier.toml").write_text(SETTINGS)
    return tmp_path


def bring(folder: Path, **unknown: list[float]) -> None:
    """Text vectors: those of i0 to i2 point one way, of i3 to i5 another, of i6 to i8 a third."""
    known = {f"i{n}": [float(n // 3 == axis) + 0.01 * n for axis in range(3)] for n in range(9)}
    rows = known | unknown
    table = pa.table({"item_id": list(rows), "vector": list(rows.values())})
    pq.write_table(table, folder / "catalog/vectors/text_toy.parquet")


def embed(run: Run, folder: Path, *words: str) -> str:
    result = run("embed", "--settings", folder / "sommelier.toml", *words)
    assert result.exit_code == 0, result.output + result.stderr
    return str(result.output + result.stderr)


def held(folder: Path) -> tuple[Store, Space, dict[str, Known]]:
    workspace = Workspace(load(folder / "sommelier.toml"))
    space = next(one for one in workspace.spaces() if one.modality is Modality.GRAPH)
    return workspace.store, space, dict(workspace.store.known(space))


def test_an_untouched_item_lies_with_those_it_resembles(run: Run, folder: Path) -> None:
    shown = embed(run, folder)
    assert "2 items without interactions got a graph vector" in shown
    store, space, known = held(folder)
    assert store.imputed(space) == {"new", "late"}
    assert "bare" not in known
    found = store.read(space)
    vectors = dict(zip(found.item_ids, found.vectors_ND, strict=True))
    resembled = vectors["i0"] + vectors["i1"] + vectors["i2"]
    other = vectors["i6"] + vectors["i7"] + vectors["i8"]
    assert np.dot(vectors["new"], resembled) > np.dot(vectors["new"], other)


def test_it_is_true_from_the_cut_on_or_from_when_the_item_came_to_be(
    run: Run, folder: Path
) -> None:
    embed(run, folder)
    _, _, known = held(folder)
    assert known["new"].event_timestamp == UNTIL
    assert known["late"].event_timestamp == LATER


def test_only_what_changed_is_imputed_again(run: Run, folder: Path) -> None:
    embed(run, folder)
    _, _, before = held(folder)
    assert "got a graph vector" not in embed(run, folder)
    bring(folder, new=[0.0, 0.1, 1.0], late=[0.0, 0.1, 1.0])
    assert "1 items without interactions got a graph vector" in embed(run, folder)
    store, space, after = held(folder)
    assert after["late"] == before["late"]
    assert after["new"].content_hash != before["new"].content_hash
    assert after["new"].event_timestamp > before["new"].event_timestamp
    assert store.imputed(space) == {"new", "late"}


def test_an_item_whose_content_is_gone_loses_its_imputed_vector(run: Run, folder: Path) -> None:
    embed(run, folder)
    bring(folder, late=[0.0, 0.1, 1.0])
    embed(run, folder)
    store, space, _ = held(folder)
    assert store.imputed(space) == {"late"}
    assert "new" not in store.read(space).item_ids


def test_imputing_can_be_turned_off_and_on_again(run: Run, folder: Path) -> None:
    embed(run, folder)
    trained = [f"i{n}" for n in range(9)]
    embed(run, folder, "--set", "graph.impute=false")
    store, space, _ = held(folder)
    assert list(store.read(space).item_ids) == trained
    embed(run, folder)
    store, space, _ = held(folder)
    assert list(store.read(space).item_ids) == [*trained, "late", "new"]
