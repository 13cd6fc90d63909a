"""One parquet, CSV or JSON-lines file in, its columns out as text that SQL can check.

A CSV file knows no types and a JSON file guesses them anew with every row, so every column is
read as text first (spaces around it dropped, empty text is NULL, a list joined by ", ") and
cast later, where a value that does not fit can be set aside instead of ending the run.
"""

import csv
import glob
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb

from embedders.columns import CatalogError

SUFFIXES = (".parquet", ".csv", ".jsonl")
MEMORY_LIMIT = "2GB"  # a sort beyond it spills to the temporary folder

# A number of 9 or 10 digits is seconds since 1970 (1973 to 2286), one of 12 or 13 milliseconds;
# everything else is ISO 8601. Years that Python's datetime cannot hold are no times.
MOMENT = r"""
CREATE TEMP MACRO any_moment(value) AS CASE
    WHEN regexp_full_match(value, '\d{9,10}(\.\d*)?') THEN to_timestamp(TRY_CAST(value AS DOUBLE))
    WHEN regexp_full_match(value, '\d{12,13}')
        THEN to_timestamp(TRY_CAST(value AS BIGINT) / 1000)
    ELSE TRY_CAST(value AS TIMESTAMPTZ) END;
CREATE TEMP MACRO moment(value) AS CASE
    WHEN any_moment(value) BETWEEN TIMESTAMPTZ '0001-01-02' AND TIMESTAMPTZ '9999-12-30'
    THEN any_moment(value) END;
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A file as DuckDB sees it."""

    path: Path
    relation: str
    """What stands after FROM."""
    columns: Mapping[str, str]
    """Column name -> the SQL expression of its text. Columns of raw bytes are left out."""
    is_record: str = "true"
    """The SQL condition that a row could be read at all."""


@contextmanager
def connect() -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB of bounded memory in which naive times are UTC and `moment(text)` reads a time.

    Raises:
        CatalogError: a query within the `with` block failed.
    """
    with (
        TemporaryDirectory(prefix="sommelier-") as folder,
        duckdb.connect(config={"temp_directory": folder, "memory_limit": MEMORY_LIMIT}) as db,
    ):
        db.execute("SET TimeZone = 'UTC'")
        db.execute(MOMENT)
        try:
            yield db
        except duckdb.Error as error:  # names the file and, where there is one, the row
            raise CatalogError(f"the catalog cannot be read: {error}") from error


def find(folder: Path, stem: str) -> Path | None:
    """The one file `stem` + a known suffix in the folder; None where there is none.

    Raises:
        CatalogError: there are several, so that nobody can tell which one is meant.
    """
    found = [folder / f"{stem}{suffix}" for suffix in SUFFIXES]
    found = [path for path in found if path.is_file()]
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise CatalogError(f"{folder} holds {names}: keep one of them")
    return found[0] if found else None


def scan(db: duckdb.DuckDBPyConnection, path: Path) -> Table:
    """Look at a file's columns; its rows are read when the table is queried.

    Raises:
        CatalogError: the file cannot be read, or two of its columns have one name.
    """
    try:
        match path.suffix:
            case ".parquet":
                return _scan_parquet(db, path)
            case ".csv":
                return _scan_csv(path)
            case ".jsonl":
                return _scan_jsonl(db, path)
    except (duckdb.Error, OSError, UnicodeError, csv.Error) as error:
        raise CatalogError(f"{path} cannot be read: {error}") from error
    raise CatalogError(f"{path} must end in one of {', '.join(SUFFIXES)}")


def broken_rows(db: duckdb.DuckDBPyConnection) -> list[tuple[int, str]]:
    """The CSV rows skipped by the queries since the last call: (row from 1, what was wrong).

    DuckDB leaves them out of its results, so that every later row moves up: see `true_row`.
    """
    has_any = db.execute("SELECT 1 FROM duckdb_tables() WHERE table_name = 'reject_errors'")
    if not has_any.fetchone():
        return []
    # DuckDB counts the header as the first row, and repeats a row for each query and each fault.
    rows = db.execute(
        "SELECT line - 1, min_by(error_message, coalesce(column_idx, 0)) FROM reject_errors "
        "GROUP BY 1 ORDER BY 1"
    ).fetchall()
    db.execute("DELETE FROM reject_errors")
    return [(int(row), str(message)) for row, message in rows]


def true_row(row: int, broken: list[tuple[int, str]]) -> int:
    """The row's number in the file, given its number among the rows that could be read."""
    return row + bisect_right([at - i for i, (at, _) in enumerate(broken)], row)


