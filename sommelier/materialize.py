"""What the store holds in, Feast's views and their newest rows online out."""

from datetime import UTC, datetime

from sommelier.watch import Summary, Watch
from sommelier.workspace import Workspace


def materialize(workspace: Workspace, *, watch: Watch, is_full: bool = False) -> Summary:
    """Define the views in Feast and bring what is new online.

    Raises:
        ValueError: nothing was embedded yet, or the online store refused.
    """
    assert workspace.spaces()
    with watch.task("views into the registry"):
        workspace.store.apply()
    with watch.task("rows into the online store"):
        counts = workspace.store.materialize(datetime.now(UTC), is_full=is_full)
    return Summary(
        title="Materialized",
        header=("view", "rows written"),
        rows=tuple(sorted(counts.items())),
        is_new=any(counts.values()),
    )
