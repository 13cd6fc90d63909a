"""New parts in, online rows out, counted afterwards.

Feast's own incremental run asks which event timestamps are newer than its last run. A vector's
event timestamp says since when its content is true, so new rows are often older than that and
would be passed over. Here the parts that were not seen before are new, whatever their rows' times;
the rows then go through Feast into its online store.
"""

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from embedders.items import EPOCH
from feature_repo import parts
from feature_repo.atomic import exclusively, replace_text
from feature_repo.base import FeatureStore, StoreError
from feature_repo.tables import View

LEDGER = "materialized.json"
BATCH_SIZE = 10_000


def materialize(
    root: Path,
    views: Sequence[View],
    feature_store: FeatureStore,
    *,
    until: datetime,
    is_full: bool = False,
) -> dict[str, int]:
    """Bring each id's latest row not after `until` online; the rows written, by view.

    What is online never gets older: an `until` before the last run's counts as the last run's.

    Raises:
        StoreError: a view was not applied, or its rows did not all arrive.
    """
    with exclusively(root / f".{LEDGER}.lock"):
        ledger = _read_ledger(root)
        known: dict[str, Any] = {} if is_full else ledger.get(feature_store.online_id, {})
        counts = {}
        for view in views:
            seen = known.get(view.name, {"until": EPOCH.isoformat(), "parts": []})
            reached = max(until, datetime.fromisoformat(seen["until"]))
            new = [part for part in parts.list_parts(root, view) if part.name not in seen["parts"]]
            counts[view.name] = _write(root, view, feature_store, new=new, until=reached)
            _check_count(root, view, feature_store, until=reached)
            done = [part.name for part in new if _is_done(part, reached)]
            known[view.name] = {
                "until": reached.isoformat(),
                "parts": sorted([*seen["parts"], *done]),
            }
            ledger[feature_store.online_id] = known
            replace_text(root / LEDGER, json.dumps(ledger, indent=1) + "\n")
    return counts


def _write(
    root: Path, view: View, feature_store: FeatureStore, *, new: Sequence[Path], until: datetime
) -> int:
    if not new:
        return 0
    num_rows = 0
    for rows in parts.latest_of_changed(
        root, view, changed=new, until=until, batch_size=BATCH_SIZE
    ):
        if rows.num_rows:
            feature_store.write_online(view.name, rows)
            num_rows += rows.num_rows
    if num_rows:
        feature_store.record(view.name, start=EPOCH, end=until)
    return num_rows


def _check_count(root: Path, view: View, feature_store: FeatureStore, *, until: datetime) -> None:
    ids = parts.ids(root, view, until=until)
    num_online = 0
    for start in range(0, len(ids), BATCH_SIZE):
        rows = feature_store.read_online(view.name, ids[start : start + BATCH_SIZE])
        num_online += sum(row is not None for row in rows)
    if num_online != len(ids):
        raise StoreError(
            f"{view.name}: {len(ids)} rows are kept, but {num_online} are online; "
            "materialize again in full"
        )


def _is_done(part: Path, until: datetime) -> bool:
    """Whether no row of the part waits for a later run."""
    last = parts.last_event(part)
    return last is None or last <= until


def _read_ledger(root: Path) -> dict[str, Any]:
    path = root / LEDGER
    if not path.exists():
        return {}
    try:
        ledger: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise StoreError(f"{path} is damaged; delete it and materialize again") from error
    return ledger
