"""New parts in, online rows out, read back afterwards.

Feast's own incremental run asks which event timestamps are newer than its last run. A vector's
event timestamp says since when its content is true, so new rows are often older than that and
would be passed over. Here the parts that were not seen before are new, whatever their rows' times;
the rows then go through Feast into its online store.

Each view has a lock of its own, so that several processes may bring one view each; a compaction of
the view waits for it. Nobody else is kept waiting: a push in the middle of a run is noticed by
listing the parts again, until nothing is new.
"""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Protocol

from embedders.items import EPOCH
from feature_repo import comparison, ledger, parts
from feature_repo.base import FeatureStore, View

BATCH_SIZE = 10_000
ROUNDS = 10  # what arrives later still waits for the next run


class Progress(Protocol):
    """Called while rows go online."""

    def __call__(self, view: str, done: int, total: int) -> None:
        """So many rows of a view are online, of so many that are new."""


def materialize(
    root: Path,
    views: Sequence[View],
    feature_store: FeatureStore,
    *,
    until: datetime,
    is_full: bool = False,
    on_progress: Progress | None = None,
) -> dict[str, int]:
    """Bring each id's latest row not after `until` online; the rows written, by view.

    What is online never gets older: an `until` before the last run's counts as the last run's.
    Every row written is read back and compared. Beyond that, some of a view's rows are looked at
    in every run, and all of them at the end of a full one.

    Args:
        root: The store.
        views: Whose rows are brought.
        feature_store: Where to.
        until: Rows of a later moment wait for a later run.
        is_full: Write and count every row, whatever was written before.
        on_progress: Called with the view's name, how many of its new rows are online, and how many
            there are.

    Raises:
        StoreError: a view was not applied, its rows did not all arrive, or rows that were brought
            earlier are gone or changed.
    """
    counts = {}
    for view in views:
        with ledger.bringing(root, view.name):
            run = _Run(root, view, feature_store, until=until, on_progress=on_progress)
            counts[view.name] = run.bring(is_full=is_full)
    return counts


class _Run:
    """One view's."""

    def __init__(
        self,
        root: Path,
        view: View,
        feature_store: FeatureStore,
        *,
        until: datetime,
        on_progress: Progress | None,
    ) -> None:
        self._root = root
        self._view = view
        self._store = feature_store
        self._until = until
        self._on_progress = on_progress
        self._doubtful: list[str] = []

    def bring(self, *, is_full: bool) -> int:
        if is_full:
            self._forget()
        seen = set(self._known()["parts"])
        finished: list[str] = []
        num_rows = 0
        for _ in range(ROUNDS):
            self._until = max(self._until, datetime.fromisoformat(self._known()["until"]))
            new = [one for one in parts.list_parts(self._root, self._view) if one.name not in seen]
            if not new:
                break
            try:
                num_rows += self._write([one for one in new if one.name != parts.EMPTY])
                finished += comparison.finished(new, until=self._until)
            except Exception:
                if all(part.exists() for part in new):
                    raise
                continue  # a compaction took parts away: there are merged ones in their place
            seen.update(part.name for part in new)
        if seen != {parts.EMPTY}:
            self._check(is_every_row=is_full)
        if finished:
            self._note(finished)
        if num_rows:
            self._store.record(self._view.name, start=EPOCH, end=self._until)
        return num_rows

    def _write(self, new: Sequence[Path]) -> int:
        if not new:
            return 0
        total = 0
        if self._on_progress:
            total = comparison.count_ids(self._view, new, until=self._until)
        done = 0
        for rows in parts.latest_of_changed(
            self._root, self._view, changed=new, until=self._until, batch_size=BATCH_SIZE
        ):
            if rows.num_rows:
                # Looked at again in the end: a push may have come between.
                self._doubtful += self._store.write_online(self._view.name, rows)
                done += rows.num_rows
                if self._on_progress:
                    self._on_progress(self._view.name, done, max(done, total))
        return done

    def _check(self, *, is_every_row: bool) -> None:
        where = (self._root, self._view, self._store)
        comparison.compare(*where, until=self._until, ids=self._doubtful)
        if is_every_row:
            comparison.count(*where, until=self._until)

    def _known(self) -> ledger.Entry:
        return ledger.entry(ledger.read(self._root), self._store.online_id, self._view.name)

    def _forget(self) -> None:
        """First of all: a full run that is interrupted must not pass for a finished one."""
        with ledger.changing(self._root) as held:
            known = ledger.entry(held, self._store.online_id, self._view.name)
            held.setdefault(self._store.online_id, {})[self._view.name] = {**known, "parts": []}

    def _note(self, done: Sequence[str]) -> None:
        with ledger.changing(self._root) as held:
            known = ledger.entry(held, self._store.online_id, self._view.name)
            there = {part.name for part in parts.list_parts(self._root, self._view)}
            reached = max(self._until, datetime.fromisoformat(known["until"]))
            held.setdefault(self._store.online_id, {})[self._view.name] = {
                "until": reached.isoformat(),
                "parts": sorted(there.intersection([*known["parts"], *done])),
            }
