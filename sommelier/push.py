"""A file of new events in, histories online out: what users did since the last night."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from embedders import catalog
from embedders.items import Reject
from sommelier.watch import Summary, Watch
from sommelier.workspace import Workspace

NAMED_REJECTS = 5


def push(workspace: Workspace, events: Path, *, watch: Watch) -> Summary:
    """Add the events of a file to their users' histories; the same file again changes nothing.

    The log that `embed` reads every night should hold them as well by then.

    Raises:
        ValueError: the file cannot be read, the store was not materialized yet, or the split is not
            one of time.
    """
    split = workspace.settings.time.split
    if split != "time":
        raise ValueError(
            f'the split "{split}" has a clock of its own, on which an event of now has no place: '
            "add the events to the catalog and embed them into a new workspace"
        )
    store = workspace.store
    with watch.task("events"):
        item_ids = pa.array(store.profile_ids(), pa.string())
        columns = workspace.settings.catalog.columns
        found, rejects = catalog.read_events(events, item_ids=item_ids, columns=columns)
        is_timeless = pc.and_(found["timestamp"].is_null(), found["position"].is_null())
        timed = found.filter(pc.invert(is_timeless))
        if num_timeless := found.num_rows - timed.num_rows:
            reason = "have neither a timestamp nor a position"
            rejects.append(Reject(source=events.stem, key=f"{num_timeless} events", reason=reason))
        store.write_rejects(rejects)
    with watch.task("histories online"):
        num_rows = store.push_events(timed)
    return Summary(
        title="Pushed" if num_rows else "Pushed before: nothing is new",
        header=("events", "users", "history rows", "reasons to set aside"),
        rows=((timed.num_rows, len(timed["user_id"].unique()), num_rows, len(rejects)),),
        notes=tuple(f"{one.source} {one.key}: {one.reason}" for one in rejects[:NAMED_REJECTS]),
        is_new=bool(num_rows),
    )
