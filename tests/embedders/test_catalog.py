"""Catalog folders of every format, good and bad, and the items and interactions they give."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedders.catalog import INTERACTIONS_SCHEMA, Catalog, CatalogError, Columns, read
from embedders.items import EPOCH, Item, Modality, Reject

Row = Mapping[str, Any]
Write = Callable[[Path, Sequence[Row]], None]

ITEMS: list[Row] = [
    {
        "item_id": "b",
        "title": 'Say "when", twice',
        "description": "Two\nlines",
        "category": "drama",
        "created_at": "2020-01-01T00:00:00Z",
        "image_path": "media/b.jpg",
        "year": "1995",
    },
    {"item_id": "a", "title": "Ä"},
    {"item_id": "007", "title": "2012", "audio_path": "media/7.ogg"},
]
EVENTS: list[Row] = [
    {"user_id": "u2", "item_id": "a", "behavior": "view", "position": "1"},
    {"user_id": "u2", "item_id": "b", "behavior": "view", "position": "0"},
    {
        "user_id": "u1",
        "item_id": "007",
        "behavior": "rate",
        "rating": "4.5",
        "timestamp": "2021-05-01 12:00:00",
        "split": "test",
    },
    {
        "user_id": "u1",
        "item_id": "a",
        "behavior": "rate",
        "rating": "2",
        "timestamp": "2021-05-01T13:30:00+02:00",
        "split": "train",
    },
]


def _names(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    def quoted(value: str) -> str:
        return '"' + value.replace('"', '""') + '"' if set(value) & set(',"\n') else value

    names = _names(rows)
    lines = [names, *[[row.get(name) or "" for name in names] for row in rows]]
    text = "".join(",".join(map(quoted, line)) + "\r\n" for line in lines)
    path.with_suffix(".csv").write_bytes(b"\xef\xbb\xbf" + text.encode())


def write_jsonl(path: Path, rows: Sequence[Row]) -> None:
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.with_suffix(".jsonl").write_text("".join(lines))


def write_parquet(path: Path, rows: Sequence[Row]) -> None:
    whole = [{name: row.get(name) for name in _names(rows)} for row in rows]
    pq.write_table(pa.Table.from_pylist(whole), path.with_suffix(".parquet"))


@pytest.fixture(params=[write_csv, write_jsonl, write_parquet], ids=["csv", "jsonl", "parquet"])
def write(request: pytest.FixtureRequest) -> Write:
    """Writes a table in one of the three formats."""
    return request.param  # type: ignore[no-any-return]


def reasons(catalog: Catalog) -> list[tuple[str, str, str]]:
    return [(reject.source, reject.key, reject.reason) for reject in catalog.rejects]


def test_items_come_by_id_whatever_the_format(tmp_path: Path, write: Write) -> None:
    write(tmp_path / "items", ITEMS)

    catalog = read(tmp_path)

    assert catalog.num_items == 3
    assert catalog.rejects == ()
    assert list(catalog.items()) == [
        Item(item_id="007", title="2012", audio_path=tmp_path / "media/7.ogg"),
        Item(item_id="a", title="Ä"),
        Item(
            item_id="b",
            title='Say "when", twice',
            description="Two\nlines",
            category="drama",
            created_at=datetime(2020, 1, 1, tzinfo=UTC),
            image_path=tmp_path / "media/b.jpg",
            attributes={"year": "1995"},
        ),
    ]


def test_interactions_come_by_user_and_time_whatever_the_format(
    tmp_path: Path, write: Write
) -> None:
    write(tmp_path / "items", ITEMS)
    write(tmp_path / "interactions", EVENTS)

    events = read(tmp_path).interactions

    assert events.schema.equals(INTERACTIONS_SCHEMA)
    assert [tuple(row.values()) for row in events.to_pylist()] == [
        ("u1", "a", "rate", 2.0, datetime(2021, 5, 1, 11, 30, tzinfo=UTC), None, "train"),
        ("u1", "007", "rate", 4.5, datetime(2021, 5, 1, 12, tzinfo=UTC), None, "test"),
        ("u2", "b", "view", None, None, 0, None),
        ("u2", "a", "view", None, None, 1, None),
    ]


def test_a_catalog_without_interactions_has_an_empty_table(tmp_path: Path, write: Write) -> None:
    write(tmp_path / "items", ITEMS)

    events = read(tmp_path).interactions

    assert events.num_rows == 0
    assert events.schema.equals(INTERACTIONS_SCHEMA)


def test_bad_items_are_set_aside_with_their_reasons(tmp_path: Path, write: Write) -> None:
    write(
        tmp_path / "items",
        [
            {"item_id": "a", "title": "first", "created_at": ""},
            {"item_id": None, "title": "nameless"},
            {"item_id": "b", "title": "  "},
            {"item_id": "a", "title": "second"},
            {"item_id": "c", "title": "C", "created_at": "last summer"},
            {"item_id": "d", "title": "D", "created_at": "infinity"},
        ],
    )

    catalog = read(tmp_path)

    assert [item.title for item in catalog.items()] == ["first"]
    assert reasons(catalog) == [
        ("items", "row 2", "has no item_id"),
        ("items", "b", "has no title"),
        ("items", "a", "repeats the item_id of an earlier row"),
        ("items", "c", "created_at is not a time such as 2024-05-31T18:00:00Z: 'last summer'"),
        ("items", "d", "created_at is not a time such as 2024-05-31T18:00:00Z: 'infinity'"),
    ]


def test_a_row_that_was_set_aside_does_not_take_its_id_with_it(
    tmp_path: Path, write: Write
) -> None:
    write(tmp_path / "items", [{"item_id": "a", "title": ""}, {"item_id": "a", "title": "good"}])

    assert [item.title for item in read(tmp_path).items()] == ["good"]


@pytest.mark.parametrize(
    "path",
    ["../a.jpg", "media/../../a.jpg", "/etc/a.jpg", "~/a.jpg", "https://host/a.jpg", "..\\a.jpg"],
)
def test_a_path_that_leaves_the_folder_is_ignored_and_the_item_kept(
    tmp_path: Path, path: str
) -> None:
    write_parquet(
        tmp_path / "items",
        [{"item_id": "a", "title": "A", "image_path": path, "audio_path": "media/..a/b..ogg"}],
    )

    catalog = read(tmp_path)

    assert next(catalog.items()).image_path is None
    assert next(catalog.items()).audio_path == tmp_path / "media/..a/b..ogg"
    assert reasons(catalog) == [
        ("items", "a", f"image_path leaves the catalog folder, so it is ignored: '{path}'")
    ]


def test_bad_interactions_are_set_aside_with_their_reasons(tmp_path: Path, write: Write) -> None:
    good = {"user_id": "u", "item_id": "a", "behavior": "view"}
    write(tmp_path / "items", [*ITEMS, {"item_id": "bad", "title": None}])
    write(
        tmp_path / "interactions",
        [
            good | {"user_id": None},
            good | {"item_id": ""},
            good | {"behavior": " "},
            good | {"timestamp": "noon"},
            good | {"weight": "many"},
            good | {"weight": "nan"},
            good | {"position": "-1"},
            good | {"split": "dev"},
            good | {"item_id": "stranger"},
            good,
            good | {"item_id": "stranger"},
            good | {"item_id": "bad"},
        ],
    )

    catalog = read(tmp_path)

    suffix = next(tmp_path.glob("items.*")).name
    unknown = f"is no good item of {suffix}, so its interactions are set aside"
    assert catalog.interactions.num_rows == 1
    assert reasons(catalog)[1:] == [
        ("interactions", "row 1", "has no user_id"),
        ("interactions", "row 2", "has no item_id"),
        ("interactions", "row 3", "has no behavior"),
        (
            "interactions",
            "row 4",
            "timestamp is not a time such as 2024-05-31T18:00:00Z: 'noon'",
        ),
        ("interactions", "row 5", "weight is not a number: 'many'"),
        ("interactions", "row 6", "weight is not a number: 'nan'"),
        ("interactions", "row 7", "position is not a whole number from 0: '-1'"),
        ("interactions", "row 8", "split is none of train, valid, test: 'dev'"),
        ("interactions", "stranger", f"{unknown}: 2 rows"),
        ("interactions", "bad", f"{unknown}: 1 rows"),
    ]


def test_one_fault_in_every_row_is_named_a_hundred_times_and_then_counted(
    tmp_path: Path, write: Write
) -> None:
    write(tmp_path / "items", [{"item_id": f"i{n}", "title": ""} for n in range(250)] + ITEMS)

    rejects = read(tmp_path).rejects

    assert len(rejects) == 101
    assert rejects[99].key == "i99"
    assert rejects[100] == Reject(source="items", key="150 further rows", reason="has no title")


def test_csv_rows_that_are_no_csv_are_set_aside_and_the_others_keep_their_numbers(
    tmp_path: Path,
) -> None:
    (tmp_path / "items.csv").write_bytes(
        b"item_id,title\n"
        b"a,A\n"
        b"short\n"
        b"b,too,long\n"
        b",nameless\n"
        b"c,latin \xe9\n"
        b"d,D\n"
        b"e,\n"
        b'f,"never closed\n'
    )

    catalog = read(tmp_path)

    assert [item.item_id for item in catalog.items()] == ["a", "d"]
    found = [(key, reason.split(":")[0]) for _, key, reason in reasons(catalog)]
    assert found == [
        ("row 2", "is not valid CSV"),
        ("row 3", "is not valid CSV"),
        ("row 4", "has no item_id"),
        ("row 5", "is not valid CSV"),
        ("e", "has no title"),
        ("row 8", "is not valid CSV"),
    ]


def test_json_lines_that_are_no_objects_are_set_aside(tmp_path: Path) -> None:
    (tmp_path / "items.jsonl").write_text('{"item_id": "a", "title": "A"}\n{oops\n["b"]\n')

    catalog = read(tmp_path)

    assert catalog.num_items == 1
    assert reasons(catalog) == [
        ("items", "row 2", "is not a JSON object"),
        ("items", "row 3", "is not a JSON object"),
    ]


@pytest.mark.parametrize("write", [write_jsonl, write_parquet])
def test_json_and_parquet_types_become_text(tmp_path: Path, write: Write) -> None:
    write(
        tmp_path / "items",
        [
            {
                "item_id": 7,
                "title": "A",
                "tags": ["x", "y, z"],
                "none": [],
                "n/~\"'": 1.5,
                "ok": True,
            }
        ],
    )

    item = next(read(tmp_path).items())

    assert item.item_id == "7"
    assert item.attributes == {"tags": "x, y, z", "n/~\"'": "1.5", "ok": "true"}


def test_parquet_times_of_any_unit_and_zone_become_utc(tmp_path: Path) -> None:
    moment = datetime(2022, 7, 1, 12, 30, 15, 123456)
    ahead = moment.replace(tzinfo=timezone(timedelta(hours=3)))
    table = pa.table(
        {
            "item_id": ["a"],
            "title": ["A"],
            "created_at": pa.array([moment], pa.timestamp("ns")),
            "updated_at": pa.array([ahead], pa.timestamp("us", tz="+03:00")),
        }
    )
    pq.write_table(table, tmp_path / "items.parquet")

    item = next(read(tmp_path).items())

    assert item.created_at == moment.replace(tzinfo=UTC)
    assert item.updated_at == ahead


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("964982703", datetime(2000, 7, 30, 18, 45, 3, tzinfo=UTC)),
        ("1600000000.5", datetime(2020, 9, 13, 12, 26, 40, 500000, tzinfo=UTC)),
        ("1600000000123", datetime(2020, 9, 13, 12, 26, 40, 123000, tzinfo=UTC)),
        ("2020-09-13", datetime(2020, 9, 13, tzinfo=UTC)),
        ("1970-01-01", EPOCH),
        ("1850-01-01 00:00", datetime(1850, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_time_may_be_iso_or_seconds_or_milliseconds(
    tmp_path: Path, text: str, expected: datetime
) -> None:
    write_csv(tmp_path / "items", [{"item_id": "a", "title": "A", "created_at": text}])

    assert next(read(tmp_path).items()).created_at == expected


@pytest.mark.parametrize(
    "text", ["2020", "20200101", "12345678901", "0044-03-15 (BC)", "99999-1-1"]
)
def test_a_number_that_could_mean_anything_is_no_time(tmp_path: Path, text: str) -> None:
    write_csv(tmp_path / "items", [{"item_id": "a", "title": "A", "created_at": text}])

    assert read(tmp_path).num_items == 0


def test_columns_of_other_names_are_mapped_and_joined(tmp_path: Path, write: Write) -> None:
    write(
        tmp_path / "items",
        [
            {"movieId": "1", "name": "A", "plot": "P", "text": "T", "genre": "g", "mood": "m"},
            {"movieId": "2", "name": "B", "plot": "", "text": "T", "genre": None, "mood": "m"},
        ],
    )
    write(
        tmp_path / "interactions",
        [
            {"userId": "u", "movieId": "1", "event": "buy", "stars": "5", "likes": "1", "at": "0"},
            {"userId": "u", "movieId": "2", "event": "buy", "stars": None, "likes": "1", "at": "1"},
        ],
    )
    columns = Columns(
        item_id="movieId",
        title="name",
        description=("plot", "text"),
        category=("genre", "mood"),
        user_id="userId",
        behavior="event",
        weight=("stars", "likes"),
        position="at",
    )

    catalog = read(tmp_path, columns=columns)

    assert list(catalog.items()) == [
        Item(item_id="1", title="A", description="P\nT", category="g, m"),
        Item(item_id="2", title="B", description="T", category="m"),
    ]
    assert catalog.interactions["weight"].to_pylist() == [5.0, 1.0]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            Columns(title="name"),
            r"items\.\w+ has no column 'name' for title, only 'item_id', 'title'",
        ),
        (Columns(description=("plot",)), r"has no column 'plot' for description"),
        (Columns(split="fold"), r"interactions\.\w+ has no column 'fold' for split"),
    ],
)
def test_a_column_that_the_user_named_must_exist(
    tmp_path: Path, write: Write, columns: Columns, message: str
) -> None:
    write(tmp_path / "items", [{"item_id": "a", "title": "A"}])
    write(tmp_path / "interactions", EVENTS)

    with pytest.raises(CatalogError, match=message):
        read(tmp_path, columns=columns)


def test_a_required_column_must_exist(tmp_path: Path, write: Write) -> None:
    write(tmp_path / "items", ITEMS)
    write(tmp_path / "interactions", [{"user_id": "u", "item_id": "a"}])

    with pytest.raises(CatalogError, match="has no column 'behavior' for behavior"):
        read(tmp_path)


def test_vectors_in_the_folder_are_found_by_modality_and_name(tmp_path: Path) -> None:
    write_csv(tmp_path / "items", ITEMS)
    (tmp_path / "vectors").mkdir()
    for name in ("audio_vggish_v2", "smell_nose", "image_"):
        pq.write_table(pa.table({"item_id": ["a"]}), tmp_path / f"vectors/{name}.parquet")

    catalog = read(tmp_path)

    path = tmp_path / "vectors/audio_vggish_v2.parquet"
    assert catalog.brought == {(Modality.AUDIO, "vggish_v2"): path}
    assert [reject.key for reject in catalog.rejects] == ["image_.parquet", "smell_nose.parquet"]


def test_the_fingerprint_changes_with_any_table_and_with_nothing_else(tmp_path: Path) -> None:
    write_csv(tmp_path / "items", ITEMS)
    first = read(tmp_path).fingerprint
    (tmp_path / "README.md").write_text("about")
    assert read(tmp_path).fingerprint == first

    write_csv(tmp_path / "interactions", EVENTS)
    second = read(tmp_path).fingerprint
    write_csv(tmp_path / "interactions", EVENTS[:1])
    third = read(tmp_path).fingerprint
    (tmp_path / "vectors").mkdir()
    pq.write_table(pa.table({"item_id": ["a"]}), tmp_path / "vectors/text_x.parquet")

    assert len({first, second, third, read(tmp_path).fingerprint}) == 4


def test_a_missing_folder_or_items_file_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="is not a folder; a catalog is one that holds items"):
        read(tmp_path / "nowhere")
    with pytest.raises(CatalogError, match="has no items file; a catalog folder holds items"):
        read(tmp_path)


def test_a_folder_named_like_a_pattern_is_read_as_it_is_named(tmp_path: Path, write: Write) -> None:
    folder = tmp_path / "it's [1] *?"
    folder.mkdir()
    write(folder / "items", ITEMS)

    assert read(folder).num_items == len(list(read(folder).items())) == 3


def test_items_that_changed_since_the_catalog_was_read_are_refused(tmp_path: Path) -> None:
    write_csv(tmp_path / "items", ITEMS)
    catalog = read(tmp_path)
    write_csv(tmp_path / "items", ITEMS[1:])

    with pytest.raises(CatalogError, match=r"items\.csv has changed since it was read"):
        list(catalog.items())


def test_the_documented_example_is_read_without_a_reject(tmp_path: Path, repository: Path) -> None:
    items, interactions = re.findall(
        "```csv\n(.*?)```", (repository / "docs/catalog.md").read_text(), re.DOTALL
    )
    (tmp_path / "items.csv").write_text(items)
    (tmp_path / "interactions.csv").write_text(interactions)

    catalog = read(tmp_path)

    assert catalog.rejects == ()
    assert [item.category for item in catalog.items()] == ["Drama", "Crime, Drama"]
    assert catalog.interactions["weight"].to_pylist() == [4.5, None]


@pytest.mark.shared_data
def test_movielens_is_read_whole_with_its_own_columns(shared_data: Path) -> None:
    columns = Columns(description=("genres", "plot"))

    catalog = read(shared_data / "movielens", columns=columns)

    items = list(catalog.items())
    assert catalog.num_items == len(items) == 9742
    assert catalog.interactions.num_rows == 100_836
    assert len(set(catalog.interactions["user_id"].to_pylist())) == 610
    assert catalog.rejects == ()
    assert sum(item.image_path is not None for item in items) == 3973
    # Of the 758 plots, one belongs to a film without genres.
    assert sum("\n" in (item.description or "") for item in items) == 757
    first = items[0]
    assert (first.item_id, first.title) == ("1", "Toy Story (1995)")
    assert (first.description or "").startswith("Adventure, Animation, Children, Comedy, Fantasy\n")
    assert first.attributes["year"] == "1995"
    assert {(m.value, name) for m, name in catalog.brought} == {
        ("audio", "ivector100"),
        ("audio", "ivector20"),
        ("image", "avf"),
        ("image", "mobilenetv2"),
    }
