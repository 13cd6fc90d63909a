"""The catalog's optional files of friends and of items that belong together in, tables out.

Both are lists of pairs: who knows whom, what goes with what. A pair may say since when it has
held (`timestamp`); item pairs may say how strongly (`weight`). They are taken as undirected by the
graph encoder, so one row for a pair is enough.
"""

from pathlib import Path

import duckdb
import pyarrow as pa

from embedders import tables
from embedders.catalog_rows import NO_TIME, numbered, rejects, text
from embedders.columns import Columns
from embedders.items import Reject

FRIENDS_SCHEMA = pa.schema(
    {
        "user_id": pa.string(),
        "friend_id": pa.string(),
        "timestamp": pa.timestamp("us", tz="UTC"),
    }
)
ITEM_EDGES_SCHEMA = pa.schema(
    {
        "item_id": pa.string(),
        "other_item_id": pa.string(),
        "weight": pa.float32(),
        "timestamp": pa.timestamp("us", tz="UTC"),
    }
)
NOT_A_TIME = ("moment(timestamp) IS NULL", f"timestamp {NO_TIME}", "timestamp")
NOT_A_WEIGHT = (
    "NOT coalesce(isfinite(TRY_CAST(weight AS FLOAT)) AND TRY_CAST(weight AS FLOAT) > 0, false)",
    "weight is not a number above 0",
    "weight",
)


def read_friends(
    db: duckdb.DuckDBPyConnection, path: Path, columns: Columns
) -> tuple[pa.Table, list[Reject]]:
    """The good rows in FRIENDS_SCHEMA, by user, friend and time; what is wrong with the others.

    A friend need not have done anything yet, so that any id is taken.

    Raises:
        CatalogError: the file cannot be read, or lacks a column of ids.
    """
    table = tables.scan(db, path)
    fault, seen = tables.faults(
        [
            ("NOT is_record", "is not a JSON object", None),
            ("user_id IS NULL", "has no user_id", None),
            ("friend_id IS NULL", "has no friend_id", None),
            ("friend_id = user_id", "makes a user their own friend", "user_id"),
            NOT_A_TIME,
        ]
    )
    source = numbered(table, _texts(table, columns, ("user_id", "friend_id", "timestamp")))
    db.execute(
        f"CREATE TABLE friends AS SELECT row, user_id, friend_id, moment(timestamp) AS timestamp, "
        f"{fault} AS fault, {seen} AS seen FROM ({source})"  # nosec B608
    )
    bad = rejects(
        db, table, "SELECT row, NULL AS key, fault, seen FROM friends WHERE fault IS NOT NULL"
    )
    good = db.sql(
        f"SELECT {', '.join(FRIENDS_SCHEMA.names)} FROM friends WHERE fault IS NULL "  # nosec B608
        "ORDER BY user_id, friend_id, timestamp NULLS FIRST, row"
    ).to_arrow_table()
    return good.cast(FRIENDS_SCHEMA), bad


def read_item_edges(
    db: duckdb.DuckDBPyConnection, path: Path, columns: Columns, items_name: str
) -> tuple[pa.Table, list[Reject]]:
    """The rows between good items in ITEM_EDGES_SCHEMA, by item, other item and time.

    Expects the table good_items (item_id, row).

    Raises:
        CatalogError: the file cannot be read, or lacks a column of ids.
    """
    table = tables.scan(db, path)
    fault, seen = tables.faults(
        [
            ("NOT is_record", "is not a JSON object", None),
            ("item_id IS NULL", "has no item_id", None),
            ("other_item_id IS NULL", "has no other_item_id", None),
            ("other_item_id = item_id", "joins an item to itself", "item_id"),
            NOT_A_WEIGHT,
            NOT_A_TIME,
        ]
    )
    names = ("item_id", "other_item_id", "weight", "timestamp")
    db.execute(
        f"CREATE TABLE item_edges AS SELECT row, item_id, other_item_id, "  # nosec B608
        f"TRY_CAST(weight AS FLOAT) AS weight, moment(timestamp) AS timestamp, "
        f"{fault} AS fault, {seen} AS seen "
        f"FROM ({numbered(table, _texts(table, columns, names))})"
    )
    ends = " UNION ALL ".join(
        f"SELECT row, {end} AS item_id FROM item_edges WHERE fault IS NULL"  # nosec B608
        for end in ("item_id", "other_item_id")
    )
    bad = rejects(
        db,
        table,
        "SELECT row, NULL AS key, fault, seen FROM item_edges WHERE fault IS NOT NULL "
        f"UNION ALL SELECT min(row), item_id, 'is no good item of {items_name}, so its edges are "
        f"set aside', count(*) || ' rows' FROM ({ends}) ANTI JOIN good_items USING (item_id) "
        "GROUP BY item_id",  # nosec B608
    )
    good = db.sql(
        f"SELECT {', '.join(ITEM_EDGES_SCHEMA.names)} FROM item_edges WHERE fault IS NULL "
        "AND item_id IN (SELECT item_id FROM good_items) "  # nosec B608
        "AND other_item_id IN (SELECT item_id FROM good_items) "
        "ORDER BY item_id, other_item_id, timestamp NULLS FIRST, row"
    ).to_arrow_table()
    return good.cast(ITEM_EDGES_SCHEMA), bad


def _texts(table: tables.Table, columns: Columns, names: tuple[str, ...]) -> dict[str, str]:
    """The text of each field. `weight` and `timestamp` may be absent whatever they are called:

    a catalog whose events have a time of another name need not give its friends one.
    """
    texts = {}
    for name in names:
        is_optional = name in ("weight", "timestamp")
        is_absent = not any(column in table.columns for column in columns.names(name))
        texts[name] = "NULL::VARCHAR" if is_optional and is_absent else text(table, columns, name)
    return texts
