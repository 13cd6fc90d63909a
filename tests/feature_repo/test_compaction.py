import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedders.items import EPOCH
from embedders.vectors import Space
from feature_repo import compaction, ledger, parts
from feature_repo.base import View
from feature_repo.store import Store
from feature_repo.tables import DELETED, profile_view, vector_view
from tests.child import child

DAY = timedelta(days=1)
VIEW = profile_view()
WriteAxes = Callable[..., int]
Row = tuple[str, int, int, str]


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "SETTLE_S", 0.0)


def day(number: float) -> datetime:
    return EPOCH + timedelta(days=number)


def batch(rows: list[Row]) -> pa.RecordBatch:
    """(id, day of the event, day of creation, title or DELETED)."""
    return pa.RecordBatch.from_pylist(
        [
            {
                "item_id": row_id,
                "event_timestamp": day(at),
                "created": day(created),
                "content_hash": title,
                "title": None if title == DELETED else title,
            }
            for row_id, at, created, title in rows
        ],
        schema=VIEW.schema,
    )


def append(root: Path, *rows: Row) -> str:
    """Write one part; its name."""
    before = set(parts.list_parts(root, VIEW))
    parts.append(root, VIEW, [batch(list(rows))])
    (new,) = (
        one for one in parts.list_parts(root, VIEW) if one not in before and one.name != parts.EMPTY
    )
    return new.name


def compact(root: Path, *, horizon: datetime | None = None, is_purge: bool = True) -> int:
    return compaction.compact(root, VIEW, horizon=horizon, is_purge=is_purge).rows_dropped


def names(root: Path, view: View = VIEW) -> list[str]:
    return [one.name for one in parts.list_parts(root, view) if one.name != parts.EMPTY]


def rows(root: Path, view: View = VIEW) -> list[tuple[object, ...]]:
    """Every row but for repetitions, in order."""
    with parts.connect() as connection:
        return connection.execute(
            f"SELECT DISTINCT * FROM {parts.ROWS} ORDER BY ALL",
            {"files": [str(part) for part in parts.list_parts(root, view)]},
        ).fetchall()


def titles(root: Path, *, as_of: datetime) -> dict[str, str]:
    found = parts.latest(root, VIEW, columns=["item_id", "title"], until=as_of)
    return dict(zip(found[0].to_pylist(), found[1].to_pylist(), strict=True))


def seen(root: Path, *part_names: str, online: str = "redis") -> None:
    with ledger.changing(root) as held:
        held.setdefault(online, {})[VIEW.name] = {
            "until": day(99).isoformat(),
            "parts": sorted(part_names),
        }


def test_many_parts_become_one_with_the_same_rows_sorted_by_id_then_time(tmp_path: Path) -> None:
    for n in range(9):
        append(tmp_path, (f"item-{n % 4}", n, 0, f"title {n}"), ("z", 20 - n, 0, f"z {n}"))
    before = rows(tmp_path)
    found = compaction.compact(tmp_path, VIEW, horizon=None)
    assert (found.parts_before, found.parts_after, found.rows_dropped) == (9, 1, 0)
    assert found.bytes_after < found.bytes_before
    assert rows(tmp_path) == before
    (merged,) = names(tmp_path)
    stored = parts.pq.read_table(parts.folder(tmp_path, VIEW) / merged)
    assert stored.schema == VIEW.schema
    columns = (stored[name].to_pylist() for name in ("item_id", "event_timestamp"))
    keys = list(zip(*columns, strict=True))
    assert keys == sorted(keys)
    assert compaction.compact(tmp_path, VIEW, horizon=None).parts_before == 1


def test_a_dry_run_foretells_and_changes_nothing(tmp_path: Path) -> None:
    append(tmp_path, ("a", 1, 1, "old"), ("b", 1, 1, "b"))
    append(tmp_path, ("a", 2, 2, "new"))
    before = names(tmp_path)
    told = compaction.compact(tmp_path, VIEW, horizon=day(3), is_purge=True, is_dry_run=True)
    assert names(tmp_path) == before
    assert (told.parts_before, told.parts_after, told.rows_dropped) == (2, 1, 1)
    done = compaction.compact(tmp_path, VIEW, horizon=day(3), is_purge=True)
    assert (done.parts_after, done.rows_dropped) == (told.parts_after, told.rows_dropped)


def test_large_parts_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large = append(tmp_path, *((f"item-{n:04d}", 1, 1, f"{n * 7919:x}") for n in range(2000)))
    num_bytes = (parts.folder(tmp_path, VIEW) / large).stat().st_size
    monkeypatch.setattr(compaction, "TARGET_BYTES", num_bytes)
    for n in range(3):
        append(tmp_path, ("a", n, n, "a"))
    found = compaction.compact(tmp_path, VIEW, horizon=None)
    assert (found.parts_before, found.parts_after) == (4, 2)
    assert large in names(tmp_path)


