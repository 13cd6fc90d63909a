"""A catalog table's rows in, numbered as text, and those that fail a check out as rejects.

Every table of the catalog is checked in the same way: SQL names the first fault of each row, good
rows go on, and of each fault the first 100 rows are named and the others counted.
"""

from collections.abc import Mapping

import duckdb

from embedders import tables
from embedders.columns import Columns, text_of
from embedders.items import Reject

NAMED_REJECTS = 100  # of one fault; the rest is counted, as one mistake can spoil every row

NO_TIME = "is not a time such as 2024-05-31T18:00:00Z"


def text(table: tables.Table, columns: Columns, canonical: str) -> str:
    """The SQL text of one canonical field of a table (see `embedders.columns.text_of`)."""
    return text_of(canonical, columns, table.columns, path=table.path)


def numbered(table: tables.Table, texts: Mapping[str, str]) -> str:
    """SQL for (row from 1, is_record, and each text under its name)."""
    named = ", ".join(f"{sql} AS {name}" for name, sql in texts.items())
    return (
        f"SELECT row_number() OVER () AS row, {table.is_record} AS is_record, {named} "
        f"FROM {table.relation}"  # nosec B608
    )


def rejects(db: duckdb.DuckDBPyConnection, table: tables.Table, query: str) -> list[Reject]:
    """The rows (row, key, fault, seen) that a query finds, and those that CSV could not hold.

    Sorted by row. Of each fault only the first are named; the others are counted.
    """
    source = table.path.stem
    broken = tables.broken_rows(db)
    named = db.execute(
        f"SELECT row, key, fault, seen, row_number() OVER (PARTITION BY fault ORDER BY row) AS n, "
        f"count(*) OVER (PARTITION BY fault) AS total FROM ({query}) "  # nosec B608
        f"QUALIFY n <= {NAMED_REJECTS} ORDER BY row, fault"
    ).fetchall()
    rows: list[tuple[int, Reject]] = []
    totals: dict[str, int] = {}
    for at, message in broken[:NAMED_REJECTS]:
        reason = f"is not valid CSV: {message}"
        rows.append((at, Reject(source=source, key=f"row {at}", reason=reason)))
    if broken:
        totals["is not valid CSV"] = len(broken)
    for row, key, fault, seen, _, total in named:
        at = tables.true_row(row, broken)
        reason = fault if seen is None else f"{fault}: {seen}"
        rows.append((at, Reject(source=source, key=key or f"row {at}", reason=reason)))
        totals[fault] = total
    rows.sort(key=lambda pair: pair[0])
    return [reject for _, reject in rows] + [
        Reject(source=source, key=f"{total - NAMED_REJECTS} further rows", reason=fault)
        for fault, total in totals.items()
        if total > NAMED_REJECTS
    ]
