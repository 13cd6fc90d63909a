"""A catalog and its cut in, a copy of its folder out, with the same past and another future.

What lies behind the cut is exchanged: events are taken away, replaced and added; items that came
to be at the cut or later keep their ids and get other titles, words, attributes, media and brought
vectors; edges from then on, or to such items, are gone. Everything before the cut stays as it is.
Without a seed the future stays as well, so that two copies differ by nothing but their future.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from embedders.catalog import Catalog
from embedders.columns import EVENT_FIELDS, ITEM_FIELDS, Columns
from embedders.items import Item

UNHEARD = "unheard-of"  # a behavior that nobody showed before the cut
WORDS = ("quartz", "lantern", "herring", "velvet", "anvil", "monsoon", "thimble", "glacier")
KEPT, REPLACED = 1 / 3, 2 / 3  # borders of what becomes of an event, drawn evenly


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """What was written."""

    columns: Columns
    """The names of the copy's columns."""
    num_events: int
    """Events before the cut, all of them kept."""
    num_future_events: int
    """Events from the cut on, in the original."""
    late_ids: frozenset[str]
    """The items that came to be at the cut or later."""


def write_copy(catalog: Catalog, folder: Path, *, cut: datetime, seed: int | None) -> Copied:
    """Write the copy.

    Args:
        catalog: As the workspace reads it: on the clock of its split.
        folder: Where to; it is made.
        cut: What lies at it or behind it is the future.
        seed: What another future is drawn with; None keeps the one there is.
    """
    folder.mkdir(parents=True)
    late_ids = frozenset(
        item.item_id
        for item in catalog.items()
        if item.created_at is not None and item.created_at >= cut
    )
    rng = None if seed is None else np.random.default_rng(seed)
    columns = _write_items(catalog, folder, late_ids, rng)
    is_past = _is_before(catalog.interactions["timestamp"], cut)
    past = catalog.interactions.filter(is_past)
    future = catalog.interactions.filter(pc.invert(is_past))
    events = future if rng is None else _other_events(future, catalog, cut, rng)
    _write_events(pa.concat_tables([past, events]), folder, columns)
    _write_edges(catalog, folder, columns, cut=cut, lost_ids=None if rng is None else late_ids)
    _write_vectors(catalog, folder, late_ids, rng)
    return Copied(
        columns=columns,
        num_events=past.num_rows,
        num_future_events=future.num_rows,
        late_ids=late_ids,
    )


def _is_before(times: pa.ChunkedArray, cut: datetime) -> pa.ChunkedArray:
    """Events without a time belong to no future: they are read as the oldest."""
    return pc.fill_null(pc.less(times, pa.scalar(cut, times.type)), True)


def _write_items(
    catalog: Catalog, folder: Path, late_ids: frozenset[str], rng: np.random.Generator | None
) -> Columns:
    names = list(dict.fromkeys(name for item in catalog.items() for name in item.attributes))
    columns = _free_names(names)
    pool = [one for item in catalog.items() for one in _media(item) if one.is_file()] if rng else []
    rows = []
    for item in catalog.items():
        is_other = rng is not None and item.item_id in late_ids
        media = dict(
            zip(("image_path", "audio_path"), (item.image_path, item.audio_path), strict=True)
        )
        paths = {
            name: _link(path, catalog.folder, folder, pool=pool if is_other else (), rng=rng)
            for name, path in media.items()
        }
        shown = _other_item(item, rng) if rng is not None and is_other else item
        own = {
            name: getattr(shown, name) for name in ("item_id", "title", "description", "category")
        }
        own |= {name: _iso(getattr(shown, name)) for name in ("created_at", "updated_at")} | paths
        rows.append(
            {columns.names(name)[0]: own[name] for name in ITEM_FIELDS} | dict(shown.attributes)
        )
    schema = pa.schema(
        [(columns.names(name)[0], pa.string()) for name in ITEM_FIELDS]
        + [(name, pa.string()) for name in names]
    )
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / "items.parquet")
    return columns


def _free_names(taken: Sequence[str]) -> Columns:
    """The canonical names, with underscores behind those that an attribute has already."""
    named: dict[str, Any] = {}
    for name in (*ITEM_FIELDS, *EVENT_FIELDS):
        free = name
        while free in taken:
            free += "_"
        named[name] = (free,) if name in ("description", "category", "weight") else free
    return Columns(**named)


def _media(item: Item) -> Iterator[Path]:
    yield from (path for path in (item.image_path, item.audio_path) if path is not None)


