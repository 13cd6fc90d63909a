"""A store in, the same store in fewer files out: every view merged, the unused ones dropped.

One upkeep at a time; writers, readers and materializations go on meanwhile.
"""

import shutil
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol
from uuid import uuid4

from feature_repo import (
    compaction,
    ledger,
    mirror,
    parts,
    probes,
    rejects,
    releases,
    retention,
    spaces,
    text_sources,
)
from feature_repo.atomic import exclusively
from feature_repo.base import StoreError, View
from feature_repo.compaction import Compacted
from feature_repo.tables import all_views


class Progress(Protocol):
    """Called before each view."""

    def __call__(self, view: str, done: int, total: int) -> None:
        """So many views are done, of so many; this one is next."""


def compact(
    root: Path,
    *,
    now: datetime,
    keep: timedelta | None,
    in_use: Collection[str] | None,
    is_dry_run: bool,
    on_progress: Progress | None,
) -> list[Compacted]:
    """What became of each view, dropped ones first; see `Store.compact`.

    Args:
        root: The store.
        now: What `keep` counts back from.
        keep: Answers as of so long ago, or later, stay as they are; what was superseded or set
            aside before is dropped. None drops nothing, 0 all but the latest rows.
        in_use: The ids of the spaces and text sources to keep, beside those of the releases; the
            views of all others are dropped, and go offline when the store is applied next. None
            keeps all.
        is_dry_run: Only say what would become of each view.
        on_progress: Called before each view.

    Raises:
        StoreError: the retention is negative or reaches back beyond all time, or every space
            would be dropped.
    """
    horizon = _horizon(now, keep)
    with exclusively(root / ".compact.lock"):
        unused = _unused(root, in_use)
        done = [_drop(root, view, is_dry_run=is_dry_run) for view in unused]
        names = {view.name for view in unused}
        views = [view for view in _views(root) if view.name not in names]
        for n, view in enumerate(views):
            if on_progress:
                on_progress(view.name, n, len(views))
            if horizon is not None and not is_dry_run:
                retention.note(root, view.name, horizon)
            done.append(
                compaction.compact(
                    root, view, horizon=horizon, is_purge=not keep, is_dry_run=is_dry_run
                )
            )
        if not is_dry_run:
            rejects.compact(root, horizon=horizon)
    return done


def _horizon(now: datetime, keep: timedelta | None) -> datetime | None:
    if keep is None:
        return None
    if keep < timedelta(0):
        raise StoreError(f"rows cannot be kept for {keep}; give a number of days from 0 on")
    try:
        return now - keep
    except OverflowError as error:
        raise StoreError(f"{keep} before {now} is before all time; keep less") from error


def _views(root: Path) -> list[View]:
    return all_views(spaces.read(root), text_sources.read(root))


def _unused(root: Path, in_use: Collection[str] | None) -> list[View]:
    if in_use is None:
        return []
    used = {*in_use, *(one for named in releases.read(root).values() for one in named)}
    made = [view for view in _views(root) if view.origin_id]
    vectors = [view for view in made if view.space]
    for held, what in ((vectors, "spaces"), (made, "sources")):
        if held and all(view.origin_id not in used for view in held):
            raise StoreError(
                f"none of the {len(held)} {what} of {root} is in use; a store without any is "
                "rather the wrong folder, so nothing is dropped"
            )
    return [view for view in made if view.origin_id not in used]


def _drop(root: Path, view: View, *, is_dry_run: bool) -> Compacted:
    """Forget a view: first that it is there, then its rows, so that nobody looks for them."""
    found = [path for path in parts.list_parts(root, view) if path.name != parts.EMPTY]
    num_bytes = sum(path.stat().st_size for path in found)
    num_rows = compaction.count_rows(found)
    if not is_dry_run:
        with ledger.bringing(root, view.name):
            _forget(root, view)
            _forget_online(root, view)
            mirror.remove_folder(root, parts.folder(root, view))
            _remove_folder(parts.folder(root, view))
        if view.space and view.space.space_id not in {one for _, one in spaces.read(root)}:
            mirror.remove(root, probes.path(root, view.space))
    return Compacted(
        view=view.name,
        parts_before=len(found),
        parts_after=0,
        bytes_before=num_bytes,
        bytes_after=num_bytes if is_dry_run else 0,
        rows_dropped=num_rows,
    )


def _forget(root: Path, view: View) -> None:
    """Forget who made a view's rows."""
    if view.source:
        text_sources.remove(root, view.source)
    elif view.space:
        spaces.remove(root, view.space, entity=view.entity)


def _forget_online(root: Path, view: View) -> None:
    with ledger.changing(root) as held:
        for views in held.values():
            views.pop(view.name, None)


def _remove_folder(folder: Path) -> None:
    """At once for every reader: its name is taken away before its files are."""
    if folder.exists():
        hidden = folder.with_name(f".{folder.name}.{uuid4().hex}")
        folder.rename(hidden)
    for left in _hidden(folder.parent):
        shutil.rmtree(left)


def _hidden(parent: Path) -> Sequence[Path]:
    return sorted(path for path in parent.glob(".*") if path.is_dir())
