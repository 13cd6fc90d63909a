"""What the store holds in, Feast's views and their newest rows online out."""

from collections.abc import Sequence
from datetime import UTC, datetime

from sommelier.watch import Summary, Watch
from sommelier.workspace import Workspace


def materialize(
    workspace: Workspace,
    *,
    watch: Watch,
    is_full: bool = False,
    views: Sequence[str] | None = None,
) -> Summary:
    """Define the views in Feast and bring what is new online, one view after the other.

    Args:
        workspace: Whose store.
        watch: Sees a bar for each view.
        is_full: Every row is written, not only the new ones.
        views: These views only, so that several processes may bring one each; None for all.

    Raises:
        ValueError: nothing was embedded yet, a view is unknown, or the online store refused or
            lost rows.
    """
    assert workspace.spaces()
    with watch.task("views into the registry"):
        known = workspace.store.apply()
    if absent := sorted(set(views or ()) - set(known)):
        raise ValueError(f"no view {', '.join(absent)}; there are: {', '.join(known)}")
    counts: dict[str, int] = {}
    for name in views or known:
        with watch.task(f"{name} online") as advance:

            def tell(view: str, done: int, total: int) -> None:
                advance(done, total)  # called within this very turn

            until = datetime.now(UTC)
            counts |= workspace.store.materialize(
                until, is_full=is_full, views=[name], on_progress=tell
            )
    return Summary(
        title="Materialized",
        header=("view", "rows written"),
        rows=tuple(sorted(counts.items())),
        is_new=any(counts.values()),
    )
