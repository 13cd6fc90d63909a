"""Events before the graph's cut in, the trained network over histories out, once.

It is trained on what the graph is trained on, and on nothing later: the ranker learns from moments
whose answers neither may have seen. A killed run goes on from its last epoch.
"""

import pyarrow.compute as pc

from retrieval import registry
from retrieval.base import UnusableIndex
from sommelier.state import digest
from sommelier.watch import Watch
from sommelier.workspace import SEQUENCE_FILE, Workspace, events_key, space_facts

CHECKPOINT = "sequence.part.safetensors"
EVENT_COLUMNS = ["user_id", "item_id", "behavior", "timestamp", "position"]


def train_sequence(workspace: Workspace, *, watch: Watch) -> None:
    """Train the network, unless it is trained on the same, or switched off."""
    settings, models = workspace.settings, workspace.settings.paths.models
    if not settings.sequence.enabled:
        return
    key = sequence_key(workspace)
    if workspace.state.read("sequence").get("key") == key and _is_intact(workspace):
        return
    until = workspace.timeline.graph_until
    with watch.task("network over histories, epochs", total=settings.sequence.epochs) as advance:
        encoder = registry.fit_sequence(
            workspace.catalog.interactions,
            item_vectors=workspace.content_vectors,
            until=until,
            config=settings.sequence.config,
            on_progress=lambda done, total, loss: advance(done, total, f"loss {loss:.3f}"),
            checkpoint=models / CHECKPOINT,
        )
    encoder.save(models / SEQUENCE_FILE)
    (models / CHECKPOINT).unlink(missing_ok=True)
    workspace.state.write("sequence", {"key": key, "space": space_facts(encoder.space)})
    workspace.forget_vectors()


def sequence_key(workspace: Workspace) -> str:
    """Changes when the network has to be trained again."""
    until = workspace.timeline.graph_until
    events = workspace.catalog.interactions.select(EVENT_COLUMNS)
    before = events.filter(pc.less(events["timestamp"], until))
    items, config = workspace.content_vectors, workspace.settings.sequence.config
    met = set(pc.unique(before["item_id"]).to_pylist())
    rows = [row for row, item_id in enumerate(items.item_ids) if item_id in met]
    vectors = items.vectors_ND[rows].tobytes()  # of other items, nothing is learned
    return digest(events_key(before), items.spaces, vectors, config, until)


def _is_intact(workspace: Workspace) -> bool:
    try:
        return workspace.sequence is not None
    except UnusableIndex:  # trained again, then
        return False
