"""A catalog folder in, its items (streamed), interactions (one table) and bad rows out.

The folder's format is in docs/catalog.md. Items come in the order of their ids; interactions by
user, time, position, item, so that a user's events are one run of rows, oldest first. A row that
cannot be used is set aside with its reason, never repaired and never fatal.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from embedders import catalog_edges, tables
from embedders.catalog_edges import FRIENDS_SCHEMA, ITEM_EDGES_SCHEMA
from embedders.catalog_rows import NO_TIME, numbered, rejects, text
from embedders.columns import EVENT_FIELDS, ITEM_FIELDS, CatalogError, Columns
from embedders.items import EPOCH, Item, Modality, Reject

__all__ = [
    "FRIENDS_SCHEMA",
    "INTERACTIONS_SCHEMA",
    "ITEM_EDGES_SCHEMA",
    "Catalog",
    "CatalogError",
    "Columns",
    "read",
    "read_events",
]

INTERACTIONS_SCHEMA = pa.schema(
    {
        "user_id": pa.string(),
        "item_id": pa.string(),
        "behavior": pa.string(),
        "weight": pa.float32(),
        "timestamp": pa.timestamp("us", tz="UTC"),
        "position": pa.int32(),
        "split": pa.string(),
    }
)
SPLITS = ("train", "valid", "test")
BATCH_ROWS = 2048  # items held at once while they stream

LAYOUT = (
    "items.{parquet,csv,jsonl}, optional interactions.{...}, friends.{...}, item_edges.{...}, "
    "vectors/ and media/"
)
# Lexical on purpose: a link that the folder's owner put there may lead out, a row's text may not.
ESCAPES = r"(^[/\\~]|^[A-Za-z]:|://|(^|[/\\])\.\.([/\\]|$))"


@dataclass(frozen=True, kw_only=True, eq=False)
class Catalog:
    """A catalog folder that was read and checked once; items are read again when asked for."""

    folder: Path
    interactions: pa.Table
    """Of good items only, in INTERACTIONS_SCHEMA."""
    friends: pa.Table = field(default_factory=FRIENDS_SCHEMA.empty_table)
    """Who knows whom, in FRIENDS_SCHEMA; empty where no file says."""
    item_edges: pa.Table = field(default_factory=ITEM_EDGES_SCHEMA.empty_table)
    """What goes with what, of good items only, in ITEM_EDGES_SCHEMA; empty where no file says."""
    rejects: tuple[Reject, ...]
    """By file, then by row; of each fault the first 100 rows, then the number of the others."""
    brought: Mapping[tuple[Modality, str], Path]
    """(modality, encoder's name) -> the file of vectors."""
    columns: Columns = field(default_factory=Columns)
    good_items: pa.Table = field(repr=False)
    """item_id and row of the items file: all that is held of the items."""

    @property
    def num_items(self) -> int:
        """How many good items there are."""
        return int(self.good_items.num_rows)

    def items(self) -> Iterator[Item]:
        """The good items by id, read from the file in batches.

        Raises:
            CatalogError: the file was removed or replaced since the catalog was read.
        """
        with tables.connect() as db:
            table = tables.scan(db, _items_file(self.folder))
            source, extra = _items_query(table, self.columns)
            db.register("good_items", self.good_items)
            db.execute(
                f"SELECT * REPLACE ({_replaced()}) FROM ({source}) "  # nosec B608
                "JOIN good_items USING (row, item_id) ORDER BY item_id"
            )
            num_found = 0
            for batch in db.to_arrow_reader(BATCH_ROWS):
                num_found += batch.num_rows
                for row in batch.to_pylist():
                    yield _item(row, extra, self.folder)
        if num_found != self.num_items:
            raise CatalogError(f"{table.path} has changed since it was read: read it again")

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the names, sizes and contents of all tables in the folder, media apart.

        What an item's media hold is part of that item's own fingerprint (see `Embedder`).
        """
        whole = hashlib.sha256()
        stems = ("interactions", "friends", "item_edges")
        paths = [_items_file(self.folder), *(tables.find(self.folder, stem) for stem in stems)]
        for path in sorted([p for p in paths if p] + list(self.brought.values())):
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            name = path.relative_to(self.folder).as_posix()
            whole.update(f"{name}\0{path.stat().st_size}\0{digest}\n".encode())
        return whole.hexdigest()


def read(folder: Path, *, columns: Columns | None = None) -> Catalog:
    """Check a catalog folder and read everything but the items themselves.

    Args:
        folder: As docs/catalog.md describes it.
        columns: The names of the files' columns where they are not the canonical ones.

    Raises:
        CatalogError: the folder or its items file is missing or unreadable, or a column is absent.
    """
    folder = folder.absolute()
    columns = columns or Columns()
    items_file = _items_file(folder)
    events_file = tables.find(folder, "interactions")
    with tables.connect() as db:
        bad = _check_items(db, items_file, columns)
        good_items = db.sql("SELECT item_id, row FROM good_items ORDER BY row").to_arrow_table()
        events = INTERACTIONS_SCHEMA.empty_table()
        if events_file:
            bad += _check_interactions(db, events_file, columns, items_file.name)
            events = _good_interactions(db)
        edges = _read_edges(db, folder, columns, items_file.name, bad)
    brought, unknown = _find_brought(folder)
    return Catalog(
        folder=folder,
        interactions=events,
        **edges,
        rejects=(*bad, *unknown),
        brought=brought,
        columns=columns,
        good_items=good_items,
    )


def _read_edges(
    db: duckdb.DuckDBPyConnection,
    folder: Path,
    columns: Columns,
    items_name: str,
    bad: list[Reject],
) -> dict[str, pa.Table]:
    """The optional tables of edges that the folder has, by their names; bad rows join `bad`."""
    edges = {}
    if friends_file := tables.find(folder, "friends"):
        edges["friends"], faulty = catalog_edges.read_friends(db, friends_file, columns)
        bad += faulty
    if edges_file := tables.find(folder, "item_edges"):
        edges["item_edges"], faulty = catalog_edges.read_item_edges(
            db, edges_file, columns, items_name
        )
        bad += faulty
    return edges


def read_events(
    path: Path, *, item_ids: pa.Array, columns: Columns | None = None
) -> tuple[pa.Table, list[Reject]]:
    """A file of interactions without its catalog, such as those of the last minutes.

    Args:
        path: As the catalog's own file of interactions.
        item_ids: The good items; events of others are set aside.
        columns: The names of the file's columns where they are not the canonical ones.

    Returns:
        The good rows in INTERACTIONS_SCHEMA, by user, time, position and item, and the others.

    Raises:
        CatalogError: the file is missing or unreadable, or lacks a column.
    """
    if not path.is_file():
        raise CatalogError(f"there is no file {path}")
    with tables.connect() as db:
        db.register("good_items", pa.table({"item_id": item_ids}))
        bad = _check_interactions(db, path, columns or Columns(), "the store")
        return _good_interactions(db), bad


def _items_file(folder: Path) -> Path:
    if not folder.is_dir():
        raise CatalogError(f"{folder} is not a folder; a catalog is one that holds {LAYOUT}")
    path = tables.find(folder, "items")
    if path is None:
        raise CatalogError(f"{folder} has no items file; a catalog folder holds {LAYOUT}")
    return path


def _items_query(table: tables.Table, columns: Columns) -> tuple[str, list[str]]:
    """The items as text, numbered by row, and the names of the further columns x0, x1, ..."""
    used = {name for canonical in ITEM_FIELDS for name in columns.names(canonical)}
    extra = [name for name in table.columns if name not in used]
    texts = {canonical: text(table, columns, canonical) for canonical in ITEM_FIELDS}
    texts |= {f"x{i}": table.columns[name] for i, name in enumerate(extra)}
    return numbered(table, texts), extra


def _check_items(db: duckdb.DuckDBPyConnection, path: Path, columns: Columns) -> list[Reject]:
    """Make the table good_items (item_id, row); what is wrong with the other rows."""
    table = tables.scan(db, path)
    source, _ = _items_query(table, columns)
    fault, seen = tables.faults(
        [
            ("NOT is_record", "is not a JSON object", None),
            ("item_id IS NULL", "has no item_id", None),
            ("title IS NULL", "has no title", None),
            ("moment(created_at) IS NULL", f"created_at {NO_TIME}", "created_at"),
            ("moment(updated_at) IS NULL", f"updated_at {NO_TIME}", "updated_at"),
        ]
    )
    db.execute(
        f"CREATE TABLE items AS SELECT row, item_id, image_path, audio_path, "  # nosec B608
        f"{fault} AS fault, {seen} AS seen FROM ({source})"
    )
    db.execute(
        "UPDATE items SET fault = 'repeats the item_id of an earlier row' WHERE row IN "
        "(SELECT row FROM items WHERE fault IS NULL "
        "QUALIFY row_number() OVER (PARTITION BY item_id ORDER BY row) > 1)"
    )
    db.execute("CREATE TABLE good_items AS SELECT item_id, row FROM items WHERE fault IS NULL")
    lost_paths = " UNION ALL ".join(
        f"SELECT row, item_id, '{name} leaves the catalog folder, so it is ignored', "  # nosec B608
        f"{tables.quoted(name)} FROM items WHERE fault IS NULL "
        f"AND regexp_matches({name}, '{ESCAPES}')"
        for name in ("image_path", "audio_path")
    )
    return rejects(
        db,
        table,
        f"SELECT row, item_id AS key, fault, seen FROM items WHERE fault IS NOT NULL "  # nosec B608
        f"UNION ALL {lost_paths}",
    )


def _check_interactions(
    db: duckdb.DuckDBPyConnection, path: Path, columns: Columns, items_name: str
) -> list[Reject]:
    """Make the table good_events from rows about good items; what is wrong with the others."""
    table = tables.scan(db, path)
    texts = {canonical: text(table, columns, canonical) for canonical in EVENT_FIELDS}
    splits = ", ".join(map(repr, SPLITS))
    fault, seen = tables.faults(
        [
            ("NOT is_record", "is not a JSON object", None),
            ("user_id IS NULL", "has no user_id", None),
            ("item_id IS NULL", "has no item_id", None),
            ("behavior IS NULL", "has no behavior", None),
            ("moment(timestamp) IS NULL", f"timestamp {NO_TIME}", "timestamp"),
            (
                "NOT coalesce(isfinite(TRY_CAST(weight AS FLOAT)), false)",
                "weight is not a number",
                "weight",
            ),
            (
                "NOT coalesce(TRY_CAST(position AS INTEGER) >= 0, false)",
                "position is not a whole number from 0",
                "position",
            ),
            (f"split NOT IN ({splits})", f"split is none of {', '.join(SPLITS)}", "split"),
        ]
    )
    db.execute(
        f"CREATE TABLE events AS SELECT row, user_id, item_id, behavior, "  # nosec B608
        f"TRY_CAST(weight AS FLOAT) AS weight, moment(timestamp) AS timestamp, "
        f"TRY_CAST(position AS INTEGER) AS position, split, {fault} AS fault, {seen} AS seen "
        f"FROM ({numbered(table, texts)})"
    )
    return rejects(
        db,
        table,
        "SELECT row, NULL AS key, fault, seen FROM events WHERE fault IS NOT NULL "  # nosec B608
        f"UNION ALL SELECT min(row), item_id, 'is no good item of {items_name}, so its "
        "interactions are set aside', count(*) || ' rows' FROM events ANTI JOIN good_items "
        "USING (item_id) WHERE fault IS NULL GROUP BY item_id",
    )


def _good_interactions(db: duckdb.DuckDBPyConnection) -> pa.Table:
    table = db.sql(
        f"SELECT {', '.join(INTERACTIONS_SCHEMA.names)} FROM events SEMI JOIN good_items "
        "USING (item_id) WHERE fault IS NULL "  # nosec B608
        "ORDER BY user_id, timestamp NULLS FIRST, position NULLS FIRST, item_id, row"
    ).to_arrow_table()
    return table.cast(INTERACTIONS_SCHEMA)


def _replaced() -> str:
    """SQL that turns the items' texts into what `_item` takes: microseconds, paths that stay."""
    times = [f"epoch_us(moment({name})) AS {name}" for name in ("created_at", "updated_at")]
    paths = [
        f"CASE WHEN NOT regexp_matches({name}, '{ESCAPES}') THEN {name} END AS {name}"
        for name in ("image_path", "audio_path")
    ]
    return ", ".join(times + paths)


def _find_brought(folder: Path) -> tuple[dict[tuple[Modality, str], Path], list[Reject]]:
    brought, rejects = {}, []
    for path in sorted((folder / "vectors").glob("*.parquet")):
        modality, _, encoder = path.stem.partition("_")
        if modality in list(Modality) and encoder:
            brought[Modality(modality), encoder] = path
        else:
            kinds = ", ".join(Modality)
            reason = f"is not named <modality>_<encoder>.parquet with a modality of {kinds}"
            rejects.append(Reject(source="vectors", key=path.name, reason=reason))
    return brought, rejects


def _item(row: dict[str, Any], extra: list[str], folder: Path) -> Item:
    attributes = {name: row[f"x{i}"] for i, name in enumerate(extra) if row[f"x{i}"] is not None}
    return Item(
        item_id=row["item_id"],
        title=row["title"],
        description=row["description"],
        category=row["category"],
        created_at=_moment(row["created_at"]),
        updated_at=_moment(row["updated_at"]),
        image_path=_inside(folder, row["image_path"]),
        audio_path=_inside(folder, row["audio_path"]),
        attributes=attributes,
    )


def _moment(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else EPOCH + timedelta(microseconds=microseconds)


def _inside(folder: Path, path: str | None) -> Path | None:
    return None if path is None else folder / path
