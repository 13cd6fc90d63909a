"""How far back a view's rows go, kept in `retention.json`: {view: horizon}.

Histories are made anew from the whole log every night. Without this note the rows that a
compaction had dropped would come back with the next run, and be dropped again with the one after.
"""

import json
from datetime import datetime
from pathlib import Path

from feature_repo.atomic import exclusively, replace_text
from feature_repo.base import StoreError

FILE = "retention.json"


def read(root: Path) -> dict[str, datetime]:
    """Each view's horizon; views that were never cut are not named.

    Raises:
        StoreError: the file is damaged.
    """
    path = root / FILE
    if not path.exists():
        return {}
    try:
        stored: dict[str, str] = json.loads(path.read_text("utf-8"))
        return {view: datetime.fromisoformat(horizon) for view, horizon in stored.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise StoreError(
            f"{path} is damaged ({error}); delete it and compact again with --keep"
        ) from error


def note(root: Path, view: str, horizon: datetime) -> None:
    """Remember that rows superseded by then are gone; a view's horizon never goes back."""
    with exclusively(root / f".{FILE}.lock"):
        held = read(root)
        if view not in held or held[view] < horizon:
            stored = {name: one.isoformat() for name, one in (held | {view: horizon}).items()}
            replace_text(root / FILE, json.dumps(stored, indent=2, sort_keys=True) + "\n")