def faults(checks: list[tuple[str, str, str | None]]) -> tuple[str, str]:
    """SQL for the first fault that a row shows, and for the value seen there.

    Args:
        checks: (condition of the fault, its name, the column that must hold a value first).
    """
    conditions = [
        f"{column} IS NOT NULL AND {condition}" if column else condition
        for condition, _, column in checks
    ]
    names = " ".join(
        f"WHEN {condition} THEN '{fault}'"
        for condition, (_, fault, _) in zip(conditions, checks, strict=True)
    )
    values = " ".join(
        f"WHEN {condition} THEN {quoted(column) if column else 'NULL'}"
        for condition, (_, _, column) in zip(conditions, checks, strict=True)
    )
    return f"CASE {names} END", f"CASE {values} END"


def quoted(column: str) -> str:
    """SQL for a column's value as a message shows it: in quotes, and not endlessly."""
    return f"concat(chr(39), left({column}, 80), chr(39))"


def _scan_parquet(db: duckdb.DuckDBPyConnection, path: Path) -> Table:
    relation = f"read_parquet({_literal(path)})"
    described = db.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()  # nosec B608
    columns = {}
    for name, kind, *_ in described:
        if kind == "BLOB":
            continue
        value = _identifier(name)
        if kind.endswith("]"):
            value = f"array_to_string({value}::VARCHAR[], ', ')"
        columns[name] = _text(value)
    return Table(path=path, relation=relation, columns=columns)


def _scan_csv(path: Path) -> Table:
    # Nothing is left to detection: a comma within a quoted title can make DuckDB's sniffer
    # settle on another dialect, and then the quotes end up in the titles.
    # Bytes that are not UTF-8 matter in the header only; DuckDB sets such rows aside.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        header = next(csv.reader(file), [])
    ",".join(header).encode()
    names = [name.strip() or f"column {i}" for i, name in enumerate(header)]
    if not names:
        raise CatalogError(f"{path} is empty: its first row must name the columns")
    if len(set(names)) != len(names):
        raise CatalogError(f"{path}: a column name occurs twice in {names}")
    types = ", ".join(f"'c{i}': 'VARCHAR'" for i in range(len(names)))
    relation = (
        f"read_csv({_literal(path)}, auto_detect = false, header = true, columns = {{{types}}}, "
        """delim = ',', quote = '"', escape = '"', store_rejects = true, rejects_limit = 0)"""
    )
    columns = {name: _text(f"c{i}") for i, name in enumerate(names)}
    return Table(path=path, relation=relation, columns=columns)


def _scan_jsonl(db: duckdb.DuckDBPyConnection, path: Path) -> Table:
    relation = f"read_ndjson_objects({_literal(path)}, ignore_errors = true)"
    keys = f"SELECT DISTINCT unnest(json_keys(json)) FROM {relation} ORDER BY 1"  # nosec B608
    found = db.execute(keys)
    columns = {}
    for (name,) in found.fetchall():
        pointer = "/" + name.replace("~", "~0").replace("/", "~1")
        value = f"json_extract(json, {_literal(pointer)})"
        columns[name] = _text(
            f"CASE WHEN json_type({value}) = 'ARRAY' "
            f"THEN array_to_string(json_extract_string({value}, '$[*]'), ', ') "
            f"ELSE json_extract_string({value}, '$') END"
        )
    return Table(
        path=path,
        relation=relation,
        columns=columns,
        is_record="coalesce(json_type(json) = 'OBJECT', false)",
    )


def _text(value: str) -> str:
    return f"nullif(trim({value}::VARCHAR, E' \\t\\r\\n'), '')"


def _literal(value: Path | str) -> str:
    text = glob.escape(str(value)) if isinstance(value, Path) else value
    return "'" + text.replace("'", "''") + "'"


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
