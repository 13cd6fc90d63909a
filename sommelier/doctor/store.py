"""A workspace in, findings about its store out: what is online, and in how many parts it lies."""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from embedders.known import DELETED
from embedders.texts import TextSource
from embedders.vectors import Space
from feature_repo import comparison, ledger, parts
from feature_repo.base import Unreachable, View
from feature_repo.compaction import TARGET_BYTES
from feature_repo.releases import origin_id
from feature_repo.tables import CREATED, EVENT_TIME
from sommelier.compact import ids_in_use
from sommelier.doctor.finding import Finding, counted, of_error
from sommelier.doctor.repairs import COMPACT, DROP_UNUSED, FULL, MATERIALIZE
from sommelier.watch import Watch
from sommelier.workspace import Workspace, source_of

SAMPLE = 2_000  # ids of each view that are looked up online
MANY_PARTS = 64  # every read opens each of them


def examine_views(workspace: Workspace, watch: Watch) -> Iterator[Finding]:
    """Whether the views in use are online, row for row, by a sample of each."""
    views = _current_views(workspace)
    with watch.task("views online", total=len(views)) as advance:
        for done, view in enumerate(views):
            advance(done)
            try:
                yield from _online(workspace, view)
            except Unreachable as error:
                yield Finding(what="online store", seen=str(error), repair=FULL)
                return  # the others would wait as long to hear the same
            except Exception as error:  # the others are looked at as well
                yield of_error(f"view {view.name}", error, repair=MATERIALIZE)


def examine_parts(workspace: Workspace, watch: Watch) -> Iterator[Finding]:
    """How many parts the rows lie in, and rows that nothing reads any more."""
    store = workspace.store
    views = store.views()
    total: Counter[str] = Counter()
    with watch.task("parts", total=len(views)) as advance:
        for done, view in enumerate(views):
            advance(done)
            counts = _parts(store.root, view)
            total.update(counts)
            if counts["small parts"] > MANY_PARTS:
                yield Finding(
                    what=f"parts of {view.name}",
                    seen=counted(counts),
                    repair=COMPACT,
                    is_advice=True,
                    counts=counts,
                )
    yield Finding(what="parts", seen=counted(total), counts=dict(total))
    used = ids_in_use(workspace)
    unused = sorted({view.origin_id for view in views if view.origin_id} - used)
    nobody = f"; neither the settings nor a generation names {', '.join(unused)}" if unused else ""
    yield Finding(
        what="spaces",
        seen=f"{len(used):,} in use{nobody}",
        repair=DROP_UNUSED if unused else "",
        is_advice=True,
        counts={"in use": len(used), "unused": len(unused)},
    )


def _current_views(workspace: Workspace) -> list[View]:
    """What the last embedding, the last index and the last summarizing wrote."""
    index, texts = workspace.state.read("index"), workspace.state.read("summarize")
    fused = [Space(**index["fused_space"])] if index else []
    current: list[Space | TextSource] = [*workspace.spaces(), *fused]
    current += map(source_of, texts.values())
    read = {None, *map(origin_id, current)}
    return [view for view in workspace.store.views() if view.origin_id in read]


def _online(workspace: Workspace, view: View) -> Iterator[Finding]:
    root, feature_store, now = (
        workspace.store.root,
        workspace.store.feature_store,
        datetime.now(UTC),
    )
    seen = ledger.entry(ledger.read(root), feature_store.online_id, view.name)["parts"]
    new = [part for part in parts.list_parts(root, view) if part.name not in seen]
    ids = _sample(root, view, until=now)
    rows = comparison.latest_of_ids(root, view, ids, until=now)
    differing = feature_store.differing(view.name, rows)
    waiting = set(_with_rows_in(view, new, differing, until=now))
    counts = {
        "looked up": rows.num_rows,
        "not yet online": len(waiting),
        **_lost(workspace, view, [one for one in differing if one not in waiting], until=now),
    }
    is_lost = len(differing) > len(waiting)
    yield Finding(
        what=f"view {view.name}",
        seen=counted(counts),
        repair=FULL if is_lost else MATERIALIZE if waiting else "",
        counts=counts,
    )


def _lost(
    workspace: Workspace, view: View, ids: Sequence[str], *, until: datetime
) -> dict[str, int]:
    """What became online of rows that were brought there."""
    rows = comparison.latest_of_ids(workspace.store.root, view, ids, until=until)
    hashes = rows["content_hash"].to_pylist() if ids else []
    stored = workspace.store.feature_store.read_online(view.name, ids) if ids else []
    kept = dict(zip(rows[view.key].to_pylist(), hashes, strict=True)) if ids else {}
    is_gone = [kept[one] == DELETED for one in ids]
    return {
        "missing online": sum(row is None for row in stored),
        "taken away but still answering": sum(is_gone),
        "other than kept": sum(
            row is not None and not gone for row, gone in zip(stored, is_gone, strict=True)
        ),
    }


def _sample(root: Path, view: View, *, until: datetime) -> list[str]:
    """Some ids, drawn anew each time; half of them tombstones, if there are as many."""
    sql = f"""
        SELECT {view.key}, arg_max(coalesce(content_hash, ''), ({EVENT_TIME}, {CREATED})) AS hash
        FROM {parts.ROWS} WHERE {EVENT_TIME} <= $until GROUP BY {view.key}
        QUALIFY row_number() OVER (
            PARTITION BY hash = '{DELETED}' ORDER BY hash({view.key}, $until)
        ) <= {SAMPLE // 2}
        ORDER BY {view.key}"""  # nosec B608
    found = parts.stream(root, view, sql, {"until": until})
    return [one for batch in found for one in batch[0].to_pylist()]


def _with_rows_in(
    view: View, new: Sequence[Path], ids: Sequence[str], *, until: datetime
) -> list[str]:
    """Those of the ids that have a row in parts that are not online yet."""
    if not new or not ids:
        return []
    with parts.connect() as connection:
        rows = connection.execute(
            f"SELECT DISTINCT {view.key} FROM {parts.ROWS} "  # nosec B608
            f"WHERE {view.key} IN (SELECT unnest($ids::VARCHAR[])) AND {EVENT_TIME} <= $until",
            {"files": [str(part) for part in new], "ids": list(ids), "until": until},
        ).fetchall()
    return [one for (one,) in rows]


def _parts(root: Path, view: View) -> dict[str, int]:
    sizes = [
        part.stat().st_size for part in parts.list_parts(root, view) if part.name != parts.EMPTY
    ]
    num_live, num_tombstones = _count(root, view)
    return {
        "parts": len(sizes),
        "small parts": sum(size < TARGET_BYTES // 2 for size in sizes),
        "bytes": sum(sizes),
        "live ids": num_live,
        "tombstones": num_tombstones,
    }


def _count(root: Path, view: View) -> tuple[int, int]:
    """How many ids are live, and how many were taken away."""
    sql = f"""
        SELECT count(*) FILTER (hash <> '{DELETED}'), count(*) FILTER (hash = '{DELETED}')
        FROM (
            SELECT arg_max(coalesce(content_hash, ''), ({EVENT_TIME}, {CREATED})) AS hash
            FROM {parts.ROWS} GROUP BY {view.key}
        )"""  # nosec B608
    (batch,) = parts.stream(root, view, sql, {})
    return batch[0][0].as_py(), batch[1][0].as_py()
