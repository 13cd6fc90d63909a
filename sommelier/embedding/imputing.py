"""The store's content and graph vectors in, graph vectors for items that nobody has touched out.

They are rows of the graph's own space, flagged as imputed, true from the graph's cut on, or from
when the item came to be. They are made anew when the graph, the item's content or the number of
neighbors changes, and taken away when the item shows no content any more.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np

from embedders.imputed import content_hash, impute
from embedders.items import Item
from embedders.known import DELETED, Known, joined
from embedders.vectors import Embeddings, Space
from feature_repo.store import Store
from sommelier.watch import Watch
from sommelier.workspace import Workspace


@dataclass(slots=True, kw_only=True)
class _Plan:
    """What has to be done; by item id."""

    hashes: dict[str, str] = field(default_factory=dict)
    """Of the items to impute."""
    times: dict[str, datetime] = field(default_factory=dict)
    """From when each of their vectors is true."""
    stale: set[str] = field(default_factory=set)
    """Those among them that have an imputed vector already."""
    lost: list[str] = field(default_factory=list)
    """Items whose imputed vector nothing supports any more."""


def impute_graph(
    workspace: Workspace, graph: Space, content: Sequence[Space], *, watch: Watch
) -> int:
    """Bring the imputed rows of the graph's space up to date; how many were written.

    Args:
        workspace: Whose.
        graph: The space of the trained vectors, written before.
        content: The spaces of the content modalities, written before.
        watch: Whoever watches.
    """
    store, config = workspace.store, workspace.settings.graph
    imputed = store.imputed(graph)
    now = datetime.now(UTC)
    if not config.impute:
        store.delete(sorted(imputed), at=now, space=graph)
        return 0
    plan = _plan(workspace, graph, content, imputed, now)
    found: Embeddings | None = None
    if plan.hashes:
        with watch.task("graph vectors for items without interactions"):
            found = impute(
                [store.read(space) for space in content],
                _trained(store, graph, imputed),
                list(plan.hashes),
                k=config.impute_neighbors,
            )
            store.write(
                found,
                content_hashes=[plan.hashes[one] for one in found.item_ids],
                event_timestamps=[plan.times[one] for one in found.item_ids],
                imputed=[True] * len(found),
            )
    lost = plan.stale.difference(found.item_ids if found is not None else ())
    store.delete(sorted(lost.union(plan.lost)), at=now, space=graph)
    return len(found) if found is not None else 0


def _plan(
    workspace: Workspace,
    graph: Space,
    content: Sequence[Space],
    imputed: set[str],
    now: datetime,
) -> _Plan:
    store, k = workspace.store, workspace.settings.graph.impute_neighbors
    known_hashes = {space.space_id: store.content_hashes(space) for space in content}
    plan = _Plan()
    for item_id, item, known in joined(workspace.catalog.items(), store.known(graph)):
        is_live = known is not None and known.content_hash != DELETED
        if item is None or (is_live and item_id not in imputed):
            continue
        own = {name: one[item_id] for name, one in known_hashes.items() if item_id in one}
        if not own:
            if is_live:
                plan.lost.append(item_id)
            continue
        found = content_hash(graph, hashes=own, k=k)
        if known is not None and is_live and known.content_hash == found:
            continue
        plan.hashes[item_id] = found
        plan.times[item_id] = _true_from(workspace.timeline.graph_until, item, known, now)
        if is_live:
            plan.stale.add(item_id)
    return plan


def _true_from(until: datetime, item: Item, known: Known | None, now: datetime) -> datetime:
    """The cut, or when the content came to be; a later vector of the item is true from now on."""
    moment = max(until, item.content_time)
    return now if known is not None and moment <= known.event_timestamp else moment


def _trained(store: Store, graph: Space, imputed: set[str]) -> Embeddings:
    whole = store.read(graph)
    rows = [n for n, item_id in enumerate(whole.item_ids) if item_id not in imputed]
    return Embeddings(
        space=graph,
        item_ids=[whole.item_ids[n] for n in rows],
        vectors_ND=whole.vectors_ND[np.asarray(rows, dtype=np.int64)],
    )