def test_parts_are_merged_only_up_to_the_size_aimed_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(6):
        append(tmp_path, (f"item-{n}", 1, 1, "a title"))
    num_bytes = (parts.folder(tmp_path, VIEW) / names(tmp_path)[0]).stat().st_size
    monkeypatch.setattr(compaction, "TARGET_BYTES", int(2.5 * num_bytes))
    assert compaction.compact(tmp_path, VIEW, horizon=None).parts_after == 3
    assert len(rows(tmp_path)) == 6


def test_parts_that_are_online_are_not_mixed_with_those_that_wait(tmp_path: Path) -> None:
    old = [append(tmp_path, (f"item-{n}", n, n, "old")) for n in range(3)]
    new = [append(tmp_path, (f"item-{n}", n + 9, n, "new")) for n in range(3)]
    seen(tmp_path, *old)
    seen(tmp_path, *old, new[0], online="postgres")
    before = rows(tmp_path)
    assert compaction.compact(tmp_path, VIEW, horizon=None).parts_after == 3
    assert rows(tmp_path) == before
    held = ledger.read(tmp_path)
    by_redis = set(held["redis"][VIEW.name]["parts"])
    by_postgres = set(held["postgres"][VIEW.name]["parts"])
    assert by_redis < by_postgres < set(names(tmp_path))
    assert (len(by_redis), len(by_postgres)) == (1, 2)
    changed = [parts.folder(tmp_path, VIEW) / one for one in set(names(tmp_path)) - by_redis]
    (found,) = parts.latest_of_changed(
        tmp_path, VIEW, changed=changed, until=day(99), batch_size=10
    )
    assert found["title"].to_pylist() == ["new"] * 3


def test_a_compaction_brings_nothing_online_again(
    store: Store, space: Space, write_axes: WriteAxes
) -> None:
    view = vector_view(space)
    for n in range(4):
        write_axes(store, {f"item-{n}": n % 3})
    store.apply()
    assert store.materialize(EPOCH + DAY)[view.name] == 4
    write_axes(store, {"item-9": 0})
    store.compact()
    assert len(names(store.root, view)) == 2
    assert store.materialize(EPOCH + DAY)[view.name] == 1
    store.compact()
    assert len(names(store.root, view)) == 1
    assert store.materialize(EPOCH + DAY)[view.name] == 0


def test_retention_keeps_what_was_true_at_the_horizon(tmp_path: Path) -> None:
    append(tmp_path, ("a", 1, 1, "first"), ("a", 3, 3, "second"), ("b", 1, 1, "only"))
    append(tmp_path, ("a", 3, 4, "second again"), ("a", 9, 9, "third"))
    assert compact(tmp_path, horizon=day(5)) == 2
    assert [row[4] for row in rows(tmp_path)] == ["second again", "third", "only"]
    assert titles(tmp_path, as_of=day(5)) == {"a": "second again", "b": "only"}
    assert titles(tmp_path, as_of=day(9)) == {"a": "third", "b": "only"}


def test_a_part_is_not_rewritten_for_a_single_row_unless_it_is_a_purge(tmp_path: Path) -> None:
    append(
        tmp_path, ("a", 1, 1, "old"), ("a", 2, 2, "new"), *((f"{n}", 1, 1, "") for n in range(30))
    )
    assert compact(tmp_path, horizon=day(5), is_purge=False) == 0
    assert compact(tmp_path, horizon=day(5)) == 1


def test_a_tombstone_outlives_the_rows_that_it_hides(tmp_path: Path) -> None:
    """Dropping both at once could bring the item back, if the machine stopped in between."""
    first = append(tmp_path, ("a", 1, 1, "a"), ("b", 1, 1, "b"))
    second = append(tmp_path, ("a", 2, 2, DELETED))
    seen(tmp_path, first, second)
    assert compact(tmp_path, horizon=day(5)) == 1
    assert [row[0] for row in rows(tmp_path)] == ["a", "b"]
    assert compact(tmp_path, horizon=day(5)) == 1
    assert [row[0] for row in rows(tmp_path)] == ["b"]
    assert titles(tmp_path, as_of=day(5)) == {"b": "b"}


def test_a_tombstone_waits_for_every_online_store(tmp_path: Path) -> None:
    tombstone = append(tmp_path, ("a", 2, 2, DELETED))
    other = append(tmp_path, ("b", 1, 1, "b"))
    seen(tmp_path, other)
    seen(tmp_path, tombstone, other, online="postgres")
    assert compact(tmp_path, horizon=day(5)) == 0
    seen(tmp_path, *names(tmp_path))
    seen(tmp_path, *names(tmp_path), online="postgres")
    assert compact(tmp_path, horizon=day(5)) == 1
    assert [row[0] for row in rows(tmp_path)] == ["b"]


def test_tombstones_after_the_horizon_stay(tmp_path: Path) -> None:
    append(tmp_path, ("a", 1, 1, "a"))
    append(tmp_path, ("a", 9, 9, DELETED))
    assert compact(tmp_path, horizon=day(5)) == 0
    assert titles(tmp_path, as_of=day(5)) == {"a": "a"}
    assert titles(tmp_path, as_of=day(9)) == {}


