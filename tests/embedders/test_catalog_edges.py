"""Friends and item edges of every format, good and bad."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedders.catalog import Catalog, CatalogError, Columns, read
from embedders.catalog_edges import FRIENDS_SCHEMA, ITEM_EDGES_SCHEMA

Row = Mapping[str, object]

FRIENDS: list[Row] = [
    {"user_id": "bob", "friend_id": "ann", "timestamp": "2024-05-01T00:00:00Z"},
    {"user_id": "ann", "friend_id": "eve", "timestamp": None},
]
EDGES: list[Row] = [
    {"item_id": "b", "other_item_id": "c", "weight": "0.5", "timestamp": "1714521600"},
    {"item_id": "a", "other_item_id": "b", "weight": None, "timestamp": None},
]
MAY = datetime(2024, 5, 1, tzinfo=UTC)


def write(path: Path, rows: list[Row], suffix: str) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    match suffix:
        case ".parquet":
            whole = [{name: row.get(name) for name in names} for row in rows]
            pq.write_table(pa.Table.from_pylist(whole), path.with_suffix(suffix))
        case ".jsonl":
            text = "".join(json.dumps(row) + "\n" for row in rows)
            path.with_suffix(suffix).write_text(text)
        case ".csv":
            lines = [names, *[[str(row.get(name) or "") for name in names] for row in rows]]
            text = "".join(",".join(line) + "\n" for line in lines)
            path.with_suffix(suffix).write_text(text)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A catalog of three items and nothing else."""
    (tmp_path / "items.csv").write_text("item_id,title\na,A\nb,B\nc,C\n")
    return tmp_path


def reasons(catalog: Catalog) -> list[tuple[str, str, str]]:
    return [(reject.source, reject.key, reject.reason) for reject in catalog.rejects]


def test_a_folder_without_such_files_has_no_edges(folder: Path) -> None:
    catalog = read(folder)
    assert catalog.friends.equals(FRIENDS_SCHEMA.empty_table())
    assert catalog.item_edges.equals(ITEM_EDGES_SCHEMA.empty_table())


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_edges_come_in_order_whatever_the_format(folder: Path, suffix: str) -> None:
    write(folder / "friends", FRIENDS, suffix)
    write(folder / "item_edges", EDGES, suffix)

    catalog = read(folder)

    assert catalog.rejects == ()
    assert catalog.friends.schema.equals(FRIENDS_SCHEMA)
    assert catalog.friends.to_pylist() == [
        {"user_id": "ann", "friend_id": "eve", "timestamp": None},
        {"user_id": "bob", "friend_id": "ann", "timestamp": MAY},
    ]
    assert catalog.item_edges.schema.equals(ITEM_EDGES_SCHEMA)
    assert catalog.item_edges.to_pylist() == [
        {"item_id": "a", "other_item_id": "b", "weight": None, "timestamp": None},
        {"item_id": "b", "other_item_id": "c", "weight": 0.5, "timestamp": MAY},
    ]


def test_bad_friends_are_set_aside_with_their_reasons(folder: Path) -> None:
    rows: list[Row] = [
        {"user_id": "ann", "friend_id": "ann"},
        {"user_id": "ann"},
        {"friend_id": "ann"},
        {"user_id": "ann", "friend_id": "bob", "timestamp": "soon"},
        {"user_id": "ann", "friend_id": "bob"},
    ]
    write(folder / "friends", rows, ".jsonl")

    catalog = read(folder)

    assert catalog.friends.num_rows == 1
    assert reasons(catalog) == [
        ("friends", "row 1", "makes a user their own friend: 'ann'"),
        ("friends", "row 2", "has no friend_id"),
        ("friends", "row 3", "has no user_id"),
        ("friends", "row 4", "timestamp is not a time such as 2024-05-31T18:00:00Z: 'soon'"),
    ]


def test_bad_item_edges_are_set_aside_with_their_reasons(folder: Path) -> None:
    rows: list[Row] = [
        {"item_id": "a", "other_item_id": "a"},
        {"item_id": "a", "other_item_id": "b", "weight": "-1"},
        {"item_id": "a", "other_item_id": "b", "weight": "inf"},
        {"item_id": "a", "other_item_id": "gone"},
        {"item_id": "gone", "other_item_id": "b"},
        {"item_id": "a"},
        {"item_id": "a", "other_item_id": "c"},
    ]
    write(folder / "item_edges", rows, ".jsonl")

    catalog = read(folder)

    assert catalog.item_edges["other_item_id"].to_pylist() == ["c"]
    gone = "is no good item of items.csv, so its edges are set aside: 2 rows"
    assert reasons(catalog) == [
        ("item_edges", "row 1", "joins an item to itself: 'a'"),
        ("item_edges", "row 2", "weight is not a number above 0: '-1'"),
        ("item_edges", "row 3", "weight is not a number above 0: 'inf'"),
        ("item_edges", "gone", gone),
        ("item_edges", "row 6", "has no other_item_id"),
    ]


@pytest.mark.parametrize(
    ("stem", "column"), [("friends", "friend_id"), ("item_edges", "other_item_id")]
)
def test_a_file_without_its_column_of_ids_is_refused(folder: Path, stem: str, column: str) -> None:
    (folder / f"{stem}.csv").write_text("user_id,item_id\na,b\n")
    with pytest.raises(CatalogError, match=f"no column '{column}'"):
        read(folder)


def test_columns_of_other_names_are_found_and_a_time_stays_optional(folder: Path) -> None:
    """Events have a time called `at`; friends need not have one."""
    (folder / "friends.csv").write_text("who,whom\nann,bob\n")
    (folder / "interactions.csv").write_text("who,item_id,behavior,at\nann,a,view,2024-05-01\n")
    (folder / "item_edges.csv").write_text("item_id,similar,at\na,b,2024-05-01\n")
    columns = Columns(user_id="who", friend_id="whom", other_item_id="similar", timestamp="at")

    catalog = read(folder, columns=columns)

    assert catalog.friends.to_pylist() == [
        {"user_id": "ann", "friend_id": "bob", "timestamp": None}
    ]
    assert catalog.item_edges["timestamp"].to_pylist() == [MAY]


@pytest.mark.parametrize("stem", ["friends", "item_edges"])
def test_the_fingerprint_tells_another_file_of_edges(folder: Path, stem: str) -> None:
    before = read(folder).fingerprint
    write(folder / stem, FRIENDS if stem == "friends" else EDGES, ".csv")
    assert read(folder).fingerprint != before


def test_two_files_of_a_kind_are_refused(folder: Path) -> None:
    write(folder / "friends", FRIENDS, ".csv")
    write(folder / "friends", FRIENDS, ".jsonl")
    with pytest.raises(CatalogError, match=r"friends\.csv, friends\.jsonl: keep one"):
        read(folder)


def test_lastfms_friends_are_read(shared_data: Path) -> None:
    catalog = read(shared_data / "lastfm", columns=Columns(description=("text",)))
    assert catalog.friends.num_rows == 25_434
    assert not [one for one in catalog.rejects if one.source == "friends"]
