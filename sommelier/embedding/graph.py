"""Events before the cut in, the graph's trained vectors out; trained once for the same events."""

import json
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from embedders import registry
from embedders.items import Modality
from embedders.known import DELETED
from embedders.vectors import Embeddings, Space
from feature_repo.atomic import publish
from feature_repo.base import Entity
from feature_repo.store import Store
from sommelier.state import digest
from sommelier.watch import Watch
from sommelier.workspace import Workspace, events_key, space_facts, space_of

if TYPE_CHECKING:
    from embedders.graph_embedder import GraphEmbedder

EVENT_COLUMNS = ["user_id", "item_id", "behavior", "weight", "timestamp"]


def graph_key(workspace: Workspace) -> str:
    """Changes when the graph has to be trained again."""
    catalog, until = workspace.catalog, workspace.timeline.graph_until
    events = catalog.interactions.select(EVENT_COLUMNS)
    before = events.filter(pc.less(events["timestamp"], until))
    edges = [events_key(catalog.friends), events_key(catalog.item_edges)]
    known = [*edges, workspace.settings.graph, until]
    encoder = trained_encoder(workspace)
    return digest(events_key(before), *known, *([encoder] if encoder != "lightgcn" else []))


def is_trained(config: registry.EncoderConfig) -> bool:
    """Whether the encoder is a graph's, trained here."""
    return config.modality is Modality.GRAPH and config.encoder in registry.TRAINED_GRAPHS


def trained_encoder(workspace: Workspace) -> str:
    """Which graph encoder the settings name."""
    names = [one.encoder for one in workspace.settings.encoders if is_trained(one)]
    return names[0] if names else "lightgcn"


def held_space(workspace: Workspace, key: str) -> Space | None:
    """The space of the graph of this key, if the last run wrote all of it and the store has it."""
    if workspace.state.read("embed").get("graph_key") != key:
        return None
    held = workspace.store.spaces()
    for space in workspace.spaces():
        if space.modality is Modality.GRAPH and (Entity.ITEM, space.space_id) in held:
            return space
    return None


def trained(workspace: Workspace, key: str, *, watch: Watch) -> "GraphEmbedder":
    """The embedder that looks up what was trained on the events before the cut.

    Training is the cost here, so its result is kept in a file until all of it is in the store: a
    run that was killed in between does not train again.
    """
    kept = _file(workspace)
    found = _read(kept, key, until=workspace.timeline.graph_until) if kept.exists() else None
    if found is None:
        found = _train(workspace, watch)
        _keep(kept, key, found)
    return found


def forget(workspace: Workspace) -> None:
    """Remove the file, once the store holds all of it and the state says so."""
    _file(workspace).unlink(missing_ok=True)


def _file(workspace: Workspace) -> Path:
    return workspace.settings.paths.models / "graph.safetensors"


def _train(workspace: Workspace, watch: Watch) -> "GraphEmbedder":
    config, catalog = workspace.settings.graph, workspace.catalog
    encoder = trained_encoder(workspace)
    with watch.task(f"graph {encoder}, epochs", total=config.epochs) as advance:
        return registry.fit_graph(
            config,
            catalog.interactions,
            workspace.timeline.graph_until,
            encoder=encoder,
            friends=catalog.friends,
            item_edges=catalog.item_edges,
            on_progress=lambda done, total, loss: advance(done, total, f"loss {loss:.3f}"),
        )


def _keep(path: Path, key: str, embedder: "GraphEmbedder") -> None:
    arrays: dict[str, NDArray[Any]] = {}
    for name, embeddings in (("items", embedder.items()), ("users", embedder.users())):
        ids = json.dumps(list(embeddings.item_ids)).encode()
        arrays[f"{name}_ids"] = np.frombuffer(ids, dtype=np.uint8)
        arrays[name] = np.ascontiguousarray(embeddings.vectors_ND)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid4().hex}")
    facts = {"key": key, "space": json.dumps(space_facts(embedder.space))}
    try:
        save_file(arrays, temporary, metadata=facts)
        publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _read(path: Path, key: str, *, until: datetime) -> "GraphEmbedder | None":
    """What was kept; None where it was trained on other events, or the file is damaged."""
    try:
        with safe_open(path, framework="numpy") as file:
            facts = file.metadata()
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError:  # trained again, then
        return None
    if facts["key"] != key:
        return None
    space = space_of(json.loads(facts["space"]))
    items, users = (
        Embeddings(
            space=space,
            item_ids=json.loads(arrays[f"{name}_ids"].tobytes()),
            vectors_ND=arrays[name],
        )
        for name in ("items", "users")
    )
    return registry.trained_graph(items, users, until)


def write_users(workspace: Workspace, embedder: "GraphEmbedder") -> None:
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
    """How many items have a vector in the space that was trained, not imputed."""
    return _num_live(store, space, Entity.ITEM) - len(store.imputed(space))


def _num_live(store: Store, space: Space, entity: Entity) -> int:
    rows = store.known(space, entity=entity)
    return sum(known.content_hash != DELETED for _, known in rows)