def _link(
    path: Path | None,
    source: Path,
    target: Path,
    *,
    pool: Sequence[Path],
    rng: np.random.Generator | None,
) -> str | None:
    """The file's path within the copy, where a link leads to it, or to another of its kind."""
    if path is None:
        return None
    name = path.relative_to(source)
    others = [one for one in pool if one.suffix == path.suffix and one != path]
    if rng is not None and others:
        path = others[int(rng.integers(len(others)))]
        name = name.with_name(f"other-{name.name}")
    link = target / name
    if path.is_file() and not link.is_symlink():
        link.parent.mkdir(parents=True, exist_ok=True)
        os.symlink(path.resolve(), link)
    return name.as_posix()


def _other_item(item: Item, rng: np.random.Generator) -> Item:
    def words() -> str:
        return " ".join(rng.choice(WORDS, size=4).tolist())

    return replace(
        item,
        title=words(),
        description=words(),
        category=words(),
        attributes={name: str(int(rng.integers(1000))) for name in item.attributes},
    )


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat()


def _other_events(
    future: pa.Table, catalog: Catalog, cut: datetime, rng: np.random.Generator
) -> pa.Table:
    """A third of the events, a third with other items, a third gone; and as many new ones."""
    if not future.num_rows:
        return future
    draw_E = rng.random(future.num_rows)
    kept = future.filter(pa.array(draw_E < KEPT))
    item_ids = catalog.good_items["item_id"].to_pylist()
    items = rng.choice(item_ids, size=future.num_rows).tolist()
    place = future.schema.get_field_index("item_id")
    moved = future.set_column(place, "item_id", pa.array(items, pa.string()))
    moved = moved.filter(pa.array((draw_E >= KEPT) & (draw_E < REPLACED)))
    rows = future.take(pa.array(rng.integers(future.num_rows, size=future.num_rows)))
    users = [*catalog.interactions["user_id"].unique().to_pylist(), "nobody-yet"]
    new = {
        "user_id": pa.array(rng.choice(users, size=rows.num_rows).tolist(), pa.string()),
        "item_id": pa.array(rng.choice(item_ids, size=rows.num_rows).tolist(), pa.string()),
        "behavior": pa.array([UNHEARD] * rows.num_rows, pa.string()),
    }
    for name, values in new.items():
        rows = rows.set_column(rows.schema.get_field_index(name), name, values)
    assert pc.all(
        pc.greater_equal(rows["timestamp"], pa.scalar(cut, rows["timestamp"].type))
    ).as_py()
    return pa.concat_tables([kept, moved, rows])


def _write_events(events: pa.Table, folder: Path, columns: Columns) -> None:
    names = [columns.names(name)[0] for name in events.column_names]
    pq.write_table(events.rename_columns(names), folder / "interactions.parquet")


def _write_edges(
    catalog: Catalog,
    folder: Path,
    columns: Columns,
    *,
    cut: datetime,
    lost_ids: frozenset[str] | None,
) -> None:
    """The edges; given the items that come later, without theirs and without later edges."""
    lost = pa.array(sorted(lost_ids or ()), pa.string())
    for stem, edges in (("friends", catalog.friends), ("item_edges", catalog.item_edges)):
        if not edges.num_rows:
            continue
        if lost_ids is not None:
            edges = edges.filter(_is_before(edges["timestamp"], cut))
            if stem == "item_edges":
                for end in ("item_id", "other_item_id"):
                    edges = edges.filter(pc.invert(pc.is_in(edges[end], value_set=lost)))
        names = [columns.names(name)[0] for name in edges.column_names]
        pq.write_table(edges.rename_columns(names), folder / f"{stem}.parquet")


def _write_vectors(
    catalog: Catalog, folder: Path, late_ids: frozenset[str], rng: np.random.Generator | None
) -> None:
    """The brought vectors; those of late items are drawn anew, as long as they were."""
    late = pa.array(sorted(late_ids), pa.string())
    for path in catalog.brought.values():
        target = folder / "vectors" / path.name
        target.parent.mkdir(exist_ok=True)
        if rng is None or not late_ids:
            shutil.copyfile(path, target)
            continue
        table = pq.read_table(path, columns=["item_id", "vector"])
        is_late = pc.is_in(table["item_id"].cast(pa.string()), value_set=late).to_pylist()
        kind = table.schema.field("vector").type
        vectors = [
            rng.standard_normal(len(vector)).astype(np.float32).tolist() if other else vector
            for vector, other in zip(table["vector"].to_pylist(), is_late, strict=True)
        ]
        pq.write_table(
            table.set_column(
                table.schema.get_field_index("vector"), "vector", pa.array(vectors, kind)
            ),
            target,
        )
