"""A store of many small parts in, one of few out, where they have become too many."""

from feature_repo import parts
from feature_repo.store import Store
from sommelier.watch import Watch

MANY_PARTS = 64


def merge_parts(store: Store, watch: Watch) -> None:
    """A batch is a file, so that a first run leaves thousands; every reader opens all of them."""
    views = store.views()
    if max(len(parts.list_parts(store.root, view)) for view in views) > MANY_PARTS:
        with watch.task("merging small parts", total=len(views)) as advance:
            store.compact(on_progress=lambda view, done, total: advance(done, total, view))
