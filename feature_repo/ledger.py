"""Which parts an online store has already in, `materialized.json` out: changed by one at a time.

    {online store: {view: {"until": the latest moment brought online, "parts": [names]}}}

Names of parts that are no longer there are dropped whenever a view's entry is written. Whoever
replaces parts by others (compaction) changes every online store's entry under this same lock: the
new part counts as seen only where all the parts that went into it were.
"""

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TypedDict

from embedders.items import EPOCH
from feature_repo.atomic import exclusively, replace_text
from feature_repo.base import StoreError

FILE = "materialized.json"


class Entry(TypedDict):
    """One view in one online store."""

    until: str
    """ISO: rows not later than this were brought online."""
    parts: list[str]
    """Names of the parts of which no row waits for a later run."""


Ledger = dict[str, dict[str, Entry]]


def read(root: Path) -> Ledger:
    """The whole ledger; an empty one for a store that was never materialized.

    Raises:
        StoreError: the file is damaged.
    """
    path = root / FILE
    if not path.exists():
        return {}
    try:
        ledger: Ledger = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise StoreError(f"{path} is damaged; delete it and materialize again") from error
    return ledger


@contextmanager
def changing(root: Path) -> Iterator[Ledger]:
    """The ledger, alone with it; what the block leaves in it is written unless it raised.

    Held for a moment only: never while rows are written.
    """
    with exclusively(root / f".{FILE}.lock"):
        ledger = read(root)
        yield ledger
        replace_text(root / FILE, json.dumps(ledger, indent=1, sort_keys=True) + "\n")


def bringing(root: Path, view: str) -> AbstractContextManager[None]:
    """Alone with what is online of a view: a materialization holds it while rows are written.

    A compaction holds it too, so that no part is replaced between being read and being noted.
    """
    return exclusively(root / f".{FILE}.{view}.lock")


def entry(ledger: Ledger, online_id: str, view: str) -> Entry:
    """What an online store has of a view; nothing where it is not named."""
    found = ledger.get(online_id, {}).get(view)
    return found or {"until": EPOCH.isoformat(), "parts": []}


def reach(root: Path, online_id: str, view: str, *, until: datetime) -> None:
    """Note that rows up to `until` are online, so that no later run puts older ones there."""
    with changing(root) as ledger:
        known = entry(ledger, online_id, view)
        if datetime.fromisoformat(known["until"]) < until:
            ledger.setdefault(online_id, {})[view] = {**known, "until": until.isoformat()}


def forget(root: Path, online_id: str, *, kept: set[str]) -> None:
    """Drop the views that were taken out of an online store: their rows are gone from it."""
    if read(root).get(online_id, {}).keys() <= kept:
        return
    with changing(root) as ledger:
        views = ledger.get(online_id, {})
        ledger[online_id] = {name: one for name, one in views.items() if name in kept}
