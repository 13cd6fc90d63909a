"""A copy has the past of its catalog bit by bit, and another future only where one was drawn."""

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedders.catalog import Catalog, read
from embedders.columns import Columns
from embedders.items import Item, Modality
from sommelier.evaluating.future import UNHEARD, write_copy

CUT = datetime(2024, 1, 20, tzinfo=UTC)
LATE = {"c", "d"}


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    """Four items, two of them late; names of columns that are another's canonical ones."""
    folder = tmp_path / "catalog"
    (folder / "media").mkdir(parents=True)
    (folder / "vectors").mkdir()
    rows = []
    for n, item_id in enumerate("abcd"):
        (folder / f"media/{item_id}.png").write_bytes(item_id.encode())
        born = "2024-01-25" if item_id in LATE else "2024-01-02"
        rows.append(
            {"item_id": item_id, "name": f"Box {item_id}", "plot": f"about {n}", "created_at": born}
            | {"title": f"ribbon {n}", "image_path": f"media/{item_id}.png", "price": str(n)}
        )
    events = [
        {"user_id": f"u{n % 3}", "item_id": "abcd"[n % 4], "behavior": "buy", "rating": 0.1 * n}
        | {"timestamp": f"2024-01-{n + 1:02d}T00:00:00.000001Z"}
        for n in range(31)
    ]
    edges = [{"item_id": "a", "other_item_id": "b"}, {"item_id": "a", "other_item_id": "d"}]
    friends = [
        {"user_id": "u0", "friend_id": f"u{n}", "timestamp": f"2024-01-{day}"}
        for n, day in ((1, "02"), (2, "25"))
    ]
    tables = {"items": rows, "interactions": events, "item_edges": edges, "friends": friends}
    for name, lines in tables.items():
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    vectors = np.arange(8, dtype=np.float32).reshape(4, 2)
    table = pa.table({"item_id": list("abcd"), "vector": vectors.tolist()})
    pq.write_table(table, folder / "vectors/text_toy.parquet")
    return read(folder, columns=Columns(title="name", description=("plot",)))


def copied(catalog: Catalog, folder: Path, *, seed: int | None) -> Catalog:
    found = write_copy(catalog, folder, cut=CUT, seed=seed)
    assert found.late_ids == LATE
    assert (found.num_events, found.num_future_events) == (19, 12)
    again = read(folder, columns=found.columns)
    assert again.rejects == ()
    return again


def shown(item: Item) -> tuple[object, ...]:
    """All of an item but where its media lie."""
    media = item.image_path.read_bytes() if item.image_path else None
    times = (item.created_at, item.updated_at)
    return (item.item_id, item.title, item.description, dict(item.attributes), media, *times)


def test_without_a_seed_nothing_differs(catalog: Catalog, tmp_path: Path) -> None:
    again = copied(catalog, tmp_path / "copy", seed=None)
    assert again.interactions.equals(catalog.interactions)
    assert again.item_edges.equals(catalog.item_edges)
    assert again.friends.equals(catalog.friends)
    assert list(map(shown, again.items())) == list(map(shown, catalog.items()))
    path = again.brought[Modality.TEXT, "toy"]
    assert path.read_bytes() == catalog.brought[Modality.TEXT, "toy"].read_bytes()


def test_with_a_seed_the_past_stays_and_the_future_does_not(
    catalog: Catalog, tmp_path: Path
) -> None:
    again = copied(catalog, tmp_path / "copy", seed=0)

    def parted(found: Catalog) -> tuple[list[dict], list[dict]]:  # type: ignore[type-arg]
        rows = found.interactions.to_pylist()
        return [r for r in rows if r["timestamp"] < CUT], [r for r in rows if r["timestamp"] >= CUT]

    (past, future), (same_past, other_future) = parted(catalog), parted(again)
    assert same_past == past
    assert other_future != future
    assert UNHEARD in {row["behavior"] for row in other_future}
    assert again.item_edges["other_item_id"].to_pylist() == ["b"]
    assert again.friends["friend_id"].to_pylist() == ["u1"]


def test_late_items_keep_their_ids_and_times_and_nothing_else(
    catalog: Catalog, tmp_path: Path
) -> None:
    again = {one.item_id: one for one in copied(catalog, tmp_path / "copy", seed=0).items()}
    for item in catalog.items():
        other = again[item.item_id]
        if item.item_id not in LATE:
            assert shown(other) == shown(item)
            continue
        assert other.created_at == item.created_at
        for mine, its in zip(shown(item)[1:5], shown(other)[1:5], strict=True):
            assert mine != its


def test_brought_vectors_of_late_items_are_others(catalog: Catalog, tmp_path: Path) -> None:
    again = copied(catalog, tmp_path / "copy", seed=0)
    mine, other = (
        pq.read_table(one.brought[Modality.TEXT, "toy"])["vector"].to_pylist()
        for one in (catalog, again)
    )
    assert other[:2] == mine[:2]
    assert other[2] != mine[2]
    assert {len(vector) for vector in other} == {2}


def test_equal_seeds_write_equal_futures(catalog: Catalog, tmp_path: Path) -> None:
    one, same, other = (
        copied(catalog, tmp_path / str(n), seed=seed).fingerprint
        for n, seed in enumerate((1, 1, 2))
    )
    assert one == same != other
