"""Events before the cut in, the graph's trained vectors out; trained once for the same events."""

from typing import TYPE_CHECKING

import pyarrow.compute as pc

from embedders import registry
from embedders.items import Modality
from embedders.known import DELETED
from embedders.vectors import Space
from feature_repo.base import Entity
from feature_repo.store import Store
from sommelier.state import digest
from sommelier.watch import Watch
from sommelier.workspace import Workspace, events_key

if TYPE_CHECKING:
    from embedders.graph_lightgcn import LightGcnEmbedder

EVENT_COLUMNS = ["user_id", "item_id", "behavior", "weight", "timestamp"]


def graph_key(workspace: Workspace) -> str:
    """Changes when the graph has to be trained again."""
    catalog, until = workspace.catalog, workspace.timeline.graph_until
    events = catalog.interactions.select(EVENT_COLUMNS)
    before = events.filter(pc.less(events["timestamp"], until))
    edges = [events_key(catalog.friends), events_key(catalog.item_edges)]
    return digest(events_key(before), *edges, workspace.settings.graph, until)


def held_space(workspace: Workspace, key: str) -> Space | None:
    """The space of the graph of this key, if the last run wrote all of it and the store has it."""
    if workspace.state.read("embed").get("graph_key") != key:
        return None
    held = workspace.store.spaces()
    for space in workspace.spaces():
        if space.modality is Modality.GRAPH and (Entity.ITEM, space.space_id) in held:
            return space
    return None


def trained(workspace: Workspace, key: str, *, watch: Watch) -> "LightGcnEmbedder":
    """The embedder that looks up what was trained on the events before the cut."""
    config, catalog = workspace.settings.graph, workspace.catalog
    with watch.task("graph lightgcn, epochs", total=config.epochs) as advance:
        return registry.fit_graph(
            config,
            catalog.interactions,
            workspace.timeline.graph_until,
            friends=catalog.friends,
            item_edges=catalog.item_edges,
            on_progress=lambda done, total, loss: advance(done, total, f"loss {loss:.3f}"),
        )


def write_users(workspace: Workspace, embedder: "LightGcnEmbedder") -> None:
    """Write the users' vectors, unless the store has all of them."""
    users, until = embedder.users(), workspace.timeline.graph_until
    if _num_live(workspace.store, users.space, Entity.USER) < len(users):
        workspace.store.write(
            users,
            content_hashes=[users.space.revision] * len(users),
            event_timestamps=[until] * len(users),
            entity=Entity.USER,
        )


def num_items(store: Store, space: Space) -> int:
    """How many items have a vector in the space."""
    return _num_live(store, space, Entity.ITEM)


def _num_live(store: Store, space: Space, entity: Entity) -> int:
    rows = store.known(space, entity=entity)
    return sum(known.content_hash != DELETED for _, known in rows)
