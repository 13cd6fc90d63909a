"""A workspace in, findings about its catalog and the store's profiles and histories of it out."""

from collections.abc import Iterator
from datetime import UTC, datetime

from feature_repo import profiles, windows
from feature_repo.base import HistoryConfig
from sommelier.doctor.finding import Finding, counted
from sommelier.doctor.repairs import ALLOW_DELETIONS, EMBED
from sommelier.embedding.gone import TooManyGone, gone
from sommelier.watch import Watch
from sommelier.workspace import Workspace


def examine(workspace: Workspace, watch: Watch) -> Iterator[Finding]:
    """The catalog itself, and what of it the store does not know yet."""
    with watch.task("the catalog"):
        catalog = workspace.catalog
    counts = {
        "items": catalog.num_items,
        "interactions": catalog.interactions.num_rows,
        "rows set aside": len(catalog.rejects),
    }
    yield Finding(what="catalog", seen=counted(counts), counts=counts)
    with watch.task("profiles and histories"):
        yield _profiles(workspace)
        yield _histories(workspace)


def _profiles(workspace: Workspace) -> Finding:
    catalog, store = workspace.catalog, workspace.store
    batches = profiles.changed(store.root, catalog.items())
    missing = gone(catalog, store)
    counts = {
        "in the store": missing.num_stored,
        "new or changed": sum(batch.num_rows for batch in batches),
        "of items that are gone": len(missing.item_ids),
    }
    repair = EMBED if counts["new or changed"] or missing.item_ids else ""
    try:
        missing.refuse_many(max_share=workspace.settings.embedding.max_deleted_share)
    except TooManyGone:
        repair = ALLOW_DELETIONS
    return Finding(what="profiles", seen=counted(counts), repair=repair, counts=counts)


def _histories(workspace: Workspace) -> Finding:
    batches = windows.changed_windows(
        workspace.store.root,
        workspace.catalog.interactions,
        config=HistoryConfig(limit=workspace.settings.store.history_limit),
        created=datetime.now(UTC),
    )
    num_changed = sum(batch.num_rows for batch in batches)
    return Finding(
        what="histories",
        seen=f"{num_changed:,} new or changed",
        repair=EMBED if num_changed else "",
        counts={"new or changed": num_changed},
    )
