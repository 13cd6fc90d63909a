import sys
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from embedders.items import EPOCH
from feature_repo import parts
from feature_repo.store import Store
from feature_repo.tables import profile_view
from tests.child import child

VIEW = profile_view()


def row(item_id: str, title: str, *, day: int, created: int = 0) -> pa.RecordBatch:
    at = EPOCH + timedelta(days=day)
    values = {
        "item_id": item_id,
        "event_timestamp": at,
        "created": at + timedelta(seconds=created),
        "title": title,
    }
    return pa.RecordBatch.from_pylist([values], schema=VIEW.schema)


def titles(root: Path, *, until_day: int) -> list[tuple[str, str]]:
    until = EPOCH + timedelta(days=until_day)
    found = parts.latest(root, VIEW, columns=["item_id", "title"], until=until)
    return [(one["item_id"], one["title"]) for one in found.to_pylist()]


def test_a_view_without_rows_can_be_read(tmp_path: Path) -> None:
    assert parts.latest(tmp_path, VIEW).schema == VIEW.schema
    assert parts.ids(tmp_path, VIEW, until=datetime.now(UTC)) == []


def test_the_latest_event_wins_and_among_equals_the_one_created_last(tmp_path: Path) -> None:
    parts.append(tmp_path, VIEW, [row("b", "second", day=2), row("a", "late", day=1, created=9)])
    parts.append(tmp_path, VIEW, [row("b", "first", day=1), row("a", "early", day=1)])
    assert titles(tmp_path, until_day=9) == [("a", "late"), ("b", "second")]
    assert titles(tmp_path, until_day=1) == [("a", "late"), ("b", "first")]
    assert titles(tmp_path, until_day=0) == []


def test_a_write_that_fails_leaves_no_trace(tmp_path: Path) -> None:
    def fail_midway() -> Iterator[pa.RecordBatch]:
        yield row("a", "kept?", day=0)
        raise RuntimeError("the disk is gone")

    parts.define(tmp_path, VIEW)
    before = list(parts.folder(tmp_path, VIEW).iterdir())
    with pytest.raises(RuntimeError, match="disk"):
        parts.append(tmp_path, VIEW, fail_midway())
    assert list(parts.folder(tmp_path, VIEW).iterdir()) == before


def test_an_unfinished_part_is_invisible(tmp_path: Path) -> None:
    def look_midway() -> Iterator[pa.RecordBatch]:
        yield row("a", "first", day=0)
        assert titles(tmp_path, until_day=9) == []

    parts.append(tmp_path, VIEW, look_midway())
    assert titles(tmp_path, until_day=9) == [("a", "first")]


def test_two_processes_appending_at_once_lose_nothing(tmp_path: Path) -> None:
    script = """
import sys
from datetime import UTC, datetime
from pathlib import Path
import numpy as np
from embedders.items import Modality
from embedders.vectors import Embeddings, Space
from feature_repo.store import Store
who = sys.argv[2]
for n in range(20):
    # Every other write brings a space of its own: spaces.json is contended too.
    revision = f"{who}{n}" if n % 2 else "shared"
    space = Space(modality=Modality.TEXT, encoder="toy", revision=revision, dim=2)
    vectors = Embeddings(space=space, item_ids=[f"{who}{n}"], vectors_ND=np.eye(2, dtype="f4")[:1])
    Store(Path(sys.argv[1])).write(
        vectors, content_hashes=["x"], event_timestamps=[datetime.now(UTC)]
    )
"""
    command = [sys.executable, "-c", script, str(tmp_path)]
    with ExitStack() as ending:
        writers = [ending.enter_context(child([*command, who])) for who in "ab"]
        assert [writer.wait(timeout=120) for writer in writers] == [0, 0]
    store = Store(tmp_path)
    assert len(store.spaces()) == 21
    ids = [one for space in store.spaces().values() for one in store.read(space).item_ids]
    assert sorted(ids) == sorted(f"{who}{n}" for who in "ab" for n in range(20))


def test_parts_from_before_a_column_was_added_are_read_with_nulls_in_it(tmp_path: Path) -> None:
    old = VIEW.schema.remove(VIEW.schema.get_field_index("category"))
    names = old.names
    parts.write_part(parts.folder(tmp_path, VIEW) / parts.EMPTY, old, [], is_empty_kept=True)
    before = parts.new_path(parts.folder(tmp_path, VIEW))
    parts.write_part(before, old, [row("a", "old", day=1).select(names)])
    found = parts.latest(tmp_path, VIEW).to_pylist()
    assert [(one["title"], one["category"]) for one in found] == [("old", None)]
