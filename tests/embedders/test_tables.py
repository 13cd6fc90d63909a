"""Single files of rows, above all the ones that cannot be read."""

from pathlib import Path

import pytest

from embedders.columns import CatalogError
from embedders.tables import broken_rows, connect, find, scan, true_row


def test_one_of_two_files_must_go(tmp_path: Path) -> None:
    (tmp_path / "items.csv").touch()
    (tmp_path / "items.jsonl").touch()

    with pytest.raises(CatalogError, match=r"holds items\.csv, items\.jsonl: keep one of them"):
        find(tmp_path, "items")
    assert find(tmp_path, "interactions") is None


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("items.csv", b"", "is empty: its first row must name the columns"),
        ("items.csv", b"a,b,a\n1,2,3\n", "a column name occurs twice"),
        ("items.csv", b"caf\xe9,title\n", "cannot be read"),
        ("items.parquet", b"PAR1 not really", "cannot be read"),
        ("items.xlsx", b"", r"must end in one of \.parquet, \.csv, \.jsonl"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)

    with connect() as db, pytest.raises(CatalogError, match=message) as caught:
        scan(db, path)
    assert str(path) in str(caught.value)


def test_a_column_of_bytes_is_left_out_and_one_without_a_name_is_numbered(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    path.write_text(",item_id\n0,a\n")

    with connect() as db:
        db.execute(f"COPY (SELECT 'a' AS item_id, 'x'::BLOB AS picture) TO '{tmp_path}/b.parquet'")
        assert list(scan(db, path).columns) == ["column 0", "item_id"]
        assert list(scan(db, tmp_path / "b.parquet").columns) == ["item_id"]


def test_rows_keep_their_numbers_when_broken_ones_before_them_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    path.write_text("n,m\nx\n2,2\nx\nx\n5,5\n6,6\nx\n8,8\n")

    with connect() as db:
        table = scan(db, path)
        read = db.execute(f"SELECT {table.columns['n']} FROM {table.relation}").fetchall()
        broken = broken_rows(db)
        assert broken_rows(db) == []

    assert [row for row, _ in broken] == [1, 3, 4, 7]
    assert [true_row(k, broken) for k in range(1, 5)] == [int(n) for (n,) in read] == [2, 5, 6, 8]


def test_a_failing_query_is_a_catalog_error() -> None:
    with pytest.raises(CatalogError, match="the catalog cannot be read"), connect() as db:
        db.execute("SELECT nothing")