def test_a_view_of_which_nothing_is_left_can_still_be_read(tmp_path: Path) -> None:
    seen(tmp_path, append(tmp_path, ("a", 2, 2, DELETED)))
    assert compact(tmp_path, horizon=day(5)) == 1
    assert names(tmp_path) == []
    assert ledger.read(tmp_path)["redis"][VIEW.name]["parts"] == []
    assert titles(tmp_path, as_of=day(9)) == {}


def test_what_a_killed_writer_left_is_swept_after_a_day(tmp_path: Path) -> None:
    append(tmp_path, ("a", 1, 1, "a"))
    folder = parts.folder(tmp_path, VIEW)
    fresh, old = folder / ".x.parquet.1", folder / ".x.parquet.2"
    for path in (fresh, old):
        path.touch()
    long_ago = time.time() - 2 * compaction.ABANDONED_S
    parts.os.utime(old, (long_ago, long_ago))
    compact(tmp_path)
    assert fresh.exists()
    assert not old.exists()


KINDS = st.sampled_from(["x", "y", DELETED])
ROWS = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 8), st.integers(0, 3), KINDS), max_size=6
)


def answers(root: Path, moments: Sequence[datetime]) -> list[dict[str, str]]:
    """What `titles` gives at each moment, counted in Python."""
    every, found = rows(root), []
    for moment in moments:
        last: dict[str, tuple[object, ...]] = {}
        for row_id, at, created, _, title, *_ in every:
            if at <= moment:
                before = last.get(row_id, (EPOCH - DAY, EPOCH, None))
                last[row_id] = max(before, (at, created, title))
        found.append({one: str(title) for one, (_, _, title) in sorted(last.items()) if title})
    return found


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    written=st.lists(ROWS, min_size=1, max_size=4),
    at=st.integers(-1, 9),
    num_seen=st.integers(0, 4),
)
def test_no_answer_from_the_horizon_on_changes(
    tmp_path_factory: pytest.TempPathFactory, written: list[list[Row]], at: int, num_seen: int
) -> None:
    """Any rows in any parts, some of them online; twice, since tombstones take two runs."""
    root = tmp_path_factory.mktemp("any")
    parts.define(root, VIEW)
    created = iter(range(10_000))  # no two rows are written at one moment
    part_names = [
        append(
            root, *((one, when, 9 * late + next(created), kind) for one, when, late, kind in some)
        )
        for some in written
        if some
    ]
    seen(root, *part_names[:num_seen])
    moments = [day(at + ahead) for ahead in range(12)]
    before = answers(root, moments)
    assert titles(root, as_of=moments[0]) == before[0]
    kept = rows(root)
    for _ in range(2):
        compact(root, horizon=day(at))
        assert answers(root, moments) == before
    assert set(rows(root)) <= set(kept)


def test_a_compaction_that_is_killed_leaves_the_same_answers(
    store: Store, space: Space, write_axes: WriteAxes
) -> None:
    """Killed between the merged part and the removal of its parts, so that all is there twice."""
    view = vector_view(space)
    for n in range(5):
        write_axes(store, {"a": n % 3, f"item-{n}": n % 3}, at=EPOCH + n * DAY)
    before, all_rows = store.read(space), rows(store.root, view)
    script = """
import sys
from pathlib import Path
from feature_repo import compaction
from feature_repo.store import Store
compaction.SETTLE_S = 1000
Store(Path(sys.argv[1])).compact()
"""
    with child([sys.executable, "-c", script, str(store.root)]) as process:
        while len(names(store.root, view)) == 5:
            assert process.poll() is None
            time.sleep(0.02)
    assert len(names(store.root, view)) == 6
    for _ in range(2):
        assert rows(store.root, view) == all_rows
        assert store.read(space).item_ids == before.item_ids
        assert (store.read(space).vectors_ND == before.vectors_ND).all()
        store.apply()
        pairs = [("a", EPOCH + n * DAY) for n in range(5)]
        vectors_ND, is_present_N = store.vectors_as_of(space, pairs)
        assert is_present_N.all()
        assert vectors_ND.argmax(axis=1).tolist() == [0, 1, 2, 0, 1]
        store.compact()
    assert len(names(store.root, view)) == 1


def test_now_is_the_clocks_where_none_is_given(
    store: Store, space: Space, write_axes: WriteAxes
) -> None:
    now = datetime.now(UTC)
    write_axes(store, {"a": 0}, at=now - 9 * DAY)
    write_axes(store, {"a": 1}, at=now - 5 * DAY)
    dropped = [one.rows_dropped for one in store.compact(keep=7 * DAY)]
    assert dropped == [0, 0, 0]
    assert [one.rows_dropped for one in store.compact(keep=3 * DAY)] == [1, 0, 0]
    assert store.read(space, as_of=now - 4 * DAY).item_ids == ["a"]
